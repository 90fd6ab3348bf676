"""Events: the site's own term, severity and seriousness read apart, treatments by their class, sessions by their day."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from study_day import run

SEVERITY = "http://terminology.hl7.org/CodeSystem/adverse-event-severity"
SERIOUS = "http://terminology.hl7.org/CodeSystem/adverse-event-seriousness"


def event(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "AdverseEvent",
        "id": "event",
        "actuality": "actual",
        "event": {"text": "nausea"},
        "subject": {"reference": "Patient/p1"},
        "date": "2026-01-10T10:40:00-05:00",
        **changes,
    }


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def row_of(resource: dict[str, Any]) -> pd.Series:
    events = run([resource])[0].events
    assert len(events) == 1
    return events.iloc[0]


def rules(resource: dict[str, Any]) -> list[str]:
    rows, _, rejections = run([resource])
    assert rows.events.empty
    return rejections["rule"].tolist()


def test_an_event_on_the_day_of_a_session_belongs_to_it_and_another_does_not():
    assert row_of(event())["session"] == 1
    assert pd.isna(row_of(event(date="2026-01-11"))["session"])


@pytest.mark.parametrize(("code", "read"), [("serious", True), ("non-serious", False), ("Non-serious", False)])
def test_seriousness_is_read_from_its_own_element(code, read):
    row = row_of(event(seriousness=coded(SERIOUS, code)))
    assert bool(row["is_serious"]) is read
    assert row["severity"] == "not recorded"


def test_severity_is_not_seriousness():
    row = row_of(event(severity=coded(SEVERITY, "severe")))
    assert row["severity"] == "severe"
    assert pd.isna(row["is_serious"])


@pytest.mark.parametrize(
    ("concept", "term"),
    [
        ({"text": " nausea "}, "nausea"),
        ({"coding": [{"code": "R11.0", "display": "Nausea"}]}, "Nausea"),
        ({"coding": [{"code": "R11.0"}]}, "R11.0"),
        (None, "not named"),
    ],
)
def test_the_sites_own_words_come_first(concept, term):
    changed = event(event=concept) if concept else {key: value for key, value in event().items() if key != "event"}
    assert row_of(changed)["term"] == term


def test_what_did_not_happen_or_has_no_day_is_refused():
    assert rules(event(actuality="potential")) == ["status-not-accepted"]
    assert rules(event(date="2026")) == ["date-too-coarse"]
    assert rules({key: value for key, value in event().items() if key != "date"}) == ["date-missing"]


def test_treatments_are_listed_by_class_and_others_are_refused():
    listed = {
        "resourceType": "MedicationRequest",
        "id": "request",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": coded("http://www.nlm.nih.gov/research/umls/rxnorm", "72625"),
        "authoredOn": "2025-12-01",
    }
    row = row_of(listed)
    assert (row["kind"], row["term"], str(row["onset_on"].date())) == ("co-treatment", "SNRI", "2025-12-01")
    unlisted = {**listed, "medicationCodeableConcept": {"text": "vitamin C"}}
    assert rules(unlisted) == ["not-a-treatment-of-interest"]
    assert rules({**listed, "status": "cancelled"}) == ["status-not-accepted"]
