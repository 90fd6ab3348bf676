"""Context: limb, duration, Budapest state, treatments before and beside ketamine, and what happens after the first dose."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from study_day import DIAGNOSIS, DOSE, PERSON, STUDY, run

from crps_outcomes.context import CATEGORIES, budapest, context

ICD = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
LOCAL = "https://example.org/crps-outcomes"
SNOMED = "http://snomed.info/sct"
ABOUT = {"subject": {"reference": "Patient/p1"}}


def known(*resources: dict[str, Any], diagnosis: dict[str, Any] | None = None) -> Any:
    """The context tables of the person whose first dose is on 10 January 2026."""
    rows, scored, _ = run([PERSON, diagnosis or DIAGNOSIS, DOSE, *resources], person=False)
    return context(rows, scored.subjects, STUDY)


def person(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    [row] = known(*resources, **more).context.to_dict("records")
    return row


def refused(*resources: dict[str, Any]) -> set[tuple[str, str]]:
    table = run(resources)[2]
    return set(zip(table["resource_ref"], table["rule"], strict=True))


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


# --- limb and duration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "limb", "side", "match"),
    [
        ({}, "upper", "right", "code"),
        ({"code": coded(ICD, "G56.43")}, "upper", "both", "code"),
        ({"code": coded(ICD, "g90522")}, "lower", "left", "code"),
        ({"code": coded(ICD, "G90.59")}, "other", "not recorded", "code"),
        ({"code": coded(ICD, "G90.50")}, "not recorded", "not recorded", ""),
        (
            {"code": coded(ICD, "G90.50"), "bodySite": [coded(SNOMED, "61685007"), coded(SNOMED, "7771000")]},
            "lower",
            "left",
            "code",
        ),
        ({"code": {"text": "CRPS of the left foot"}}, "lower", "left", "words"),
        ({"code": coded(ICD, "G90.50"), "bodySite": [{"text": "Right hand and forearm"}]}, "upper", "right", "words"),
        ({"code": {"text": "CRPS, hand and foot, bilateral"}}, "more than one", "both", "words"),
    ],
)
def test_limb_and_side_come_from_codes_and_only_without_them_from_words(changes, limb, side, match):
    row = person(diagnosis={**DIAGNOSIS, **changes})
    assert (row["limb"], row["side"], row["limb_match"]) == (limb, side, match)


@pytest.mark.parametrize(
    ("onset", "years", "precision"),
    [
        ({"onsetDateTime": "2024-01-10"}, 731 / 365.25, "day"),
        ({"onsetPeriod": {"start": "2024-01-10"}}, 731 / 365.25, "day"),
        ({"onsetDateTime": "2024-01"}, 726 / 365.25, "month"),
        ({"onsetDateTime": "2024"}, None, "year"),
        ({"onsetDateTime": "2026-03-01"}, None, "day"),
        ({}, None, "not recorded"),
    ],
)
def test_duration_runs_from_onset_to_the_first_dose_and_never_from_a_year_alone(onset, years, precision):
    row = person(diagnosis=DIAGNOSIS | onset)
    assert row["onset_precision"] == precision
    if years is None:
        assert pd.isna(row["years_since_onset"])
    else:
        assert row["years_since_onset"] == pytest.approx(years)


# --- Budapest ---------------------------------------------------------------------------------------------------------


def features(symptoms: str, signs: str) -> dict[str, bool | None]:
    """One letter per category, in order: p present, a absent, - not recorded."""
    answers = {"p": True, "a": False}
    return {
        f"{kind}: {category}": answers[letter]
        for kind, letters in (("symptom", symptoms), ("sign", signs))
        for category, letter in zip(CATEGORIES, letters, strict=True)
        if letter in answers
    }


@pytest.mark.parametrize(
    ("symptoms", "signs", "state"),
    [
        ("pppp", "ppaa", "research"),
        ("pppa", "ppaa", "clinical"),
        ("ppp-", "pp--", "clinical"),
        ("ppaa", "pppp", "not met"),
        ("pppp", "paaa", "not met"),
        ("pp--", "pppp", "not known"),
        ("pppp", "p---", "not known"),
        ("----", "----", "not known"),
    ],
)
def test_budapest_counts_categories_and_never_takes_unexamined_for_absent(symptoms, signs, state):
    assert budapest(features(symptoms, signs)) == state


def test_budapest_is_not_met_where_something_explains_it_better():
    assert budapest(features("pppp", "pppp") | {"criterion: no better diagnosis": False}) == "not met"


def test_what_the_clinician_states_about_the_criteria_counts():
    assert budapest({"criteria: clinical": True}) == "clinical"
    assert budapest({"criteria: research": True}) == "research"
    assert budapest({"criteria: clinical": False}) == "not met"


def finding(feature: str, value: dict[str, Any], day: str = "2026-01-05", number: int = 1) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"finding-{feature}-{number}",
        "status": "final",
        "code": coded(f"{LOCAL}/budapest", feature),
        "effectiveDateTime": day,
        **ABOUT,
        **value,
    }


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ({"valueBoolean": True}, "clinical"),
        ({"valueBoolean": False}, "not met"),
        ({"valueInteger": 1}, "clinical"),
        ({"valueCodeableConcept": {"text": "Present"}}, "clinical"),
        ({"valueCodeableConcept": coded(SNOMED, "2667000")}, "not met"),
    ],
)
def test_a_finding_is_read_in_every_way_records_say_yes_and_no(value, state):
    assert person(finding("clinical", value))["budapest"] == state


def test_the_latest_findings_by_the_first_dose_count_and_later_ones_do_not():
    yes, no = {"valueBoolean": True}, {"valueBoolean": False}
    earlier, later = finding("clinical", no, "2025-11-01"), finding("clinical", yes, "2026-01-09", 2)
    assert person(earlier, later)["budapest"] == "clinical"
    assert person(earlier, finding("clinical", yes, "2026-02-01", 2))["budapest"] == "not met"
    assert person(later, finding("clinical", no, "2026-01-09", 3))["budapest"] == "not known"


def test_a_panel_of_findings_is_read_by_its_components():
    panel = {
        **finding("panel", {}),
        "code": {"text": "Examination"},
        "component": [
            {"code": coded(f"{LOCAL}/budapest", f"{kind}-{category}"), "valueBoolean": True}
            for kind in ("symptom", "sign")
            for category in CATEGORIES
        ],
    }
    assert person(panel)["budapest"] == "research"


def test_evidence_of_the_diagnosis_counts_as_present():
    codes = [coded(f"{LOCAL}/budapest", f"symptom-{name}") for name in CATEGORIES[:3]]
    codes += [coded(f"{LOCAL}/budapest", f"sign-{name}") for name in CATEGORIES[:2]]
    diagnosis = {**DIAGNOSIS, "recordedDate": "2025-12-01", "evidence": [{"code": codes}]}
    assert person(diagnosis=diagnosis)["budapest"] == "clinical"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({"valueString": "maybe"}, "value-missing"),
        ({"valueInteger": 7}, "answer-unknown"),
        ({"valueCodeableConcept": {"text": "perhaps"}}, "answer-unknown"),
        ({"dataAbsentReason": {"text": "not examined"}}, "data-absent"),
    ],
)
def test_a_finding_that_says_neither_yes_nor_no_is_refused(value, rule):
    assert refused(finding("clinical", value)) == {("Observation/finding-clinical-1", rule)}


# --- treatments -------------------------------------------------------------------------------------------------------


def statement(number: int, drug: str, start: str, end: str = "", status: str = "active") -> dict[str, Any]:
    period = {"start": start} | ({"end": end} if end else {})
    return {
        "resourceType": "MedicationStatement",
        "id": f"m{number}",
        "status": status,
        "medicationCodeableConcept": {"text": drug},
        "effectivePeriod": period,
        **ABOUT,
    }


def request(number: int, drug: str, day: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": f"r{number}",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"text": drug},
        "authoredOn": day,
        **ABOUT,
        **more,
    }


def procedure(number: int, words: str, day: str) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": f"p{number}",
        "status": "completed",
        "code": {"text": words},
        "performedDateTime": day,
        **ABOUT,
    }


def treatment(*resources: dict[str, Any]) -> dict[str, Any]:
    [row] = known(*resources).treatments.to_dict("records")
    return row


def test_a_class_is_found_by_the_words_of_a_product_where_no_code_is_listed():
    assert treatment(request(1, "Gabapentin 300 MG Oral Capsule", "2025-11-01"))["treatment"] == "gabapentinoid"
    assert treatment(procedure(1, "Left stellate ganglion block", "2025-11-01"))["treatment"] == "sympathetic block"


def test_weeks_on_record_are_a_lower_bound_and_end_at_the_first_dose():
    assert treatment(statement(1, "duloxetine", "2025-11-29"))["weeks_before"] == 6
    assert treatment(statement(1, "duloxetine", "2025-11-29", "2025-12-13", "completed"))["weeks_before"] == 2
    assert treatment(request(1, "duloxetine", "2025-11-29", status="completed"))["weeks_before"] == 0
    two = (
        request(1, "duloxetine", "2025-11-01", status="completed"),
        request(2, "duloxetine", "2025-12-13", status="completed"),
    )
    assert treatment(*two)["weeks_before"] == 6


@pytest.mark.parametrize(
    ("resource", "at_start"),
    [
        (statement(1, "pregabalin", "2025-06-01"), True),
        (statement(1, "pregabalin", "2025-06-01", "2026-01-10", "completed"), True),
        (statement(1, "pregabalin", "2025-06-01", "2026-01-09", "completed"), False),
        (statement(1, "pregabalin", "2026-01-11"), False),
        (request(1, "pregabalin", "2025-06-01", status="stopped"), None),
    ],
)
def test_whether_a_medicine_goes_on_at_the_first_dose_is_not_known_without_an_end(resource, at_start):
    row = treatment(resource)
    assert pd.isna(row["is_at_start"]) if at_start is None else row["is_at_start"] == at_start


def test_refractory_needs_three_classes_tried_for_six_weeks_and_nothing_on_record_is_not_known():
    tried = [
        statement(1, "gabapentin", "2025-06-01"),
        statement(2, "duloxetine", "2025-06-01", "2025-09-01", "completed"),
        procedure(3, "lumbar sympathetic block", "2025-12-20"),
    ]
    assert (person(*tried)["refractory"], person(*tried)["n_tried"]) == ("yes", 3)
    assert person(*tried[:2])["refractory"] == "no"
    too_short = statement(4, "amitriptyline", "2025-12-20")
    assert (person(*tried[:2], too_short)["refractory"], person(*tried[:2], too_short)["n_tried"]) == ("no", 2)
    assert person()["refractory"] == "not known"
    assert person(statement(5, "tramadol", "2026-02-01"))["refractory"] == "not known"


@pytest.mark.parametrize("changes", [{"intent": "proposal"}, {"intent": "plan"}, {"doNotPerform": True}])
def test_a_request_that_is_only_planned_or_forbids_is_no_treatment(changes):
    assert refused(request(1, "gabapentin", "2025-06-01", **changes)) == {("MedicationRequest/r1", "only-planned")}


def test_a_request_for_ketamine_is_no_exposure():
    assert refused(request(1, "ketamine 50 mg/mL", "2025-06-01")) == {
        ("MedicationRequest/r1", "no-evidence-of-exposure")
    }


def test_a_medicine_may_be_a_contained_medication():
    inner = {"resourceType": "Medication", "id": "m", "code": coded(RXNORM, "25480")}
    given = request(1, "", "2025-06-01", contained=[inner], medicationReference={"reference": "#m"})
    del given["medicationCodeableConcept"]
    assert treatment(given)["treatment"] == "gabapentinoid"
    given["medicationReference"] = {"reference": "Medication/elsewhere"}
    assert refused(given) == {("MedicationRequest/r1", "medication-missing")}


# --- intercurrent events ------------------------------------------------------------------------------------------------


def happened(*resources: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    table = known(*resources).intercurrent
    return [(row.kind, row.term, None if pd.isna(row.study_day) else int(row.study_day)) for row in table.itertuples()]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([statement(1, "tramadol", "2026-01-20")], [("treatment started", "opioid", 10)]),
        ([statement(1, "tramadol", "2025-12-20"), statement(2, "oxycodone", "2026-01-20")], []),
        (
            [statement(1, "tramadol", "2025-03-01", "2025-04-01", "completed"), statement(2, "tramadol", "2026-01-20")],
            [("treatment restarted", "opioid", 10)],
        ),
        ([statement(1, "tramadol", "2025-12-20", "2026-01-25", "completed")], [("treatment stopped", "opioid", 15)]),
        ([statement(1, "tramadol", "2025-12-20", "2026-01-09", "completed")], []),
        ([request(1, "tramadol", "2025-12-20", status="stopped"), request(2, "tramadol", "2026-01-20")], []),
        (
            [procedure(1, "spinal cord stimulator implant", "2026-03-11")],
            [("procedure", "spinal cord stimulation", 60)],
        ),
        ([procedure(1, "spinal cord stimulator implant", "2026-01-10")], []),
    ],
)
def test_starts_stops_and_procedures_after_the_first_dose_are_intercurrent_events(resources, expected):
    assert happened(*resources) == expected


def test_ketamine_by_another_route_a_further_series_and_death_are_intercurrent_events():
    infused = {
        **DOSE,
        "id": "iv",
        "effectiveDateTime": "2026-02-01",
        "dosage": DOSE["dosage"] | {"route": {"text": "IV"}},
    }
    again = {**DOSE, "id": "again", "effectiveDateTime": "2026-03-01T10:00:00-05:00"}
    second = {**infused, "id": "iv2", "effectiveDateTime": "2026-02-02"}
    assert sorted(happened(infused, second, again)) == [("further series", "", 50), ("other ketamine route", "iv", 22)]
    rows, scored, _ = run([PERSON | {"deceasedDateTime": "2026-05-01"}, DIAGNOSIS, DOSE], person=False)
    [death] = context(rows, scored.subjects, STUDY).intercurrent.to_dict("records")
    assert (death["kind"], death["study_day"], death["source_ref"]) == ("death", 111, "Patient/p1")


def test_somebody_never_treated_has_a_context_but_no_treatments_or_events():
    rows, scored, _ = run([PERSON, DIAGNOSIS, statement(1, "tramadol", "2026-01-20")], person=False)
    own = context(rows, scored.subjects, STUDY)
    assert own.treatments.empty
    assert own.intercurrent.empty
    [row] = own.context.to_dict("records")
    assert (row["limb"], row["refractory"], row["budapest"]) == ("upper", "not known", "not known")
