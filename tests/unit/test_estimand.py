"""The estimand: what counts after something else happened, on cohorts small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
from cohort_tables import DAY_0, cohort, event, the_study, with_pain

from crps_outcomes.analysis.cohort import Cohort
from crps_outcomes.analysis.estimand import durability_events, happened
from crps_outcomes.tables import INTERCURRENT, build


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


def watched(people, *, later=(), stops=()) -> Cohort:
    tables = cohort(people, events=stops)
    return Cohort(replace(tables, intercurrent=build(INTERCURRENT, later)), the_study())


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
