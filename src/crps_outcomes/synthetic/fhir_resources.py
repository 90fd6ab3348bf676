"""Builders of FHIR R4 resources as plain dictionaries: what a site's record system would send.

Every resource carries the HL7 test tag HTEST, a version and a last update two hours after what it describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crps_outcomes.definitions import Code, ListedCode

Json = dict[str, Any]

TAG: Json = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
LOCAL = "https://example.org/crps-outcomes"
UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem"
_ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
WRITTEN_AFTER = timedelta(hours=2)
AMENDED_AFTER = timedelta(hours=3)

#: Codes of adverse events that the domain handbook confirms; the others travel as text.
EVENT_CODES = {"nausea": "R11.0", "dizziness": "R42", "raised blood pressure": "R03.0"}


@dataclass(frozen=True)
class Entry:
    """What every clinical resource states: its id, whose it is, and when it happened (with zone)."""

    id: str
    person_id: str
    at: datetime


# --- pieces -------------------------------------------------------------------------------------------------------


def written(at: datetime) -> str:
    """A FHIR dateTime with the offset of its own zone."""
    return at.isoformat(timespec="seconds")


def in_utc(at: datetime) -> str:
    """A FHIR dateTime or instant in UTC."""
    return at.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def resource(resource_type: str, identity: str, updated_at: datetime, elements: Json) -> Json:
    """A first version of a resource; elements that are None are left out."""
    meta = {"versionId": "1", "lastUpdated": in_utc(updated_at), "tag": [TAG]}
    present = {name: value for name, value in elements.items() if value is not None}
    return {"resourceType": resource_type, "id": identity, "meta": meta, **present}


def concept(codes: Sequence[Code | ListedCode] = (), text: str = "") -> Json:
    """A CodeableConcept of listed codes and words."""
    coding = [
        {"system": one.system, "code": one.code, **({"display": one.display} if one.display else {})} for one in codes
    ]
    return {**({"coding": coding} if coding else {}), **({"text": text} if text else {})}


def hl7(code_system: str, code: str) -> Json:
    """A CodeableConcept of one code from HL7's own terminology."""
    return {"coding": [{"system": f"{_HL7}/{code_system}", "code": code}]}


def local(code_system: str, code: str) -> Json:
    """A CodeableConcept of one local example code."""
    return {"coding": [{"system": f"{LOCAL}/{code_system}", "code": code}]}


def quantity(value: float, unit: str) -> Json:
    """A Quantity with a UCUM code."""
    return {"value": number(value), "unit": unit, "system": UCUM, "code": unit}


def number(value: float) -> float | int:
    """The shortest JSON number: 5 instead of 5.0, and no tail of binary fractions."""
    exact = round(float(value), 6)
    return int(exact) if exact.is_integer() else exact


def patient_reference(person_id: str) -> Json:
    return {"reference": f"Patient/{person_id}"}


def _about(entry: Entry) -> Json:
    return {"subject": patient_reference(entry.person_id)}


# --- who ----------------------------------------------------------------------------------------------------------


def patient(entry: Entry, born_on: date, *, is_female: bool) -> Json:
    """A person whose name says that it is invented."""
    return resource(
        "Patient",
        entry.id,
        entry.at,
        {
            "identifier": [{"system": f"{LOCAL}/patient", "value": entry.id}],
            "active": True,
            "name": [{"use": "official", "family": f"Synthetic-{entry.id.removeprefix('crps-')}", "given": ["Test"]}],
            "gender": "female" if is_female else "male",
            "birthDate": born_on.isoformat(),
        },
    )


def consent(entry: Entry, role: str) -> Json:
    """Consent to research: given, or withdrawn in one of two ways sites record that."""
    is_denied = role == "consent denied"
    provision = {"type": "deny", "period": {"start": entry.at.date().isoformat()}} if is_denied else {"type": "permit"}
    return resource(
        "Consent",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "status": "inactive" if role == "consent inactive" else "active",
            "scope": hl7("consentscope", "research"),
            "category": [{"text": "Consent to use of health records for outcomes research"}],
            "patient": patient_reference(entry.person_id),
            "dateTime": written(entry.at),
            "policyRule": {"text": "Invented policy for test data"},
            "provision": provision,
        },
    )


def condition(entry: Entry, code: Json, onset_on: date, verification: str = "confirmed") -> Json:
    """A diagnosis."""
    is_refuted = verification in {"refuted", "entered-in-error"}
    return resource(
        "Condition",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "clinicalStatus": None if is_refuted else hl7("condition-clinical", "active"),
            "verificationStatus": hl7("condition-ver-status", verification),
            "code": code,
            **_about(entry),
            "onsetDateTime": onset_on.isoformat(),
            "recordedDate": entry.at.date().isoformat(),
        },
    )


def encounter(entry: Entry, minutes: int = 150) -> Json:
    """A visit to the clinic."""
    end = entry.at + timedelta(minutes=minutes)
    return resource(
        "Encounter",
        entry.id,
        end,
        {
            "status": "finished",
            "class": {"system": f"{_HL7}/v3-ActCode", "code": "AMB", "display": "ambulatory"},
            **_about(entry),
            "period": {"start": written(entry.at), "end": written(end)},
        },
    )


# --- what was measured --------------------------------------------------------------------------------------------


def observation(entry: Entry, category: str, code: Json, elements: Json) -> Json:
    """A measurement; ``elements`` holds its value or components."""
    return resource(
        "Observation",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "status": "final",
            "category": [hl7("observation-category", category)],
            "code": code,
            **_about(entry),
            "effectiveDateTime": written(entry.at),
            **elements,
        },
    )


def questionnaire_response(entry: Entry, questionnaire: str, items: list[Json]) -> Json:
    """A filled-in questionnaire."""
    return resource(
        "QuestionnaireResponse",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "questionnaire": questionnaire,
            "status": "completed",
            **_about(entry),
            "authored": written(entry.at),
            "item": items,
        },
    )


# --- what was given -----------------------------------------------------------------------------------------------


def medication(identity: str, drug: Json, ingredient: Json, strength: tuple[float, float]) -> Json:
    """A Medication without version, as it stands alone or contained; ``strength`` is mg in mL."""
    mg, ml = strength
    return {
        "resourceType": "Medication",
        "id": identity,
        "code": drug,
        "ingredient": [
            {
                "itemCodeableConcept": ingredient,
                "isActive": True,
                "strength": {"numerator": quantity(mg, "mg"), "denominator": quantity(ml, "mL")},
            }
        ],
    }


def administration(entry: Entry, drug: Json, dosage: Json, encounter_id: str = "") -> Json:
    """An injection; ``drug`` holds medication[x] and whatever is contained for it."""
    return resource(
        "MedicationAdministration",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            **drug,
            "status": "completed",
            **_about(entry),
            "context": {"reference": f"Encounter/{encounter_id}"} if encounter_id else None,
            "effectiveDateTime": written(entry.at),
            "dosage": dosage,
        },
    )


def medicine(entry: Entry, resource_type: str, code: Json, ended_on: date | None = None) -> Json:
    """A medicine beside ketamine, as MedicationRequest or MedicationStatement; only the latter can say its end."""
    end = {"end": ended_on.isoformat()} if ended_on else {}
    own: dict[str, Json] = {
        "MedicationRequest": {"intent": "order", "authoredOn": entry.at.date().isoformat()},
        "MedicationStatement": {"effectivePeriod": {"start": entry.at.date().isoformat(), **end}},
    }
    return resource(
        resource_type,
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "status": "completed" if ended_on else "active",
            **own[resource_type],
            "medicationCodeableConcept": code,
            **_about(entry),
        },
    )


def procedure(entry: Entry, code: Json) -> Json:
    """A completed procedure."""
    return resource(
        "Procedure",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "status": "completed",
            "code": code,
            **_about(entry),
            "performedDateTime": entry.at.date().isoformat(),
        },
    )


def adverse_event(entry: Entry, term: str, severity: str, *, is_serious: bool, suspect: str) -> Json:
    """An adverse event in the site's own words, with a code where the handbook confirms one."""
    code = EVENT_CODES.get(term)
    coding = {"coding": [{"system": _ICD_10_CM, "code": code}]} if code else {}
    return resource(
        "AdverseEvent",
        entry.id,
        entry.at + WRITTEN_AFTER,
        {
            "actuality": "actual",
            "event": {**coding, "text": term},
            **_about(entry),
            "date": written(entry.at),
            "seriousness": hl7("adverse-event-seriousness", "serious" if is_serious else "non-serious"),
            "severity": hl7("adverse-event-severity", severity),
            "suspectEntity": [{"instance": {"reference": suspect}}],
        },
    )


# --- who belongs to the cohort ------------------------------------------------------------------------------------


def research_subject(entry: Entry, study_id: str, status: str, period: Json) -> Json:
    return resource(
        "ResearchSubject",
        entry.id,
        entry.at,
        {
            "status": status,
            "period": period,
            "study": {"reference": f"ResearchStudy/{study_id}"},
            "individual": patient_reference(entry.person_id),
        },
    )


def episode_of_care(entry: Entry, episode_type: Json, status: str, period: Json) -> Json:
    return resource(
        "EpisodeOfCare",
        entry.id,
        entry.at,
        {
            "status": status,
            "type": [episode_type],
            "patient": patient_reference(entry.person_id),
            "period": period,
        },
    )


def care_plan(entry: Entry, category: Json, status: str, period: Json) -> Json:
    return resource(
        "CarePlan",
        entry.id,
        entry.at,
        {
            "status": status,
            "intent": "plan",
            "category": [category],
            **_about(entry),
            "period": period,
        },
    )
