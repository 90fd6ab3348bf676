"""How much evidence: the width now and the people needed, against the closed form, known half-widths and honest limits."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort_tables import AS_OF, PAIN, cohort, the_study, with_pain
from report_fixture import provenance
from test_estimand import came, watched
from test_sections import lines

from crps_outcomes import estimators
from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.endpoints import endpoints
from crps_outcomes.analysis.flow import flow
from crps_outcomes.analysis.looks import looked
from crps_outcomes.analysis.natural_course import natural_course
from crps_outcomes.analysis.precision import (
    Fitted,
    expected_half_widths,
    people_needed,
    precision,
    simulated_half_widths,
)
from crps_outcomes.facts import Facts
from crps_outcomes.plan import Look, Precision
from crps_outcomes.sections.endpoints import endpoints as endpoints_section
from crps_outcomes.sections.precision import precision as precision_section
from crps_outcomes.sequential import boundaries
from crps_outcomes.stages.analyse import Analysis, analyse
from crps_outcomes.stages.disclose import disclose
from crps_outcomes.tables import FULL_ESTIMATES, build

KNOWN = Fitted(sd_start=2.4, sd_after=0.0, correlation=0.0, share_seen=1.0)


def planned(**changes):
    study = the_study()
    plan = study.protocol.plan.model_copy(update=changes)
    return replace(study, protocol=study.protocol.model_copy(update={"plan": plan}))


def people_like(seed: int, n: int, lost: float = 0.2):
    chance = np.random.default_rng(seed)
    start = chance.normal(7, 1.2, n).round(1)
    after = (start + chance.normal(-2, 2, n)).clip(0, 10).round(1)
    is_lost = chance.random(n) < lost
    return [with_pain(i, start[i], after[i], None, None if is_lost[i] else after[i]) for i in range(n)]


def rows_of(people, **changes):
    found = precision(Cohort(cohort(people), planned(**changes), AS_OF))
    return {(one["statistic"], one["group"]): one for one in found}


def section_of(people, **changes):
    """The section of the internal edition, from its own rows alone."""
    study, tables = planned(**changes), cohort(people)
    own = Cohort(tables, study, AS_OF)
    analysis = Analysis(build(FULL_ESTIMATES, precision(own)), flow(own, None))
    found = disclose(analysis, tables, study, "internal")
    return precision_section(Facts(found, study, study.reports["evidence"], provenance()))


# --- people needed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "half_width"), [(20, 1.12), (40, 0.77), (100, 0.48), (200, 0.33)])
def test_formula_and_simulation_give_the_known_half_widths(n, half_width):
    assert expected_half_widths(KNOWN, 200)[n] == pytest.approx(half_width, abs=0.005)
    drawn = simulated_half_widths(KNOWN, 200, 400, np.random.default_rng(1))
    assert drawn[n] == pytest.approx(half_width, rel=0.025)  # a sample SD is a little too small on average


def test_the_standard_deviation_of_a_change_follows_from_both_scores_and_their_correlation():
    own = Fitted(1.5, 2.0, 0.6, 0.8)
    assert own.sd_change == pytest.approx((1.5**2 + 2.0**2 - 2 * 0.6 * 1.5 * 2.0) ** 0.5)
    drawn = simulated_half_widths(own, 400, 300, np.random.default_rng(2))
    assert drawn[50:] == pytest.approx(expected_half_widths(own, 400)[50:], rel=0.02)


def test_half_of_the_people_without_a_score_means_twice_as_many_people():
    spread = estimators.spread(np.linspace(-4, 4, 30))
    curves = [expected_half_widths(replace(KNOWN, share_seen=share), 1000) for share in (1.0, 0.5)]
    whole, half = (people_needed(curve, 0.5, spread).estimate for curve in curves)
    assert half == pytest.approx(2 * whole, abs=1)


def test_the_people_needed_are_the_first_whose_interval_is_narrow_enough():
    curve = expected_half_widths(KNOWN, 400)
    needed = people_needed(curve, 0.5, estimators.spread(np.linspace(-4, 4, 30)))
    at = int(needed.estimate)
    assert curve[at] <= 0.5 < curve[at - 1]
    assert needed.lower < needed.estimate < needed.upper


def test_an_aim_out_of_reach_is_said_and_not_extrapolated():
    found = rows_of(people_like(1, 30), precision=Precision(half_width=0.1, simulations=50, most_people=100))
    needed = found["people_needed", "simulation"]
    assert needed["estimate"] is None
    assert needed["reason"] == "more than 100 people"
    said = section_of(people_like(1, 30), precision=Precision(half_width=0.1, simulations=50, most_people=100))
    assert "more than 100 people would be needed" in said.finding


def test_the_range_is_wider_the_less_is_known_of_the_spread():
    few, many = (rows_of(people_like(3, n, 0.0))["half_width", ""] for n in (12, 120))
    assert few["upper"] / few["lower"] > 2
    assert many["upper"] / many["lower"] < 1.5


def test_the_half_width_is_that_of_the_interval_printed_for_pain():
    study, tables = the_study(), cohort(people_like(5, 40))
    rows = analyse(tables, study, as_of=AS_OF).estimates.set_index("estimate_id")
    change, half = (
        rows.loc[f"{name}/analysed/{PAIN}/week_4/-"] for name in ("pain/mean_change", "precision/half_width")
    )
    assert half["estimate"] == pytest.approx((change["upper"] - change["lower"]) / 2)
    assert (half["n"], half["n_missing"]) == (change["n"], change["n_missing"])


def test_the_numbers_of_the_real_protocol_take_less_than_half_a_second():
    people = cohort(people_like(1, 64))
    own = Cohort(people, planned(precision=Precision()), AS_OF)
    precision(own)
    began = time.process_time()
    precision(own)
    assert time.process_time() - began < 0.5  # about 0.1 s


def test_the_same_seed_gives_the_same_rows_and_another_one_others():
    one, same, other = (rows_of(people_like(1, 30), seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one["change", "bootstrap"] != other["change", "bootstrap"]


def test_fewer_than_ten_say_why_there_is_nothing_to_plan_with():
    found = rows_of(people_like(1, 9, 0.0))
    assert set(found) == {("half_width", ""), ("people_needed", "")}
    assert {one["reason"] for one in found.values()} == {"fewer than 10 people: no interval"}
    said = section_of(people_like(1, 9, 0.0))
    assert said.finding.endswith("(fewer than 10 people: no interval)")
    assert not said.figures["width"].svg


# --- other methods and looks ----------------------------------------------------------------------------------------


def test_sign_flip_stands_beside_the_others_below_thirty_people_only():
    few, many = (rows_of(people_like(1, n, 0.0)) for n in (29, 30))
    assert ("change", "sign-flip") in few
    assert ("change", "sign-flip") not in many
    assert few["change", "t"]["lower"] == pytest.approx(few["change", "sign-flip"]["lower"], abs=0.3)


def test_a_look_widens_the_interval_by_what_it_may_spend():
    looks = (Look(people=30), Look(people=60))
    found = rows_of(people_like(1, 40, 0.0), looks=looks)
    assert found["look", "30"]["estimate"] == pytest.approx(boundaries((0.5, 1.0))[0])
    assert found["look", "60"]["reason"] == "a boundary; not reached"
    usual, widened = found["change", "t"], found["change_at_look", "30"]
    ratio = (widened["upper"] - widened["lower"]) / (usual["upper"] - usual["lower"])
    assert widened["n"] == 30
    assert ratio == pytest.approx(2.963 / 1.960 * (40 / 30) ** 0.5, rel=0.2)  # t, and another spread of the first 30
    words = "\n".join(lines(section_of(people_like(1, 40, 0.0), looks=looks)))
    assert re.search(r"30 \| 2\.963 \| Reached \| −", words)
    assert "60 | 1.969 | Not reached | [z]" in words


def test_a_look_is_of_the_first_people_by_day_of_their_score_and_stays_when_others_follow():
    sizes = (Look(people=15), Look(people=30))
    people = people_like(1, 30, 0.0)
    scores = dict(zip((one.id for one in people), (one.known[PAIN] for one in people), strict=True))
    first = sorted(scores, reverse=True)[:15]  # the scores come in the reverse of the order of the names

    def at(n: int):
        tables = cohort(people[30 - n :])
        back = pd.to_timedelta(-tables.outcomes["subject_id"].str[1:].astype(int), unit="D")
        tables = replace(tables, outcomes=tables.outcomes.assign(taken_on=pd.Timestamp(2025, 3, 1) + back))
        found = precision(Cohort(tables, planned(looks=sizes), AS_OF))
        return {one["group"]: one for one in found if one["statistic"] == "change_at_look"}

    assert list(at(14)) == []
    assert list(at(30)) == ["15", "30"]
    assert at(15)["15"] == at(22)["15"] == at(30)["15"]
    by_hand = np.mean([scores[who]["week_4"] - scores[who]["baseline"] for who in first])
    assert at(22)["15"]["estimate"] == pytest.approx(by_hand)


def test_all_looks_together_err_five_times_in_a_hundred():
    chance, rounds, wrong = np.random.default_rng(8), 1500, 0
    bounds = dict(zip((30, 60, 90), boundaries((1 / 3, 2 / 3, 1.0)), strict=True))
    for _ in range(rounds):
        found = looked(chance.normal(size=90), bounds)
        wrong += any(not one.change.lower <= 0 <= one.change.upper for one in found)
    assert wrong / rounds == pytest.approx(0.05, abs=0.017)  # three standard errors


def test_the_planned_endpoints_say_at_which_look_the_primary_is_read_or_that_none_is_reached():
    said = {}
    for first in (30, 50):
        study, tables = planned(looks=(Look(people=first), Look(people=60))), cohort(people_like(1, 40, 0.0))
        own = Cohort(tables, study, AS_OF)
        found = disclose(Analysis(build(FULL_ESTIMATES, endpoints(own)), flow(own, None)), tables, study, "internal")
        said[first] = "\n".join(lines(endpoints_section(Facts(found, study, study.reports["evidence"], provenance()))))
    assert "At the look at 30 people: the interval excludes 0" in said[30]
    assert "no look is reached yet, so nothing is read from it" in said[50]
    assert "Not at a look yet: descriptive" in said[50]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_looks_of_almost_nobody_are_not_reached(n):
    found = rows_of(people_like(1, n, 0.0), looks=(Look(people=10), Look(people=150)))
    assert {one["reason"] for (name, _), one in found.items() if name == "look"} == {"a boundary; not reached"}


def test_no_look_declared_is_said():
    assert "No look before the end is declared" in "\n".join(lines(section_of(people_like(1, 30))))


def test_the_row_called_primary_is_the_change_of_the_plan_without_scores_after_a_hypothetical_event():
    people = [with_pain(n, 8, None, None, 8 - n % 4) for n in range(1, 17)]  # changes -1, -2, -3, 0 four times
    own = watched(people, later=[came(n, "other ketamine route", 20, "iv") for n in (4, 8)])  # two changes of 0
    found = {(one["statistic"], one["group"]): one for one in precision(own)}
    planned_one = next(one for one in endpoints(own) if (one["statistic"], one["group"]) == ("planned", "primary"))
    observed = next(one for one in natural_course(own) if one["statistic"] == "observed")
    for row in (found["change", "t"], observed):
        assert [row[name] for name in ("n", "n_missing")] == [14, 2]
        assert [row[name] for name in ("estimate", "lower", "upper")] == pytest.approx(
            [planned_one[name] for name in ("estimate", "lower", "upper")]
        )
