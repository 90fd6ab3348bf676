"""How long a response lasts: every branch of the rule on cohorts that can be followed by eye."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from cohort_tables import AS_OF, DAY_0, PAIN, cohort, random_people, the_study, with_pain
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import facts, model, releasable

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.durability import (
    A_SCORE,
    EARLIEST,
    LAST_SCORE,
    RESPONDERS,
    Event,
    Response,
    Score,
    durability,
    first_response,
    week_grid,
)
from crps_outcomes.analysis.estimand import durability_events
from crps_outcomes.stages.analyse import analyse
from crps_outcomes.tables import DOSES, ESTIMATES, INTERCURRENT, build

GOOD, BAD = True, False
TEN_WEEKS = [(4, 1), (6, 1), (8, 1), (8, 0), (12, 0), (12, 0), (12, 0), (2, 1), (3, 1), (10, 1)]


def scores(*pairs: tuple[int, bool]) -> list[Score]:
    return [Score(*pair) for pair in pairs]


def happened(number: int, kind: str, day: int, term: str = "") -> dict:
    on = pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=day)
    return {"subject_id": f"p{number:04d}", "kind": kind, "term": term, "happened_on": on, "study_day": day,
            "source_ref": f"{kind}/{number}"}  # fmt: skip


def rows(people, *events, as_of: date = AS_OF, **more) -> dict[tuple[str, str, str], dict]:
    """The rows of a cohort, by statistic, population and group."""
    tables = replace(cohort(people, **more), intercurrent=build(INTERCURRENT, events))
    found = durability(Cohort(tables, the_study(), as_of))
    build(ESTIMATES, found)
    return {(row["statistic"], row["population"], row["group"]): row for row in found}


def held_until(number: int, weeks: dict[str, float], start: float = 8.0):
    """A person with these pain scores by visit."""
    return replace(with_pain(number, start), known={PAIN: {"baseline": start, **weeks}})


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "events", "expected"),
    [
        (scores((7, BAD), (28, BAD)), [], None),
        (scores((7, GOOD), (14, GOOD), (28, BAD)), [], Response(7, 14, 28, is_lost=True, end=A_SCORE)),
        (scores((7, BAD), (14, GOOD), (28, GOOD)), [], Response(14, 28, 28, is_lost=False, end=LAST_SCORE)),
        (scores((7, GOOD)), [], Response(7, 7, 7, is_lost=False, end=LAST_SCORE)),
        # a response that comes back is a new one
        (scores((7, GOOD), (14, BAD), (28, GOOD)), [], Response(7, 7, 14, is_lost=True, end=A_SCORE)),
        # a loss ends it on its day, a censoring at the last score that was a response
        (
            scores((7, GOOD), (28, GOOD), (84, GOOD)),
            [Event(40, "procedure", "loss")],
            Response(7, 28, 40, is_lost=True, end="procedure"),
        ),
        (
            scores((7, GOOD), (28, GOOD), (84, BAD)),
            [Event(40, "other ketamine route", "censor")],
            Response(7, 28, 28, is_lost=False, end="other ketamine route"),
        ),
        # whichever comes first
        (
            scores((7, GOOD), (28, BAD)),
            [Event(40, "procedure", "loss")],
            Response(7, 7, 28, is_lost=True, end=A_SCORE),
        ),
        # on one day the score was first
        (
            scores((7, GOOD), (28, BAD)),
            [Event(28, "other ketamine route", "censor")],
            Response(7, 7, 28, is_lost=True, end=A_SCORE),
        ),
        (
            scores((7, GOOD), (28, GOOD)),
            [Event(28, "procedure", "loss")],
            Response(7, 28, 28, is_lost=True, end="procedure"),
        ),
        (
            scores((7, GOOD), (28, GOOD)),
            [Event(7, "procedure", "loss")],
            Response(7, 7, 7, is_lost=True, end="procedure"),
        ),
        # what happened before the response ends nothing
        (
            scores((7, BAD), (28, GOOD), (56, BAD)),
            [Event(10, "procedure", "loss")],
            Response(28, 28, 56, is_lost=True, end=A_SCORE),
        ),
    ],
)
def test_a_response_lasts_until_its_first_loss(own, events, expected):
    assert first_response(own, events) == expected


@given(
    st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=8, unique_by=lambda pair: pair[0]),
    st.lists(st.tuples(st.integers(1, 200), st.sampled_from(["loss", "censor"])), max_size=4),
)
def test_the_earliest_possible_loss_is_never_later_than_the_one_seen(pairs, events):
    found = first_response(scores(*sorted(pairs)), [Event(day, "procedure", effect) for day, effect in sorted(events)])
    assert (found is None) == (not any(is_good for _, is_good in pairs))
    if found:
        assert 0 <= found.least_days <= found.days
        assert found.is_lost or found.days == found.least_days


# --- through the tables ---------------------------------------------------------------------------------------------


def test_events_end_responses_as_the_plan_says_and_the_ends_add_up_to_the_responders():
    people = [held_until(i, {"week_1": 4.0, "week_4": 4.0, "week_12": 4.0}) for i in range(6)]
    people += [held_until(6, {"week_1": 4.0, "week_4": 8.0}), held_until(7, {"week_1": 8.0, "week_4": 8.0})]
    found = rows(
        people,
        happened(0, "further series", 40),
        happened(1, "other ketamine route", 40, "iv"),
        happened(2, "procedure", 3, "sympathetic block"),
        happened(3, "treatment started", 40, "opioid"),
        happened(4, "treatment started", 40, "gabapentinoid"),  # not in the plan: ignored
        happened(5, "death", 100),
    )
    ends = {(how, end): row["k"] for (how, _, end), row in found.items() if how in {"lost", "censored"}}
    assert {pair: k for pair, k in ends.items() if k} == {
        ("lost", A_SCORE): 1, ("lost", "further series"): 1, ("lost", "treatment started"): 1, ("lost", "death"): 1,
        ("censored", "other ketamine route"): 1, ("censored", LAST_SCORE): 2,
    }  # fmt: skip
    responded = found["responded", "treated", ""]
    assert (responded["k"], responded["n"], responded["n_missing"]) == (sum(ends.values()), 8, 0)
    assert found["after_an_event", RESPONDERS, ""]["k"] == 1
    seven = found["curve", RESPONDERS, "33"]  # day 40 after the response of day 7: two losses of the people at risk
    assert seven["k"] == 2


def test_ten_responders_by_hand_have_the_curve_median_and_interval_of_the_handbook():
    """The handbook's weeks, each person responding on day 7: a loss is a bad score, a censoring the last good one."""
    tables = cohort([with_pain(i, 8, 4, 4) for i in range(10)])
    outcomes = tables.outcomes
    for number, (weeks, is_loss) in enumerate(TEN_WEEKS):
        own = (outcomes["subject_id"] == f"p{number:04d}") & (outcomes["measure"] == PAIN)
        outcomes.loc[own & (outcomes["visit"] == "week_1"), "study_day"] = 7
        last = own & (outcomes["visit"] == "week_2")
        outcomes.loc[last, "study_day"] = 7 + 7 * weeks
        outcomes.loc[last, "value"] = 8.0 if is_loss else 4.0
    found = {(r["statistic"], r["population"], r["group"]): r for r in durability(Cohort(tables, the_study(), AS_OF))}
    steps = {14: 90, 21: 80, 28: 70, 42: 60, 56: 50, 70: 37.5}
    assert {group: found["curve", RESPONDERS, f"{group}"]["estimate"] for group in steps} == pytest.approx(steps)
    assert found["curve", RESPONDERS, "28"]["lower"] == pytest.approx(32.8717, abs=1e-4)  # R: 0.328717
    assert found["median", RESPONDERS, ""]["estimate"] == 8
    assert found["median", RESPONDERS, ""]["reason"] == "the upper limit is not reached"
    assert found["tick", RESPONDERS, "84"]["k"] == 3
    at_risk = [row for (statistic, _, _), row in found.items() if statistic == "at_risk"]
    assert [row["n"] + row["k"] + row["n_missing"] for row in at_risk] == [10] * len(at_risk)


def test_the_share_of_all_treated_counts_who_is_missing_or_came_back_as_not_responding():
    people = [
        held_until(0, {"week_1": 4.0, "week_12": 4.0}),  # held, though week 4 is missing
        held_until(1, {"week_1": 4.0, "week_4": 8.0, "week_12": 4.0}),  # lost and came back
        held_until(2, {"week_12": 4.0}),  # the first response counts at once
        held_until(3, {"week_1": 4.0}),  # missing at week 12
        held_until(4, {"week_1": 8.0, "week_12": 8.0}),
        replace(held_until(5, {"week_1": 4.0}), not_due=frozenset({"week_12"})),
    ]
    found = rows(people)["still", "treated", "12"]
    assert (found["visit"], found["k"], found["n"], found["n_missing"]) == ("week_12", 2, 5, 1)


def test_a_visit_without_a_recorded_day_counts_at_its_planned_day():
    found = rows([held_until(i, {"week_1": 4.0, "week_8": 8.0}) for i in range(12)])
    assert found["median", RESPONDERS, ""]["estimate"] == 7
    assert found["median", EARLIEST, ""]["estimate"] == 0


def test_what_is_counted_as_a_response_follows_the_plan():
    own = the_study()
    plan = own.protocol.plan
    half = plan.model_copy(update={"durability": plan.durability.model_copy(update={"percent": 50})})
    stricter = replace(own, protocol=own.protocol.model_copy(update={"plan": half}))
    tables = cohort([held_until(0, {"week_1": 5.0}), held_until(1, {"week_1": 4.0})])
    counts = [durability(Cohort(tables, study, AS_OF))[0]["k"] for study in (own, stricter)]
    assert counts == [2, 1]


def test_an_exact_fall_of_thirty_percent_is_a_response_and_one_just_short_of_it_is_not():
    pairs = [(9, 6.3), (6, 4.2), (3, 2.1), (7, 4.9), (7, 4.91)]
    found = rows([with_pain(i, start, after) for i, (start, after) in enumerate(pairs)])
    assert (found["responded", "treated", ""]["k"], found["responded", "treated", ""]["n"]) == (4, 5)


# --- re-treatment ---------------------------------------------------------------------------------------------------


def sessions(number: int, *days: int) -> list[dict]:
    return [
        {
            "source_ref": f"MedicationAdministration/{number}-{day}", "subject_id": f"p{number:04d}",
            "given_at": DAY_0 + timedelta(days=day), "given_on": pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=day),
            "route": "im", "session": place, "series": 1, "dose_mg": 40.0, "mg_per_kg": 0.5, "weight_kg": 80.0,
            "dose_basis": "mg", "flags": "",
        }
        for place, day in enumerate(days, 1)
    ]  # fmt: skip


def test_a_session_after_the_gap_is_a_re_treatment_and_a_series_still_running_is_not_counted():
    doses = [
        *sessions(0, 0, 7, 14, 77),  # again after 63 days: week 9
        *sessions(1, 0, 27, 54),  # never a gap of 28 days; over, watched for 46 days
        *sessions(2, 0, 90),  # again after 90 days
        *sessions(3, 80),  # 20 days ago: the series may go on
        *sessions(4, 0, 28),  # exactly the gap
    ]
    people = [with_pain(i, 8, 4) for i in range(5)]
    found = rows(people, as_of=DAY_0.date() + timedelta(days=100), doses=build(DOSES, doses))
    again = found["retreated", "treated", ""]
    assert (again["k"], again["n"], again["n_missing"]) == (3, 4, 1)
    assert (again["lower"], again["upper"]) == (None, None)  # people were watched for unequal times
    assert again["reason"].startswith("of those on record so far")
    assert found["retreated", "treated", "12"]["estimate"] == pytest.approx(100 * (1 - 3 / 4 / 2))
    assert ("retreated", "treated", "4") not in found  # before the gap has passed there can be none


def test_death_ends_the_watching_for_a_re_treatment():
    doses = build(DOSES, [*sessions(0, 0), *sessions(1, 0, 60), *sessions(2, 0)])
    people = [with_pain(i, 8, 4) for i in range(3)]
    late = DAY_0.date() + timedelta(days=400)
    alive = rows(people, as_of=late, doses=doses)["time_to_retreatment", "treated", ""]
    died = rows(people, happened(0, "death", 40), as_of=late, doses=doses)["retreated", "treated", "12"]
    assert alive["n"] == died["n"] == 3
    assert died["estimate"] == pytest.approx(50)  # one of the two still watched


# --- the section ----------------------------------------------------------------------------------------------------


def test_the_release_edition_says_that_durability_is_internal_and_shows_no_number_of_it():
    kept = releasable(64, "release").estimates
    assert "durability" not in set(kept["section"])
    section = next(one for one in model(64, "release").sections if one.id == "durability")
    assert not section.tables
    assert not section.figures
    assert "internal edition only" in section.finding


@pytest.mark.parametrize("n", [5, 12, 64])
def test_every_column_of_the_at_risk_table_and_the_ends_add_up_to_the_responders(n):
    section = next(one for one in model(n).sections if one.id == "durability")
    responded = facts(n).one("durability", "responded", population="treated").k
    columns = zip(*(row[1:] for row in section.tables["at_risk"].rows), strict=True)
    assert {sum(int(cell.text) for cell in column) for column in columns} == {responded}
    assert sum(int(row[2].text.split()[0]) for row in section.tables["ends"].rows) == responded


# --- hopeless cohorts -----------------------------------------------------------------------------------------------

HOPELESS = {
    "nobody": [],
    "one": [with_pain(0, 8, 4)],
    "two": [with_pain(0, 8, 4), with_pain(1, 8, 8)],
    "nobody scored": [with_pain(i, None) for i in range(12)],
    "nobody responded": [with_pain(i, 8, 8, 8, 8) for i in range(12)],
    "all respond for ever": [with_pain(i, 8, 2, 2, 2, 2, 2, 2) for i in range(12)],
    "all lost at once": [with_pain(i, 8, 2, 8) for i in range(12)],
    "start at 0": [with_pain(i, 0, 0, 0) for i in range(12)],
    "one visit": [with_pain(i, 8, 2 + i % 7) for i in range(12)],
}


@pytest.mark.parametrize("name", HOPELESS)
def test_a_hopeless_cohort_has_rows_that_say_why(name):
    analysis = analyse(cohort(HOPELESS[name]), the_study(), as_of=AS_OF)
    own = analysis.estimates[analysis.estimates["section"] == "durability"]
    assert own["n"].notna().all()
    assert own["n_missing"].notna().all()
    assert (own["method"] != "").all()
    lacking = own["estimate"].isna() | own["lower"].isna() | own["upper"].isna()
    assert (own.loc[lacking, "reason"] != "").all()
    assert not np.isinf(own[["estimate", "lower", "upper"]].astype("Float64").to_numpy("float64", na_value=0)).any()


def test_fewer_than_ten_responders_have_steps_without_an_interval():
    found = rows([with_pain(i, 8, 4, 4, 8 if i < 4 else 4) for i in range(9)])
    step = found["curve", RESPONDERS, "21"]
    assert (step["estimate"], step["lower"]) == (pytest.approx(100 * 5 / 9), None)
    assert step["reason"] == "fewer than 10 people: no interval"


def test_a_large_cohort_adds_up_and_the_columns_of_the_at_risk_table_fit():
    people = random_people(11, 120)
    found = rows(people)
    n = found["responded", "treated", ""]["k"]
    ends = [row["k"] for (how, _, _), row in found.items() if how in {"lost", "censored"}]
    dated = [row["k"] for (how, _, _), row in found.items() if how in {"curve", "tick"}]
    assert sum(ends) == sum(dated) == n > 50
    assert all(len(week_grid(longest)) <= 9 for longest in (0, 3, 8.9, 26, 60, 500))
    assert durability_events(Cohort(cohort(people), the_study(), AS_OF)).empty
