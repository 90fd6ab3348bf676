"""Adverse events, procedures and co-treatments into EVENTS rows, and diagnoses into CRPS type and onset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crps_outcomes import resources as fhir
from crps_outcomes.fhirtime import moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.stages.screen import subject_id, written_date

if TYPE_CHECKING:
    from datetime import date

    from crps_outcomes.study import Study

Row = dict[str, Any]
_SEVERITIES = ("mild", "moderate", "severe")
_SERIOUS = {"serious": True, "non-serious": False}
_ICD = re.compile(r"icd-?1[01]", re.IGNORECASE)
_SYSTEM_NAMES = {
    "http://hl7.org/fhir/sid/icd-10-cm": "icd-10-cm",
    "http://hl7.org/fhir/sid/icd-10": "icd-10",
    "http://id.who.int/icd/release/11/mms": "icd-11",
    "http://snomed.info/sct": "snomed",
}
_CRPS_TEXT = re.compile(r"\bcomplex regional pain syndrome\b|\bCRPS\b|\bcausalgia\b", re.IGNORECASE)
_LISTED_TREATMENTS = {
    "Procedure": ("procedure", "procedures"),
    "MedicationRequest": ("co-treatment", "co_treatments"),
    "MedicationStatement": ("co-treatment", "co_treatments"),
}


@dataclass(frozen=True)
class Diagnosis:
    """A CRPS diagnosis: its type, the rule that matched it, and its onset where the source gives a day."""

    source_ref: str
    subject_id: str
    crps_type: str
    match: str
    onset_on: date | None


def read_adverse_event(event: fhir.AdverseEvent, study: Study) -> Row | Rejection:
    """One EVENTS row; severity and seriousness are read apart, and never one from the other."""
    severities = {coding.code.casefold() for coding in event.severity.coding} & set(_SEVERITIES)
    codes = {coding.code.casefold() for coding in event.seriousness.coding}  # HL7's own examples write Non-serious
    serious = {_SERIOUS[code] for code in codes & _SERIOUS.keys()}
    row = _event(event, "adverse event", plain_term(event.event), study)
    if isinstance(row, Rejection):
        return row
    return row | {
        "severity": severities.pop() if len(severities) == 1 else "not recorded",
        "is_serious": serious.pop() if len(serious) == 1 else None,
    }


def read_treatment(
    resource: fhir.Procedure | fhir.MedicationRequest | fhir.MedicationStatement, study: Study
) -> Row | Rejection:
    """One EVENTS row under the class its codelist gives it."""
    kind, codelist = _LISTED_TREATMENTS[resource.resource_type]
    concept = resource.code if isinstance(resource, fhir.Procedure) else resource.medication_codeable_concept
    codings = concept.coding if concept else ()
    groups = {group for c in codings if (group := study.group_of(codelist, c.system, c.code))}
    if not groups:
        return Rejection(resource.ref, "not-a-treatment-of-interest")
    if len(groups) > 1:
        return Rejection(resource.ref, "two-values", f"classes of {codelist}")
    return _event(resource, kind, groups.pop(), study)


def read_diagnosis(condition: fhir.Condition, study: Study) -> Diagnosis | Rejection:
    """The CRPS type a Condition stands for: by listed code, else by its words (flagged as such)."""
    rules = study.protocol.condition_codelist
    found = [
        (group, _SYSTEM_NAMES.get(coding.system, coding.system))
        for coding in condition.code.coding
        if (group := study.group_of(rules, coding.system, _normalised(coding)))
    ]
    if not found and _CRPS_TEXT.search(condition.code.text):
        found = [("not specified", "text")]
    if not found:
        return Rejection(condition.ref, "not-crps-diagnosis")
    groups = {group for group, _ in found} - {"not specified"}
    if len(groups) > 1:
        return Rejection(condition.ref, "two-values", "CRPS types")
    onset = moment(condition.onset_date_time, study.protocol.timezone).on
    return Diagnosis(
        condition.ref, subject_id(condition), groups.pop() if groups else "not specified", found[0][1], onset
    )


def plain_term(concept: fhir.CodeableConcept) -> str:
    """The site's own words for an event: text, else the first display, else the first code."""
    words = (concept.text, *(c.display for c in concept.coding), *(c.code for c in concept.coding), "not named")
    return next(word.strip() for word in words if word.strip())


def _event(resource: fhir.Resource, kind: str, term: str, study: Study) -> Row | Rejection:
    when = moment(written_date(resource), study.protocol.timezone)
    if kind == "adverse event" and when.on is None:
        return Rejection(resource.ref, "date-too-coarse" if written_date(resource) else "date-missing")
    return {
        "source_ref": resource.ref,
        "subject_id": subject_id(resource),
        "kind": kind,
        "term": term,
        "onset_at": when.at,
        "onset_on": when.on,
        "severity": "not recorded",
        "is_serious": None,
        "session": None,
    }


def _normalised(coding: fhir.Coding) -> str:
    """ICD codes written without the dot or in small letters, as the codelist writes them."""
    if not _ICD.search(coding.system):
        return coding.code
    code = coding.code.upper()
    return code if "." in code or len(code) <= 3 else f"{code[:3]}.{code[3:]}"
