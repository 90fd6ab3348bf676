"""Screen: which resources of a snapshot may be read at all, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.fhirtime import moment
from crps_outcomes.rejections import Rejection
from crps_outcomes.validation import BETWEEN, first_refused, judge, judge_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from crps_outcomes.study import Study
    from crps_outcomes.validation import Verdicts

#: A status counts only when it stands here: a positive list, so that a status nobody thought of never counts.
ACCEPTED_STATUS: dict[str, frozenset[str]] = {
    "Observation": frozenset({"final", "amended", "corrected"}),
    "QuestionnaireResponse": frozenset({"completed", "amended"}),
    "MedicationAdministration": frozenset({"completed", "stopped"}),  # stopped: an event, never a dose
    "MedicationRequest": frozenset({"active", "completed", "stopped", "on-hold"}),
    "MedicationStatement": frozenset({"active", "completed", "stopped", "on-hold"}),
    "Procedure": frozenset({"completed"}),
    "AdverseEvent": frozenset({"actual"}),
}
#: Administrations that count as no exposure, counted apart by their status.
_TOLD_APART = frozenset({"not-done", "on-hold", "in-progress"})
REFUTED = frozenset({"refuted", "entered-in-error"})


@dataclass(frozen=True)
class Screened:
    """Accepted resources by type, sorted by id, and the refused ones with their rule."""

    resources: Mapping[str, tuple[fhir.Resource, ...]]
    rejections: tuple[Rejection, ...]

    def of(self, resource_type: str) -> tuple[fhir.Resource, ...]:
        return self.resources.get(resource_type, ())


def screen(
    lines: Iterable[tuple[str, bytes]],
    records: Mapping[str, str],
    *,
    as_of: date,
    study: Study,
    verdicts: Verdicts,
) -> Screened:
    """Judge every resource once: shape, subject, status, date, and validity by fhir.resources.

    Args:
        lines: (resource type, canonical JSON) pairs of the clinical types.
        records: every patient record whose resources count -> the surviving record of that person.
        as_of: the last day that exists for this report.
        study: its time zone, for times that are written in UTC; and its tolerances, for faults that do no harm.
        verdicts: the memory of fhir.resources' verdicts.
    """
    readable: list[tuple[str, bytes, fhir.Resource]] = []
    rejections: list[Rejection] = []
    for resource_type, raw in lines:
        read = _read(resource_type, raw)
        if not isinstance(read, Rejection):
            read = refuse(read, records, as_of, study.protocol.timezone) or of_survivor(read, records)
        if isinstance(read, Rejection):
            rejections.append(read)
        else:
            readable.append((resource_type, raw, read))
    accepted: dict[str, list[fhir.Resource]] = {}
    judged = judge_all([(resource_type, raw) for resource_type, raw, _ in readable], verdicts)
    for (resource_type, _, resource), verdict in zip(readable, judged, strict=True):
        fault = first_refused(resource_type, verdict, study.tolerances)
        if fault:
            rejections.append(Rejection(resource.ref, "not-valid-fhir", fault))
        else:
            if verdict:
                rejections.append(Rejection(resource.ref, "tolerated-deviation", verdict.split(BETWEEN)[0]))
            accepted.setdefault(resource_type, []).append(resource)
    return Screened(
        {name: tuple(sorted(found, key=lambda one: one.id)) for name, found in accepted.items()}, tuple(rejections)
    )


def refuse(resource: fhir.Resource, records: Mapping[str, str], as_of: date, timezone: str) -> Rejection | None:
    """The first rule of screening that refuses the resource, or None."""
    return _refuse_subject(resource, records) or _refuse_status(resource) or _refuse_future(resource, as_of, timezone)


def subject_id(resource: fhir.Resource) -> str:
    """The id of the patient a resource is about, or ""."""
    if isinstance(resource, fhir.Patient):
        return resource.id
    reference = getattr(resource, "subject", None) or getattr(resource, "patient", None) or fhir.Reference()
    return fhir.id_in(reference, "Patient")


def of_survivor(resource: fhir.Resource, records: Mapping[str, str]) -> fhir.Resource:
    """The resource as one of the surviving record, so that nothing later needs to know of merges."""
    record = subject_id(resource)
    if isinstance(resource, fhir.Patient) or records.get(record, record) == record:
        return resource
    return msgspec.structs.replace(resource, subject=fhir.Reference(f"Patient/{records[record]}"))


def _read(resource_type: str, raw: bytes) -> fhir.Resource | Rejection:
    try:
        return fhir.decode(resource_type, raw)
    except msgspec.DecodeError:
        identity = msgspec.json.decode(raw, type=fhir.Resource)
        # The reader's message may quote the source; fhir.resources names the element instead.
        fault = judge(resource_type, raw).split(BETWEEN)[0] or "an element of another shape"
        return Rejection(f"{resource_type}/{identity.id}", "not-valid-fhir", fault)


def _refuse_subject(resource: fhir.Resource, records: Mapping[str, str]) -> Rejection | None:
    if isinstance(resource, fhir.Medication):
        return None
    subject = subject_id(resource)
    if not subject:
        return Rejection(resource.ref, "subject-missing")
    if subject not in records:
        return Rejection(resource.ref, "subject-not-enrolled")
    is_merged = isinstance(resource, fhir.Patient) and records[subject] != subject
    return Rejection(resource.ref, "merged-record") if is_merged else None


def _refuse_status(resource: fhir.Resource) -> Rejection | None:
    if isinstance(resource, fhir.Condition):
        refuted = {coding.code for coding in resource.verification_status.coding} & REFUTED
        return Rejection(resource.ref, "status-not-accepted") if refuted else None
    accepted = ACCEPTED_STATUS.get(resource.resource_type)
    if accepted is None:
        return None
    status = resource.actuality if isinstance(resource, fhir.AdverseEvent) else getattr(resource, "status", "")
    if not status:
        return Rejection(resource.ref, "status-missing")
    if status in accepted:
        return None
    is_given = isinstance(resource, fhir.MedicationAdministration)
    return Rejection(resource.ref, "status-not-accepted", status if is_given and status in _TOLD_APART else "")


def written_date(resource: fhir.Resource) -> str:
    """The date a resource carries, in FHIR's order of preference; "" for none."""
    period = getattr(resource, "effective_period", None) or getattr(resource, "performed_period", None)
    names = ("effective_date_time", "effective_instant", "authored", "authored_on", "performed_date_time", "date",
             "detected", "recorded_date")  # fmt: skip
    found = next((text for name in names if (text := getattr(resource, name, ""))), "")
    return found or (period.start if period else "") or getattr(resource, "issued", "")


def _refuse_future(resource: fhir.Resource, as_of: date, timezone: str) -> Rejection | None:
    day = moment(written_date(resource), timezone).on
    return Rejection(resource.ref, "date-in-future") if day is not None and day > as_of else None
