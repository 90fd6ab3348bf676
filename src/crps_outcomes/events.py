"""Adverse events, harms recorded as diagnoses, stops of ketamine and other treatments into EVENTS rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from crps_outcomes import resources as fhir
from crps_outcomes.exposure import is_ketamine, medication_of, said
from crps_outcomes.fhirtime import moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.stages.screen import subject_id, written_date
from crps_outcomes.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crps_outcomes.exposure import Pharmacy
    from crps_outcomes.study import Study

Row = dict[str, Any]
Prescribed = fhir.MedicationRequest | fhir.MedicationStatement
_SEVERITIES = ("mild", "moderate", "severe")
_SERIOUS = {"serious": True, "non-serious": False}
_CTCAE = re.compile(r"ctcae|common terminology criteria", re.IGNORECASE)
_GRADE_IN_WORDS = re.compile(r"\bgrade\s*([1-5])\b", re.IGNORECASE)
_ICD = re.compile(r"icd-?1[01]", re.IGNORECASE)
#: Intents of a request that somebody really gave; a proposal or plan is no treatment.
_ORDERED = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})


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
        "category": category_of([event.event], study),
        "grade": _grade(event.severity),
        "suspects": tuple(fhir.id_in(one.instance, "MedicationAdministration") for one in event.suspect_entity),
    }


def read_harm(condition: fhir.Condition, study: Study) -> Row | Rejection:
    """A diagnosis that a codelist of harms names, as an EVENTS row of its own kind: it is no adverse event report."""
    category = category_of([condition.code], study)
    if not category:
        return Rejection(condition.ref, "not-crps-diagnosis")
    texts = (condition.onset_date_time, condition.onset_period.start, condition.recorded_date)
    row = _event(condition, "condition", plain_term(condition.code), study, next(filter(None, texts), ""))
    return row if isinstance(row, Rejection) else row | {"category": category}


def read_stop(given: fhir.MedicationAdministration, pharmacy: Pharmacy) -> Row | Rejection:
    """An injection that was broken off: a stop of ketamine with the reason the source gives, and no dose."""
    medication = medication_of(given, pharmacy)
    if medication is None:
        return Rejection(given.ref, "medication-missing")
    if not is_ketamine(medication, pharmacy.study):
        return Rejection(given.ref, "not-ketamine")
    return _stop(given, given.status_reason, pharmacy.study)


def read_medicine(prescribed: Prescribed, pharmacy: Pharmacy) -> Row | Rejection:
    """A medicine beside ketamine under its class. A request for ketamine is no exposure; one stopped is a stop."""
    study = pharmacy.study
    if isinstance(prescribed, fhir.MedicationRequest) and _is_only_planned(prescribed):
        return Rejection(prescribed.ref, "only-planned")
    medication = medication_of(prescribed, pharmacy)
    if medication is None:
        named = prescribed.medication_reference is not None
        return Rejection(prescribed.ref, "medication-missing" if named else "not-a-treatment-of-interest")
    if is_ketamine(medication, study):
        if isinstance(prescribed, fhir.MedicationRequest) and prescribed.status == "stopped":
            return _stop(prescribed, (prescribed.status_reason,), study)
        return Rejection(prescribed.ref, "no-evidence-of-exposure")
    concepts = [medication.code, *(part.item_codeable_concept for part in medication.ingredient)]
    return _treatment(prescribed, "co-treatment", study.protocol.context.medicine_codelist, concepts, study)


def _is_only_planned(request: fhir.MedicationRequest) -> bool:
    return request.do_not_perform or (bool(request.intent) and request.intent not in _ORDERED)


def read_procedure(procedure: fhir.Procedure, study: Study) -> Row | Rejection:
    """A procedure or course of therapy under its class."""
    return _treatment(procedure, "procedure", study.protocol.context.procedure_codelist, [procedure.code], study)


def _treatment(
    resource: Prescribed | fhir.Procedure,
    kind: str,
    codelist: str,
    concepts: Iterable[fhir.CodeableConcept],
    study: Study,
) -> Row | Rejection:
    groups = groups_of(concepts, codelist, study)
    if not groups:
        return Rejection(resource.ref, "not-a-treatment-of-interest")
    if len(groups) > 1:
        return Rejection(resource.ref, "two-values", f"classes of {codelist}")
    row = _event(resource, kind, min(groups), study)
    period = getattr(resource, "effective_period", None) or getattr(resource, "performed_period", None)
    ended_on = moment(period.end, study.protocol.timezone).on if period else None
    return row if isinstance(row, Rejection) else row | {"ended_on": ended_on, "status": resource.status}


def _stop(
    resource: fhir.MedicationAdministration | Prescribed, reasons: Iterable[fhir.CodeableConcept], study: Study
) -> Row | Rejection:
    """A stop in the source's words for why; its category says whether the reason is a harm."""
    own = [reason for reason in reasons if reason.coding or reason.text]
    term = plain_term(own[0]) if own else "reason not recorded"
    row = _event(resource, "discontinuation", term, study)
    return row if isinstance(row, Rejection) else row | {"category": category_of(own, study), "status": resource.status}


# --- classes --------------------------------------------------------------------------------------------------------


def groups_of(concepts: Iterable[fhir.CodeableConcept], codelist: str, study: Study) -> frozenset[str]:
    """The groups a codelist puts concepts in: by code, and only where no code is listed by the words it lists."""
    found = list(concepts)
    coded = {study.group_of(codelist, c.system, normalised(c)) for concept in found for c in concept.coding} - {None}
    if coded:
        return frozenset(group for group in coded if group)
    return study.groups_said(codelist, " | ".join(said(concept) for concept in found))


def category_of(concepts: Iterable[fhir.CodeableConcept], study: Study) -> str:
    """The kind of harm concepts name; the first in the order of names where they name several, "" for none."""
    return min(groups_of(concepts, study.protocol.safety.event_codelist, study), default="")


def normalised(coding: fhir.Coding) -> str:
    """ICD codes written without the dot or in small letters, as the codelist writes them."""
    if not _ICD.search(coding.system):
        return coding.code
    code = coding.code.upper()
    return code if "." in code or len(code) <= 3 else f"{code[:3]}.{code[3:]}"


def plain_term(concept: fhir.CodeableConcept) -> str:
    """The site's own words for an event: text, else the first display, else the first code."""
    words = (concept.text, *(c.display for c in concept.coding), *(c.code for c in concept.coding), "not named")
    return next(word for word in map(printable, words) if word)


def _grade(severity: fhir.CodeableConcept) -> int | None:
    """A CTCAE grade that the source states by code or in words; two different ones state none."""
    coded = {c.code for c in severity.coding if _CTCAE.search(c.system) and c.code in {"1", "2", "3", "4", "5"}}
    grades = coded or set(_GRADE_IN_WORDS.findall(said(severity)))
    return int(grades.pop()) if len(grades) == 1 else None


# --- one row --------------------------------------------------------------------------------------------------------

_NEEDS_A_DAY = frozenset({"adverse event", "condition", "discontinuation"})


def _event(resource: fhir.Resource, kind: str, term: str, study: Study, written: str | None = None) -> Row | Rejection:
    text = written_date(resource) if written is None else written
    when = moment(text, study.protocol.timezone)
    if kind in _NEEDS_A_DAY and when.on is None:
        return Rejection(resource.ref, "date-too-coarse" if text else "date-missing")
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
        "category": "",
        "grade": None,
        "ended_on": None,
        "status": "",
    }
