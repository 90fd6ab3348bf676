"""Events: the site's own term, severity and seriousness read apart, treatments by their class, sessions by their day."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from study_day import DOSE, run

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


# --- harms, grades, stops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concept", "category"),
    [
        ({"text": "nausea"}, "nausea or vomiting"),
        ({"text": "Severe vomiting overnight"}, "nausea or vomiting"),
        (
            {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "R4420"}], "text": "nausea"},
            "nausea or vomiting",
        ),
        ({"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "R442"}, {"code": "x"}]}, ""),
        (
            {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "r440"}], "text": "nausea"},
            "emergence reaction",
        ),
        ({"text": "headache"}, ""),
        ({"text": "nauseating"}, ""),
    ],
)
def test_a_harm_has_the_kind_its_code_names_and_only_without_one_its_words(concept, category):
    assert row_of(event(event=concept))["category"] == category


@pytest.mark.parametrize(
    ("severity", "grade"),
    [
        ({"coding": [{"system": "http://example.org/ctcae", "code": "3"}]}, 3),
        ({"text": "CTCAE grade 2"}, 2),
        ({"text": "grade 2 to grade 3"}, None),
        ({"coding": [{"system": SEVERITY, "code": "severe"}]}, None),
    ],
)
def test_a_grade_is_read_where_the_source_states_one_and_never_worked_out(severity, grade):
    row = row_of(event(severity=severity))
    assert pd.isna(row["grade"]) if grade is None else row["grade"] == grade


def test_an_event_dated_only_by_its_detection_counts_on_that_day():
    undated = {key: value for key, value in event().items() if key != "date"}
    assert str(row_of(undated | {"detected": "2026-01-11"})["onset_on"].date()) == "2026-01-11"


def test_an_event_belongs_to_the_session_of_the_injection_it_names():
    second = {**DOSE, "id": "dose2", "effectiveDateTime": "2026-01-10T18:00:00-05:00"}
    blamed = event(date="2026-01-11", suspectEntity=[{"instance": {"reference": "MedicationAdministration/dose2"}}])
    rows = run([second, event(), event(id="later", date="2026-01-10T18:30:00-05:00"), blamed | {"id": "blamed"}])[
        0
    ].events
    assert dict(zip(rows["source_ref"].str.removeprefix("AdverseEvent/"), rows["session"], strict=True)) == {
        "blamed": 2,
        "event": 1,
        "later": 2,
    }


def test_a_listed_diagnosis_is_a_harm_of_its_own_kind_and_no_adverse_event():
    cystitis = {
        "resourceType": "Condition",
        "id": "c",
        "code": coded("http://hl7.org/fhir/sid/icd-10-cm", "N3010"),
        "subject": {"reference": "Patient/p1"},
        "recordedDate": "2026-03-01",
    }
    row = row_of(cystitis)
    assert (row["kind"], row["category"], row["source_ref"]) == ("condition", "urinary", "Condition/c")
    assert pd.isna(row["is_serious"])
    assert rules({key: value for key, value in cystitis.items() if key != "recordedDate"}) == ["date-missing"]
    assert rules({**cystitis, "code": {"text": "migraine"}}) == ["not-crps-diagnosis"]
    assert rules({**cystitis, "recordedDate": "2099-01-01"}) == ["date-in-future"]


def test_an_injection_broken_off_is_a_stop_with_its_reason_and_no_dose():
    stopped = {**DOSE, "id": "half", "status": "stopped", "statusReason": [{"text": "patient vomiting"}]}
    rows, _, rejections = run([stopped])
    assert rows.doses["source_ref"].tolist() == ["MedicationAdministration/dose"]
    [row] = rows.events.to_dict("records")
    assert (row["kind"], row["term"], row["category"]) == ("discontinuation", "patient vomiting", "nausea or vomiting")
    assert rejections.empty
    assert rules({**stopped, "medicationCodeableConcept": {"text": "midazolam"}}) == ["not-ketamine"]


def test_an_order_of_ketamine_that_was_stopped_is_a_stop():
    order = {
        "resourceType": "MedicationRequest",
        "id": "order",
        "status": "stopped",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": {"text": "ketamine"},
        "authoredOn": "2026-02-01",
    }
    row = row_of(order)
    assert (row["kind"], row["term"], row["category"]) == ("discontinuation", "reason not recorded", "")


@pytest.mark.parametrize("status", ["not-done", "on-hold", "in-progress"])
def test_administrations_that_did_not_happen_are_counted_apart_by_their_status(status):
    rejections = run([{**DOSE, "id": "other", "status": status}])[2]
    assert rejections["reason"].str.endswith(f"({status})").tolist() == [True]
