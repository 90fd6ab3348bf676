"""The estimand: what counts after something else happened, on cohorts small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from cohort_tables import DAY_0, cohort, event, the_study, with_pain

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.endpoints import endpoints
from crps_outcomes.analysis.estimand import before_score, changes, durability_events, happened, response
from crps_outcomes.estimators import mean_t, p_of_no_change
from crps_outcomes.plan import Intercurrent, KeySecondary, Look, Subgroups
from crps_outcomes.tables import ESTIMATES, FULL_ESTIMATES, INTERCURRENT, build

if TYPE_CHECKING:
    from crps_outcomes.study import Study

PAIN = the_study().measures["pain_nrs"]


def on(day: int) -> pd.Timestamp:
    return pd.Timestamp(DAY_0.date()) + pd.Timedelta(days=day)


def came(number: int, kind: str, day: int | None, term: str = "") -> dict[str, Any]:
    """Something that happened to person ``number`` on a study day, None where nobody knows the day."""
    return {
        "subject_id": f"p{number:04d}", "kind": kind, "term": term, "study_day": day,
        "happened_on": None if day is None else on(day), "source_ref": f"Thing/{number}-{kind}-{term}-{day}",
    }  # fmt: skip


def stopped(number: int, day: int, category: str) -> dict[str, Any]:
    return event(
        number, f"p{number:04d}", "in the words of the site", kind="discontinuation", category=category,
        onset_at=None, onset_on=on(day), session=None,
    )  # fmt: skip


def watched(people, *, later=(), stops=(), plan: dict[str, Any] | None = None) -> Cohort:
    """A cohort whose scores are taken on the planned day of their visit; ``plan`` changes the analysis plan."""
    tables = cohort(people, events=stops)
    days = {"baseline": -3} | {visit.id: visit.day for visit in the_study().protocol.visits}
    taken = on(0) + pd.to_timedelta(tables.outcomes["visit"].map(days), unit="D")
    outcomes = tables.outcomes.assign(taken_on=taken.mask(tables.outcomes["state"] != "observed"))
    tables = replace(tables, intercurrent=build(INTERCURRENT, later), outcomes=outcomes)
    return Cohort(tables, planned(**(plan or {})))


def planned(**change: Any) -> Study:
    """The study with a changed analysis plan."""
    study = the_study()
    plan = study.protocol.plan.model_copy(update=change)
    return replace(study, protocol=study.protocol.model_copy(update={"plan": plan}))


def rows_of(made: Cohort) -> pd.DataFrame:
    return build(ESTIMATES, endpoints(made)).set_index(["statistic", "group"])


def test_each_event_finds_the_rule_of_the_plan_for_its_kind_and_class():
    later = [
        came(1, "treatment started", 9, "opioid"),
        came(1, "treatment started", 10, "SNRI"),
        came(2, "procedure", 3, "sympathetic block"),
        came(3, "death", None),
    ]
    found = happened(watched([with_pain(n, 7, 5, 4, 3) for n in (1, 2, 3)], later=later))
    assert found["rule"].tolist() == ["treatment started: opioid", "anything else", "procedure", "death"]


def test_a_stop_counts_as_one_for_harm_only_when_its_reason_is_a_harm():
    stops = [stopped(1, 5, "nausea or vomiting"), stopped(2, 5, ""), stopped(3, -5, "nausea or vomiting")]
    found = happened(watched([with_pain(n, 7, 5, 4, 3) for n in (1, 2, 3)], stops=stops))
    assert found[["subject_id", "rule"]].to_numpy().tolist() == [["p0001", "stopped for harm"]]


def test_events_that_end_a_response_or_its_watching_come_in_order_and_undated_ones_do_not():
    later = [
        came(1, "procedure", 50, "sympathetic block"),
        came(1, "further series", 40),
        came(1, "other ketamine route", 40, "iv"),
        came(1, "treatment stopped", 10, "opioid"),
        came(2, "death", None),
    ]
    found = durability_events(watched([with_pain(1, 7, 5), with_pain(2, 7, 5)], later=later))
    assert list(found.columns) == ["subject_id", "happened_on", "kind", "effect"]
    assert found.to_numpy().tolist() == [
        ["p0001", on(40), "further series", "loss"],
        ["p0001", on(40), "other ketamine route", "censor"],
        ["p0001", on(50), "procedure", "loss"],
    ]


def test_nobody_and_nothing_give_empty_tables_with_their_columns():
    for people in ([], [with_pain(1, 7, 5)]):
        found = durability_events(watched(people))
        assert found.empty
        assert list(found.columns) == ["subject_id", "happened_on", "kind", "effect"]


# --- the mean change ----------------------------------------------------------------------------------------------


def test_a_score_after_a_hypothetical_event_does_not_count_and_one_of_the_same_day_or_before_does():
    people = [with_pain(n, 8, None, None, 8 - n) for n in (1, 2, 3, 4)]
    later = [
        came(1, "other ketamine route", 27, "iv"),  # the day before the score of week 4
        came(2, "other ketamine route", 28, "iv"),  # the day of the score
        came(3, "procedure", 5, "sympathetic block"),  # treatment policy for the mean change
        came(4, "other ketamine route", None, "iv"),  # no day: it cannot be placed
    ]
    found = changes(watched(people, later=later), "pain_nrs", "week_4")
    assert found.to_dict() == {"p0002": -2, "p0003": -3, "p0004": -4}


def test_the_primary_row_leaves_out_what_the_estimand_leaves_out_and_counts_it_as_missing():
    people = [with_pain(n, 8, None, None, 8 - n % 4) for n in range(1, 13)]  # changes -1, -2, -3, 0 three times
    later = [came(n, "other ketamine route", 20, "iv") for n in (4, 8)]  # two changes of 0
    row = rows_of(watched(people, later=later)).loc[("planned", "primary")]
    hand = mean_t(np.array([-1, -2, -3, -1, -2, -3, -1, -2, -3, 0], dtype=float))
    assert (row["n"], row["n_missing"]) == (10, 2)
    assert row["estimate"] == pytest.approx(-1.8)
    assert (row["lower"], row["upper"]) == pytest.approx((hand.lower, hand.upper))
    assert row["lower"] == pytest.approx(-1.8 - 2.2622 * 1.0328 / 10**0.5, abs=1e-3)  # t of 9 df; SD by hand


# --- response -----------------------------------------------------------------------------------------------------


def test_a_composite_event_before_the_score_is_no_response_and_one_after_it_changes_nothing():
    people = [with_pain(n, 8, None, None, 4) for n in (1, 2, 3)] + [with_pain(4, 8, 4)]
    later = [came(1, "treatment started", 10, "opioid"), came(2, "treatment started", 30, "opioid"),
             came(3, "treatment started", 10, "SNRI")]  # fmt: skip
    found = response(watched(people, later=later), PAIN, "week_4", 30)
    assert found.dropna().to_dict() == {"p0001": False, "p0002": True, "p0003": True}
    assert found.index.tolist() == ["p0001", "p0002", "p0003", "p0004"]


def test_a_stop_for_harm_is_no_response_and_any_other_stop_is_not():
    people = [with_pain(n, 8, None, None, 4) for n in (1, 2)]
    made = watched(people, stops=[stopped(1, 5, "nausea or vomiting"), stopped(2, 5, "")])
    assert response(made, PAIN, "week_4", 30).tolist() == [False, True]


def test_the_share_of_responders_keeps_everybody_due_in_its_denominator():
    people = [with_pain(n, 8, None, None, 4) for n in range(1, 13)] + [with_pain(20, 8, 4)]
    later = [came(n, "procedure", 9, "sympathetic block") for n in (1, 2, 3)]
    row = rows_of(watched(people, later=later)).loc[("responder", "30")]
    assert (row["k"], row["n"], row["n_missing"]) == (9, 13, 1)
    assert row["method"] == "Wilson interval"


def test_events_are_counted_before_the_score_or_without_one_before_the_window_ends():
    people = [with_pain(n, 8, 4, None, 4) for n in (1, 2)] + [with_pain(n, 8, 4) for n in (3, 4)]
    later = [came(1, "procedure", 27, "a"), came(2, "procedure", 30, "a"), came(3, "procedure", 30, "a"),
             came(4, "procedure", 36, "a"), came(4, "death", None)]  # fmt: skip
    made = watched(people, later=later)
    assert before_score(made, "pain_nrs", "week_4")["subject_id"].tolist() == ["p0001", "p0003"]
    rows = rows_of(made)
    assert (rows.loc[("before_score", "procedure"), "k"], rows.loc[("before_score", "procedure"), "n"]) == (2, 4)
    assert rows.loc[("before_score", "death"), ["k", "n_missing"]].tolist() == [0, 1]


def test_a_plan_that_counts_every_score_gives_the_numbers_of_treatment_policy():
    people = [with_pain(n, 8, None, None, 8 - n % 4) for n in range(1, 13)]
    later = [came(1, "other ketamine route", 5, "iv"), came(2, "procedure", 5, "a")]
    plain = {"intercurrent": (Intercurrent(event="procedure"),)}
    with_events, without = (rows_of(watched(people, later=each, plan=plain)) for each in (later, ()))
    about = ["n", "k", "estimate", "lower", "upper"]
    for place in (("planned", "primary"), ("responder", "30")):
        assert with_events.loc[place, about].equals(without.loc[place, about])


# --- several endpoints --------------------------------------------------------------------------------------------


def falls(seed: int, **means: float) -> list[Any]:
    """Twenty people whose pain changes by about the means given, by visit."""
    chance = np.random.default_rng(seed)
    visits = [visit.id for visit in the_study().protocol.visits]
    return [
        with_pain(n, 8, *(8 + means[v] + chance.normal(0, 1) if v in means else None for v in visits))
        for n in range(20)
    ]


def secondaries(*visits: str, **more: Any) -> dict[str, Any]:
    return {"key_secondary": tuple(KeySecondary(measure="pain_nrs", visit=visit) for visit in visits), **more}


def test_the_order_stops_at_the_first_interval_that_includes_no_change():
    people = falls(1, week_4=-3, week_12=-3, week_8=0, week_26=-3)
    rows = rows_of(watched(people, plan=secondaries("week_12", "week_8", "week_26"))).loc["reading"]
    assert rows.loc[["primary", "1", "2", "3"], "reason"].tolist() == [
        "the interval excludes 0", "the interval excludes 0", "the interval includes 0", "descriptive: the order had stopped",
    ]  # fmt: skip
    assert rows.loc[["primary", "1", "2", "3"], "k"].tolist() == [1, 1, 0, 0]


def test_nothing_is_read_after_a_primary_endpoint_that_includes_no_change():
    for rule in ("hierarchical", "holm"):
        made = watched(falls(2, week_4=0, week_12=-3), plan=secondaries("week_12", multiplicity=rule))
        rows = rows_of(made).loc["reading"]
        assert rows.loc[["primary", "1"], "k"].tolist() == [0, 0]
        assert rows.loc["1", "reason"] == "descriptive: the order had stopped"


def test_holm_reads_the_key_secondaries_together_by_adjusted_p_values():
    people = falls(3, week_4=-3, week_8=-0.55, week_12=-0.5, week_26=-3)
    made = watched(people, plan=secondaries("week_8", "week_12", "week_26", multiplicity="holm"))
    rows = rows_of(made).loc["reading"]
    read = ("week_8", "week_12", "week_26")
    p = sorted(p_of_no_change(made.at("pain_nrs", visit, "analysed").values("change")) for visit in read)
    expected = sorted([min(1, 3 * p[0]), max(2 * p[1], 3 * p[0]), max(p[2], 2 * p[1])])
    assert sorted(rows["estimate"].dropna()) == pytest.approx(expected)
    assert (rows.loc[["1", "2", "3"], "k"] == (rows.loc[["1", "2", "3"], "estimate"] < 0.05)).all()


def test_a_share_of_responders_neither_stops_the_order_nor_enters_the_tests():
    share = KeySecondary(measure="pain_nrs", visit="week_8", summary="responders", percent=50)
    after = KeySecondary(measure="pain_nrs", visit="week_12")
    people = falls(4, week_4=-3, week_8=-1, week_12=-3)
    for rule in ("hierarchical", "holm"):
        rows = rows_of(watched(people, plan={"key_secondary": (share, after), "multiplicity": rule})).loc["reading"]
        assert rows.loc["1", "reason"] == "descriptive: a share is not set against 0"
        assert rows.loc[["1", "2"], "k"].tolist() == [0, 1]


def test_without_an_interval_the_order_stops():
    made = watched([with_pain(n, 8, None, None, 5, None, 5) for n in range(20)])  # everybody changes by the same
    rows = rows_of(made).loc["reading"]
    assert rows.loc["primary", "reason"] == "no interval"
    assert rows["k"].sum() == 0


@pytest.mark.parametrize("rule", ["hierarchical", "holm"])
def test_before_the_first_look_nothing_is_read_and_at_a_look_the_primary_is_read_by_its_interval(rule):
    secondary = (KeySecondary(measure="pain_nrs", visit="week_12"),)
    people = falls(4, week_4=-3, week_12=-3)
    n = len(people)

    def at(*sizes: int) -> pd.DataFrame:
        looks = tuple(Look(people=size) for size in sizes)
        plan = {"key_secondary": secondary, "multiplicity": rule, "looks": looks}
        return rows_of(watched(people, plan=plan)).loc["reading"].loc[["primary", "1"]]

    early = at(n + 1, 2 * n)
    assert early["reason"].tolist() == ["not at a look yet: descriptive", "descriptive: the order had stopped"]
    assert early["k"].sum() == 0
    reached = at(n - 1, 2 * n)
    assert reached["k"].tolist() == [1, 1]
    assert reached.loc["primary", ["n", "n_missing"]].tolist() == [n - 1, 0]
    assert reached.loc["primary", "method"].endswith("by the latest look reached")


def test_an_interval_that_leaves_no_change_out_for_everybody_may_include_it_at_the_look():
    people = [with_pain(n, 5, None, None, 5 + (3 if n % 3 == 0 else -2)) for n in range(60)]  # -0.33 (-0.95 to 0.28)
    people += [with_pain(n, 8, None, None, 4) for n in range(60, 100)]
    one = watched(people, plan={"looks": (Look(people=60), Look(people=200))})
    usual = rows_of(one).loc[("planned", "primary")]
    assert usual["upper"] < 0
    assert rows_of(one).loc[("reading", "primary"), "reason"] == "the interval includes 0"


# --- groups -------------------------------------------------------------------------------------------------------


def groups_of(people, **rules: Any) -> pd.DataFrame:
    made = watched(people, plan={"subgroups": Subgroups(**rules)})
    return rows_of(made).loc["subgroup"]


def test_a_group_has_its_own_interval_and_a_small_one_the_reason_why_not():
    people = [with_pain(n, 8, None, None, 8 - n % 4, sex="male" if n < 5 else "female") for n in range(41)]
    rows = groups_of(people, by=("sex",))
    hand = mean_t(np.array([-(n % 4) for n in range(5, 41)], dtype=float))
    assert rows.loc["sex: female", ["estimate", "lower", "upper"]].tolist() == pytest.approx(
        [hand.estimate, hand.lower, hand.upper]
    )
    assert rows.loc["sex: male", "reason"] == "fewer than 10 people"
    assert rows.loc["sex: male", ["n", "estimate"]].tolist() == [5, pd.NA]


def test_a_small_cohort_has_no_groups_at_all_and_says_so():
    rows = groups_of([with_pain(n, 8, None, None, 8 - n % 4) for n in range(39)], by=("sex", "limb"))
    assert rows.index.tolist() == ["limb", "sex"]
    assert set(rows["reason"]) == {"fewer than 40 people analysed: too few for groups"}
    assert rows["estimate"].isna().all()


def test_numbers_are_cut_where_the_plan_says_and_everybody_is_in_one_group():
    ages = [49.0, 50.0, None, 64.0, 65.0, 80.0] * 10
    people = [with_pain(n, 8, None, None, 8 - n % 4, age_years=age) for n, age in enumerate(ages)]
    rows = groups_of(people, by=("age",), age_cuts=(50, 65))
    assert rows["n"].to_dict() == {
        "age: under 50 years": 10, "age: 50 to under 65 years": 20, "age: 65 years or more": 20, "age: not known": 10,
    }  # fmt: skip


def test_no_group_is_compared_with_another():
    rows = groups_of([with_pain(n, 8, None, None, 8 - n % 4) for n in range(44)], by=("sex", "limb", "crps_type"))
    assert set(rows["method"]) == {"mean, t interval; exploratory"}


# --- cohorts of nobody --------------------------------------------------------------------------------------------

FEW = {
    "nobody": [],
    "one person": [with_pain(1, 7, 5, 4, 3)],
    "two people": [with_pain(n, 7, 5, 4, 3) for n in (1, 2)],
    "all missing": [with_pain(n, 7) for n in range(12)],
    "no variance": [with_pain(n, 7, 5, 5, 5, 5, 5, 5) for n in range(45)],
    "all respond": [with_pain(n, 7, 1, 1, n % 2, 1, 1) for n in range(45)],
    "one visit": [with_pain(n, 7, 5 - n % 3) for n in range(45)],
    "nobody treated": [with_pain(n, 7, 5, doses_mg=()) for n in range(3)],
}


@pytest.mark.parametrize("multiplicity", ["hierarchical", "holm"])
@pytest.mark.parametrize("name", FEW)
def test_every_row_has_n_missing_method_and_an_interval_or_the_reason_why_not(name, multiplicity):
    rows = build(FULL_ESTIMATES, endpoints(watched(FEW[name], plan={"multiplicity": multiplicity})))
    assert not rows[["estimate", "lower", "upper"]].isin([np.inf, -np.inf]).any(axis=None)
    assert set(rows["statistic"]) == {"planned", "responder", "reading", "before_score", "subgroup"}
