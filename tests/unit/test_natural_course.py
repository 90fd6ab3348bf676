"""Regression to the mean: the handbook's known answer, a cohort in which nothing was done, and honest refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort_tables import AS_OF, PAIN, cohort, reading, the_study, with_pain
from report_fixture import provenance
from scipy.optimize import minimize
from scipy.stats import truncnorm

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.natural_course import natural_course, scores_before
from crps_outcomes.facts import Facts
from crps_outcomes.plan import RegressionToTheMean
from crps_outcomes.regression_to_mean import Population, edge_of, expected_fall, unselected
from crps_outcomes.sections.natural_course import natural_course as section
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import disclose

DAY = 24 * 60


def study(**changes):
    """The study with another regression rule; entry at 7 unless told otherwise."""
    known = the_study()
    plan = known.protocol.plan
    rule = plan.regression.model_copy(update={"entry_at_least": 7.0, **changes})
    more = plan.repeated_measures.model_copy(update={"bootstrap_samples": 200})
    plan = plan.model_copy(update={"regression": rule, "repeated_measures": more})
    return replace(known, protocol=known.protocol.model_copy(update={"plan": plan}))


def untreated(seed: int, n: int, *, effect: float = 0.0, entry: float = 7.0, decimals: int = 6, second: bool = False):
    """People whose scores correlate by 0.7 around 6.5 (SD 1.7), let in at the entry score; nothing is done but ``effect``.

    With ``second`` they are scored again a week before the first dose, and that is their baseline.
    """
    chance = np.random.default_rng(seed)
    traits = chance.normal(6.5, 1.7 * 0.7**0.5, 40 * n)
    first, again, later = (np.round(traits + chance.normal(0, 1.7 * 0.3**0.5, len(traits)), decimals) for _ in range(3))
    let_in = np.flatnonzero(first >= entry)[:n]
    starts = again if second else first
    listed = [with_pain(i, starts[at], None, None, later[at] + effect) for i, at in enumerate(let_in)]
    scores = [
        reading(2 * i + place, f"p{i:04d}", PAIN, value, minutes)
        for i, at in enumerate(let_in)
        for place, (value, minutes) in enumerate(((first[at], -28 * DAY), (again[at], -7 * DAY))[: 2 if second else 1])
    ]
    return cohort(listed, observations=scores)


def rows_of(tables, own=None) -> pd.DataFrame:
    frame = pd.DataFrame(natural_course(Cohort(tables, own or study(), AS_OF)), dtype="object")
    return frame.set_index(["statistic", "group"])


def said(tables, own, edition: str = "internal"):
    releasable = disclose(analyse(tables, own, as_of=AS_OF), tables, own, edition)
    return section(Facts(releasable, own, own.reports["evidence"], provenance(edition)))


# --- the formula ----------------------------------------------------------------------------------------------------


def test_the_handbooks_example_falls_by_half_a_point():
    everybody = Population(np.array(6.5), np.array(1.7))
    assert float(expected_fall(everybody, 0.7, 7.0)) == pytest.approx(0.51, abs=0.005)
    assert float(expected_fall(everybody, 0.5, 7.0)) > 0.8


@pytest.mark.parametrize(("mean", "edge"), [(6.5, 5.0), (6.5, 6.5), (7.0, 4.0)])
def test_everybody_is_found_again_as_by_maximum_likelihood(mean, edge):
    scores = truncnorm.rvs((edge - mean) / 1.7, np.inf, mean, 1.7, size=400, random_state=3)

    def loss(at):
        return -truncnorm.logpdf(scores, (edge - at[0]) / np.exp(at[1]), np.inf, at[0], np.exp(at[1])).sum()

    known = minimize(loss, [mean, 0.5], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    found = unselected(scores.mean(), scores.var(), edge)
    assert (float(found.mean), float(found.sd)) == pytest.approx((known.x[0], np.exp(known.x[1])), abs=1e-3)


def test_scores_far_above_the_entry_score_are_everybody():
    found = unselected(np.array(7.0), np.array(0.25), 1.0)
    assert (float(found.mean), float(found.sd)) == (7.0, 0.5)


def test_scores_heaped_at_the_entry_score_like_no_normal_distribution_fit_nothing():
    assert np.isnan(unselected(np.array(1.0), np.array(1.2), 0.0).mean)


def test_whole_scores_are_cut_half_a_point_below_the_entry_score():
    assert edge_of(np.array([7.0, 8.0]), 7) == 6.5
    assert edge_of(np.array([7.0, 8.5]), 7) == 7


# --- nothing was done -----------------------------------------------------------------------------------------------


def test_with_nothing_done_the_observed_fall_is_about_the_expected_one():
    own = study(population_mean=6.5, population_sd=1.7)
    found = [rows_of(untreated(seed, 150), own) for seed in range(4)]
    observed = np.mean([rows.loc[("observed", ""), "estimate"] for rows in found])
    expected = [rows.loc[("expected", "declared"), "estimate"] for rows in found]
    assert expected == pytest.approx([-0.51] * 4, abs=0.005)
    assert observed == pytest.approx(-0.51, abs=0.17)  # 3 standard errors of 600 changes


@pytest.mark.parametrize("decimals", [6, 0])
def test_from_the_scores_alone_the_expected_fall_is_right_on_average(decimals):
    found = [
        rows_of(untreated(seed, 200, entry=5.0, decimals=decimals), study(entry_at_least=5.0)) for seed in range(4)
    ]
    expected = np.mean([rows.loc[("expected", "declared"), "estimate"] for rows in found])
    edge = 5.0 if decimals else 4.5
    true = -float(expected_fall(Population(np.array(6.5), np.array(1.7)), 0.7, edge))
    assert expected == pytest.approx(true, abs=0.05)
    for rows in found:
        row = rows.loc[("expected", "declared")]
        assert row["lower"] < row["estimate"] < row["upper"] < 0


def test_with_nothing_done_the_heading_says_that_the_fall_is_expected():
    finding = said(untreated(1, 120), study(population_mean=6.5, population_sd=1.7)).finding
    assert finding.startswith("A change of this size is expected without treatment")
    assert "−0.51" in finding


def test_a_few_people_with_a_fall_above_the_expected_one_are_not_called_expected_but_not_told_apart_either():
    finding = said(untreated(4, 14, effect=-0.75), study(population_mean=6.5, population_sd=1.7)).finding
    assert "which cannot be told from the −0.51" in finding


def test_a_larger_fall_is_not_called_expected():
    finding = said(untreated(1, 120, effect=-2.0), study(population_mean=6.5, population_sd=1.7)).finding
    assert "regression to the mean alone would give −0.51" in finding
    assert "is expected without treatment" not in finding


def entered_on_the_second(seed: int, n: int):
    """People scored three times, correlated by 0.7, nothing done; let in at 7 by the second score, their baseline."""
    chance = np.random.default_rng(seed)
    traits = chance.normal(6.5, 1.7 * 0.7**0.5, 40 * n)
    first, second, third = (traits + chance.normal(0, 1.7 * 0.3**0.5, len(traits)) for _ in range(3))
    let_in = np.flatnonzero(second >= 7)[:n]
    scores = [
        reading(2 * i + place, f"p{i:04d}", PAIN, value, minutes)
        for i, at in enumerate(let_in)
        for place, (value, minutes) in enumerate(((first[at], -60 * DAY), (second[at], -7 * DAY)))
    ]
    return cohort([with_pain(i, second[at], None, None, third[at]) for i, at in enumerate(let_in)], observations=scores)


def test_who_entered_on_the_baseline_is_expected_to_fall_from_there_whatever_was_scored_before():
    tables, own = entered_on_the_second(1, 200), study(population_mean=6.5, population_sd=1.7)
    rows = rows_of(tables, own)
    assert rows.loc[("people", "entered on the baseline"), "k"] == 200
    assert rows.loc[("expected", "declared"), "estimate"] == pytest.approx(-0.51, abs=0.005)
    assert rows.loc[("observed", ""), "estimate"] == pytest.approx(-0.51, abs=0.26)  # 3 standard errors of 200 changes
    assert rows.loc[("left", ""), "lower"] < 0 < rows.loc[("left", ""), "upper"]
    finding = said(tables, own).finding
    assert "−0.51" in finding
    assert "0.00" not in finding


@pytest.mark.parametrize(("n", "has_estimate", "reason"), [
    (0, False, "fewer than 3 people with a change: no estimate"),
    (1, False, "fewer than 3 people with a change: no estimate"),
    (5, True, "fewer than 10 people with a change: no interval"),
])  # fmt: skip
def test_what_is_left_is_said_of_no_fewer_people_than_any_mean(n, has_estimate, reason):
    listed = [with_pain(i, 7 + i % 4, 6, None, 5 if i < n else None) for i in range(40)]
    row = rows_of(cohort(listed), study(population_mean=6.5, population_sd=1.7)).loc[("left", "")]
    assert (row["n"], row["n_missing"]) == (n, 40 - n)
    assert (row["estimate"] is not None, row["lower"], row["reason"]) == (has_estimate, None, reason)


def test_what_is_subtracted_is_the_fall_of_the_people_who_have_a_change():
    listed = [with_pain(i, 7 + i % 4, 6, None, 7 + i % 4 if i % 4 == 3 else None) for i in range(80)]
    row = rows_of(cohort(listed), study(population_mean=6.5, population_sd=1.7)).loc[("left", "")]
    assert row["estimate"] == pytest.approx(0 + 0.3 * (10 - 6.5))  # those who started at 10 did not change


def test_who_was_scored_again_before_treatment_is_not_expected_to_fall_from_there():
    own = study(population_mean=6.5, population_sd=1.7, entry_score="first score")
    rows = rows_of(untreated(2, 200, second=True), own)
    assert rows.loc[("people", "has an earlier score"), "k"] == 200
    assert rows.loc[("expected", "declared"), "estimate"] == 0
    assert rows.loc[("expected", "declared"), "reason"] == "the same in every bootstrap sample: no interval"
    assert rows.loc[("observed", ""), "estimate"] == pytest.approx(0, abs=0.3)


def test_less_reliable_scores_fall_more():
    rows = rows_of(untreated(1, 100, entry=5.0), study(entry_at_least=5.0))
    expected = [rows.loc[("expected", f"{value:.1f}"), "estimate"] for value in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert expected == sorted(expected)
    assert expected[2] == rows.loc[("expected", "declared"), "estimate"]


# --- before treatment -----------------------------------------------------------------------------------------------


def test_reliability_is_found_again_although_people_were_chosen_by_their_first_score():
    rows = rows_of(untreated(5, 200, second=True), study(entry_score="first score"))
    assert rows.loc[("reliability", ""), "estimate"] == pytest.approx(0.7, abs=0.15)
    assert rows.loc[("expected", "estimated"), "n"] == 200


def test_the_slope_before_treatment_is_given_per_week():
    listed = [with_pain(i, 7, None, None, 5) for i in range(12)]
    scores = [
        reading(10 * i + week, f"p{i:04d}", PAIN, 8 - 0.25 * week + 0.1 * ((i + week) % 3), (week - 5) * 7 * DAY)
        for i in range(12)
        for week in range(5)
    ]
    row = rows_of(cohort(listed, observations=scores)).loc[("slope_before", "")]
    assert row["estimate"] == pytest.approx(-0.25, abs=0.02)
    assert row["lower"] < -0.25 < row["upper"]
    assert (row["n"], row["n_missing"], row["unit"]) == (12, 0, "points per week")


def test_only_scores_before_the_first_dose_and_one_a_day_count_as_before():
    scores = [
        reading(1, "p0001", PAIN, 8, -10 * DAY), reading(2, "p0001", PAIN, 6, -10 * DAY + 60),
        reading(3, "p0001", PAIN, 7, -30), reading(4, "p0001", PAIN, 5, 30), reading(5, "p0001", PAIN, 4, None),
        reading(6, "p0001", PAIN, 9, -200 * DAY),
    ]  # fmt: skip
    found = scores_before(Cohort(cohort([with_pain(1, 7, 5)], observations=scores), the_study(), AS_OF))
    assert found[["days", "value"]].to_numpy().tolist() == [[-10, 6], [0, 7]]


# --- nothing to say -------------------------------------------------------------------------------------------------


def test_without_a_declared_entry_score_nothing_is_expected_and_it_says_so():
    own = study(entry_at_least=None)
    row = rows_of(untreated(1, 30), own).loc[("expected", "declared")]
    assert (row["estimate"], row["reason"]) == (None, "no entry score is declared")
    assert "no entry score is declared" in said(untreated(1, 30), own).finding


def test_people_below_the_entry_score_are_counted_and_not_fitted():
    listed = [with_pain(i, 8 - i % 5, None, None, 6) for i in range(30)]
    rows = rows_of(cohort(listed))
    assert rows.loc[("people", "below the entry score"), "k"] == 18
    assert rows.loc[("everybody", "mean"), ["n", "n_missing"]].tolist() == [12, 18]


@pytest.mark.parametrize("listed", [
    [], [with_pain(1, 8, 5)], [with_pain(1, 8, 5), with_pain(2, 7, None, None, 3)],
    [with_pain(i, 8, None, None, 5) for i in range(20)], [with_pain(i, None, None, None, 5) for i in range(20)],
    [with_pain(i, 8, 5) for i in range(20)],
], ids=["nobody", "one", "two", "all alike", "no baseline", "no primary visit"])  # fmt: skip
def test_a_hopeless_cohort_gives_a_row_with_a_reason_for_everything(listed):
    for row in natural_course(Cohort(cohort(listed), study(), AS_OF)):
        assert row["reason"] or None not in {row["lower"], row["upper"]}
        assert None not in {row["n"], row["n_missing"]}
        assert not any(np.isnan(row[name]) for name in ("estimate", "lower", "upper") if row[name] is not None)


def test_the_release_edition_shows_none_of_it():
    made = said(untreated(1, 60), study(), "release")
    assert all(table.rows == () for table in made.tables.values())
    assert all("internal edition only" in table.empty for table in made.tables.values())


def test_the_course_under_placebo_is_quoted_from_the_evidence_table():
    lines = said(untreated(1, 30), study()).text["course"]
    assert any("5.45" in line and "Placebo" in line and "unconfirmed" in line for line in lines)


def test_a_population_is_declared_with_both_its_numbers_or_not_at_all():
    with pytest.raises(ValueError, match="both or neither"):
        RegressionToTheMean(population_mean=6.5)
