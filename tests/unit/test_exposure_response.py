"""Dose beside change: which session belongs to which change, known slopes found again, and nothing from few people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort_tables import AS_OF, PAIN, Person, cohort, reading, the_study, with_pain
from report_fixture import provenance

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.exposure_response import (
    BETWEEN,
    TOTAL,
    WITHIN,
    changes_with_doses,
    exposure_response,
    people_with_doses,
)
from crps_outcomes.facts import Facts
from crps_outcomes.sections.exposure_response import exposure_response as section
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.stages.disclose import disclose

VISITS = ("week_1", "week_2", "week_4", "week_8", "week_12")
WEEKS = {"baseline": 0, "week_1": 1, "week_2": 2, "week_4": 4, "week_8": 8, "week_12": 12}


def of(tables) -> Cohort:
    return Cohort(tables, the_study(), AS_OF)


def rows_of(tables) -> pd.DataFrame:
    frame = pd.DataFrame(exposure_response(of(tables)), dtype="object")
    return frame.set_index(["statistic", "measure", "group"]).sort_index()


def titrated(seed: int, n: int, slope: float) -> list[Person]:
    """People with a session a week of 0.4 to 1.2 mg/kg; a change is -0.5 plus ``slope`` per 0.1 mg/kg above 0.8 and noise."""
    chance = np.random.default_rng(seed)
    listed = []
    for number in range(n):
        doses = np.clip(chance.normal(0.8, 0.1) + chance.normal(0, 0.15, 12), 0.3, 1.4)
        known, last = {"baseline": 8.0}, 0
        for before, visit in zip(("baseline", *VISITS), VISITS, strict=False):
            own = doses[last : WEEKS[visit]].mean()
            known[visit] = known[before] - 0.5 + slope * (own - 0.8) / 0.1 + chance.normal(0, 0.4)
            last = WEEKS[visit]
        listed.append(Person(f"p{number:04d}", {PAIN: known}, doses_mg=tuple(80 * doses)))
    return listed


# --- what belongs to what -------------------------------------------------------------------------------------------


def test_a_change_has_the_mean_dose_of_the_sessions_from_its_first_score_to_the_day_before_its_second():
    person = with_pain(1, 8, 7, 6, 5, doses_mg=(40.0, 48.0, 56.0, 64.0, 80.0))  # weeks 0 to 4, 80 kg
    found = changes_with_doses(of(cohort([person])))
    assert found["visit"].tolist() == ["week_1", "week_2", "week_4"]
    assert found["mg_per_kg"].tolist() == pytest.approx([0.5, 0.6, 0.75])
    assert found["change"].tolist() == [-1, -1, -1]


def test_a_change_without_a_session_or_with_an_unknown_dose_has_none():
    person = with_pain(1, 8, 7, 6, None, 5, doses_mg=(40.0, None))
    found = changes_with_doses(of(cohort([person])))
    assert found["mg_per_kg"].isna().tolist() == [False, True, True]
    counts = rows_of(cohort([person])).loc["count"]
    assert counts["k"].tolist() == [1, 2]


def test_the_total_stops_before_the_score_of_the_primary_visit():
    person = with_pain(1, 8, None, None, 5, doses_mg=(40.0,) * 8)
    found = people_with_doses(of(cohort([person]))).iloc[0]
    assert (found["change"], found["total"], found["mean"]) == (-3, pytest.approx(2.0), pytest.approx(0.5))


# --- known slopes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-0.3, 0.0])
def test_a_known_slope_within_people_is_found_again(slope):
    found = [rows_of(cohort(titrated(seed, 30, slope))).loc[("slope", PAIN, WITHIN)] for seed in range(3)]
    assert np.mean([row["estimate"] for row in found]) == pytest.approx(slope, abs=0.08)
    assert all(row["lower"] - 0.05 < slope < row["upper"] + 0.05 for row in found)
    assert found[0][["n", "n_missing", "unit"]].tolist() == [30, 0, "points per 0.1 mg/kg"]


def test_who_is_given_more_because_little_happened_makes_dose_look_useless_between_people():
    chance = np.random.default_rng(1)
    listed = []
    for number in range(30):
        relief = chance.uniform(0, 5)  # whoever improves less is given more
        doses = tuple(80 * (1.2 - 0.15 * relief + chance.normal(0, 0.03)) for _ in range(4))
        listed.append(with_pain(number, 8, 8 - relief / 2, None, 8 - relief, doses_mg=doses))
    rows = rows_of(cohort(listed))
    assert rows.loc[("slope", PAIN, TOTAL), "lower"] > 0
    thirds = rows.loc["third_change"]["estimate"]
    assert thirds.loc[(PAIN, "lowest third")] < thirds.loc[(PAIN, "highest third")]


def test_experience_is_ranked_against_change_and_not_collected_is_said():
    listed = [
        with_pain(i, 8, None, None, 8 - i / 4, others={"meq30": {"week_1": i / 5, "week_4": i / 5}}) for i in range(16)
    ]
    scores = [reading(i, f"p{i:04d}", "dissociation_cadss", 20 - i, 40) for i in range(12)]
    rows = rows_of(cohort(listed, observations=scores)).loc["experience"]
    assert rows.loc[("meq30", ""), "estimate"] == pytest.approx(-1)
    assert rows.loc[("dissociation_cadss", ""), ["n", "n_missing"]].tolist() == [12, 4]
    assert rows.loc[("dissociation_cadss", ""), "estimate"] == pytest.approx(1)
    assert rows.loc[("ebi", ""), "reason"] == "not collected"


def test_experience_after_the_persons_own_score_is_not_set_beside_its_change():
    listed = [with_pain(i, 8, None, None, 8 - i / 4, doses_mg=(40.0,) * 5) for i in range(12)]
    early = [reading(i, f"p{i:04d}", "dissociation_cadss", 20 - i, 40) for i in range(12)]
    late = [reading(20 + i, f"p{i:04d}", "dissociation_cadss", 5 * i, 28 * 24 * 60 + 40) for i in range(12)]
    tables = cohort(listed, observations=[*early, *late])
    is_primary = tables.outcomes["visit"] == "week_4"
    on_day_22 = replace(
        tables, outcomes=tables.outcomes.assign(study_day=tables.outcomes["study_day"].mask(is_primary, 22))
    )
    assert rows_of(on_day_22).loc[("experience", "dissociation_cadss", ""), "estimate"] == pytest.approx(1)


# --- nothing to say -------------------------------------------------------------------------------------------------


def test_fewer_than_ten_people_give_counts_and_reasons_only():
    rows = rows_of(cohort(titrated(1, 9, -0.3)))
    assert set(rows.index.get_level_values("statistic")) == {"count", "slope", "rank_correlation", "experience"}
    others = rows.drop(index="count")
    assert others["estimate"].isna().all()
    assert rows.loc[("slope", PAIN, BETWEEN), "reason"].startswith("fewer than 10 people")


@pytest.mark.parametrize("listed", [
    [], [with_pain(1, 8, 5)], [with_pain(1, 8, 5), with_pain(2, 7, None, None, 3)],
    [with_pain(i, 8, 6, None, 5, doses_mg=(40.0,) * 5) for i in range(20)],
    [with_pain(i, 8, 6, None, 5, doses_mg=(None,)) for i in range(20)], [with_pain(i) for i in range(20)],
    [with_pain(i, 8, 6, None, 5, doses_mg=(40.0 + i,) * 5) for i in range(20)],
], ids=["nobody", "one", "two", "all alike", "no dose", "no score", "one dose each"])  # fmt: skip
def test_a_hopeless_cohort_gives_a_row_with_a_reason_for_everything(listed):
    for row in exposure_response(of(cohort(listed))):
        assert row["reason"] or None not in {row["lower"], row["upper"]}
        assert None not in {row["n"], row["n_missing"]}
        assert not any(np.isnan(row[name]) for name in ("estimate", "lower", "upper") if row[name] is not None)


def said(edition: str):
    tables = cohort(titrated(1, 30, -0.3))
    releasable = disclose(analyse(tables, the_study(), as_of=AS_OF), tables, the_study(), edition)
    return section(Facts(releasable, the_study(), the_study().reports["evidence"], provenance(edition)))


def test_the_section_calls_itself_exploratory_and_says_why_dose_and_change_are_bent():
    made = said("internal")
    assert made.finding.startswith("Exploratory: 0.1 mg/kg more per session went with −0.")
    assert "who responds little is given more" in made.lede
    assert "must not be set against each other" in made.tables["thirds"].encoding


def test_the_release_edition_shows_none_of_it():
    made = said("release")
    assert all(table.rows == () and "internal edition only" in table.empty for table in made.tables.values())
    assert made.text["notes"] == ()
