"""Pull: everything the source holds about the enrolled people, as an immutable snapshot, or a refusal.

Whom to ask for comes first (the selector, then Patients and Consents), then what is known about them. Only enrolled
people's resources are kept; of somebody who withdrew, the Consent that says so and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import SELECTOR_TYPES, Enrolment, Listed, cohort, enrol, listed, traces
from crps_outcomes.errors import IncompleteDataError, NoPatientsError
from crps_outcomes.fhir.source import FHIR_ID, Filter, Item, Part, Query, Unreadable, read_item
from crps_outcomes.home import write_private
from crps_outcomes.ledger import Account, account, complaint, ledger_table, merged, with_hole
from crps_outcomes.merges import concerned, directory_of
from crps_outcomes.patient_list import list_as_group
from crps_outcomes.rejections import Rejection, rejection_table
from crps_outcomes.snapshot import Completeness, Origin, Snapshot, write_snapshot
from crps_outcomes.state import Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import pandas as pd

    from crps_outcomes.definitions import Protocol
    from crps_outcomes.fhir.source import Session, Source
    from crps_outcomes.home import Home
    from crps_outcomes.patient_list import ListedPatient
    from crps_outcomes.progress import Tell

Keep = Callable[[Item], bool]


class _Administration(msgspec.Struct, frozen=True, rename="camel"):
    """What tells which Medication was given; the rest is screened later."""

    medication_reference: fhir.Reference = fhir.Reference()


_ADMINISTRATION = msgspec.json.Decoder(_Administration)


def _say_nothing(sentence: str) -> None:
    """For callers who do not watch."""


@dataclass(frozen=True)
class Pulled:
    """A published snapshot, its state ("complete" or "unverified"), the pull's LEDGER, and who is enrolled."""

    snapshot: Snapshot
    state: Completeness
    ledger: pd.DataFrame
    enrolment: Enrolment


def pull(
    source: Source,
    protocol: Protocol,
    home: Home,
    *,
    patients: Sequence[ListedPatient] = (),
    progress: Tell = _say_nothing,
) -> Pulled:
    """Take a complete snapshot from a source, or none.

    ``patients`` is the list of the enrolled where the protocol's selector is "list". The ledger is written below ``home.pulls`` in any case, as soon as the source has answered at all.

    Raises:
        SourceError: the source cannot be reached, refuses, or does not know a resource type.
        IncompleteDataError: something that should be there is missing; no snapshot is published.
        NoPatientsError: the selector names nobody who counts.
    """
    with source.open(wanted_types(protocol), protocol.pull) as session:
        taken, people, enrolment = _take(session, protocol, patients, progress)
        origin = _origin(source, session, protocol, taken)
    ledger = ledger_table(taken.rows)
    folder = _pull_folder(home, origin)
    write_private(folder / "ledger.csv", ledger.to_csv(index=False).encode())
    if taken.has_holes:
        raise IncompleteDataError(
            f"the data are incomplete, so nothing was published:\n{complaint(ledger)}\n"
            f"The ledger is pulls/{folder.name}/ledger.csv in the home folder."
        )
    if enrolment is None or not enrolment.enrolled:
        raise NoPatientsError(_nobody(people, enrolment, origin.selector))
    rejections = rejection_table(taken.rejections)
    snapshot = write_snapshot(home.snapshots, origin, taken.kept, ledger=ledger, rejections=rejections)
    Records(home.state_url).add_snapshot(snapshot.manifest)
    return Pulled(snapshot, origin.completeness, ledger, enrolment)


def wanted_types(protocol: Protocol) -> tuple[str, ...]:
    """The resource types the source must know: the selector's, and those the study folder names."""
    asked = () if protocol.enrolment.selector == "list" else SELECTOR_TYPES[protocol.enrolment.selector]
    return tuple(dict.fromkeys((*asked, "Patient", *protocol.pull.resource_types)))


def _take(
    session: Session, protocol: Protocol, patients: Sequence[ListedPatient], progress: Tell
) -> tuple[Account, Listed, Enrolment | None]:
    """Everything, in five steps; a hole in what decides who is enrolled ends it, later holes are gathered."""
    day = date.fromisoformat(_local_day(session.pulled_at, protocol))
    cohort_ = account(_decisive(session.parts, protocol), _nothing)
    if not cohort_.has_holes:
        given = _given(patients) if protocol.enrolment.selector == "list" else _take_cohort(session, protocol, progress)
        cohort_ = merged([cohort_, given])
    people = listed(_decoded(cohort_), protocol, as_of=day)
    if cohort_.has_holes or not (people.active or people.active_identifiers):
        return cohort_, people, None
    persons, enrolment = _take_people(session, protocol, cohort_, people, progress)
    if persons.has_holes or not enrolment.enrolled:
        return merged([cohort_, persons]), people, enrolment
    clinical = _take_clinical(session, protocol, enrolment, progress)
    medications = _take_medications(session, protocol, clinical, progress)
    return merged([cohort_, persons, clinical, medications]), people, enrolment


def _given(patients: Sequence[ListedPatient]) -> Account:
    """The Group that a patient list becomes, as if the source had held it."""
    group = _item(list_as_group(patients))
    return account([Part("patient-list", 0, "Group", declared=1, items=(group,), is_verified=True)], lambda _: True)


def _take_cohort(session: Session, protocol: Protocol, progress: Tell) -> Account:
    """The selector's resources of this study's cohort, whoever they name; nothing of other cohorts."""
    rule = protocol.enrolment
    first, *then = SELECTOR_TYPES[rule.selector]
    by, token = _selector_filter(protocol)
    found = _fetch(session, protocol, [Query(first, by, (token,))], _in_cohort(protocol, ()), progress)
    studies = [fhir.decode(first, item.body) for item in found.items(first)]
    queries = [Query(name, "study", tuple(study.id for study in studies)) for name in then]
    return merged([found, _fetch(session, protocol, queries, _in_cohort(protocol, studies), progress)])


def _take_people(
    session: Session, protocol: Protocol, cohort_: Account, people: Listed, progress: Tell
) -> tuple[Account, Enrolment]:
    """Patients and Consents of the people listed, and of every record merged with theirs.

    Kept are all their Consents, and the Patients of the enrolled; of the others, how they were joined (`traces`).
    """
    day = date.fromisoformat(_local_day(session.pulled_at, protocol))
    queries = [Query("Patient", "_id", people.active)]
    parts = _arrived(session, protocol, queries, _is_patient, progress)  # any may be the survivor of somebody listed
    patients = _patients_in(account(parts, _is_patient))
    wanted = concerned(patients, people.active, people.active_identifiers)
    directory = directory_of([one for one in patients if one.id in wanted])

    def keep(item: Item) -> bool:
        return item.id in wanted if _is_patient(item) else directory.record(_patient_of(item)) in wanted

    if "Consent" in protocol.pull.resource_types:
        parts += _arrived(session, protocol, [Query("Consent", "patient", tuple(sorted(wanted)))], keep, progress)
    held = _decoded(merged([cohort_, account(parts, keep)]))
    enrolment = enrol(held, protocol, as_of=day)
    left = {name: _item(trace) for name, trace in traces(held, protocol, enrolment).items()}
    parts = [replace(part, items=tuple(_traced(item, left) for item in part.items)) for part in parts]
    patients_kept = {*enrolment.records, *left}
    return account(parts, lambda item: item.id in patients_kept if _is_patient(item) else keep(item)), enrolment


def _patients_in(found: Account) -> list[Any]:
    return _decoded(found).get("Patient", [])


def _patient_of(item: Item) -> fhir.Reference:
    return cast("fhir.Consent", fhir.decode("Consent", item.body)).patient


def _item(resource: dict[str, Any]) -> Item:
    item = read_item(msgspec.json.encode(resource))
    assert isinstance(item, Item)
    return item


def _traced(item: Item, left: dict[str, Item]) -> Item:
    """A Patient who does not count, without anything about them; the version stays, so that the newest is kept."""
    if not _is_patient(item) or item.id not in left:
        return item
    return replace(left[item.id], last_updated=item.last_updated, version_id=item.version_id)


def _take_clinical(session: Session, protocol: Protocol, enrolment: Enrolment, progress: Tell) -> Account:
    """Everything else the study folder names, of the enrolled people; what names nobody is told, not kept."""
    done = {*SELECTOR_TYPES[protocol.enrolment.selector], "Patient", "Consent", "Medication"}
    names = [name for name in dict.fromkeys(protocol.pull.resource_types) if name not in done]
    queries = [Query(name, "patient", tuple(enrolment.records)) for name in names]
    parts = _arrived(session, protocol, queries, lambda item: item.subject_id in enrolment.records, progress)
    found = account(parts, lambda item: item.subject_id in enrolment.records)
    homeless = {item.ref for part in parts for item in part.items if not item.subject_id}
    refused = (Rejection(ref, "subject-missing") for ref in sorted(homeless))
    return replace(found, rejections=(*found.rejections, *refused))


def _take_medications(session: Session, protocol: Protocol, clinical: Account, progress: Tell) -> Account:
    """The Medications that the kept administrations refer to."""
    used = {_medication_id(item) for item in clinical.items("MedicationAdministration")} - {""}
    query = Query("Medication", "_id", tuple(sorted(used)))
    return _fetch(session, protocol, [query], lambda item: item.id in used, progress)


def _fetch(session: Session, protocol: Protocol, queries: Sequence[Query], keep: Keep, progress: Tell) -> Account:
    return account(_arrived(session, protocol, queries, keep, progress), keep)


def _arrived(session: Session, protocol: Protocol, queries: Sequence[Query], keep: Keep, progress: Tell) -> list[Part]:
    """The parts of the queries; of what nobody will keep, only the identity stays in memory."""
    parts: list[Part] = []
    received: Counter[str] = Counter()
    for part in _decisive(session.fetch(queries), protocol):
        received[part.resource_type] += part.n_received
        progress(f"Pulling {part.resource_type}: {received[part.resource_type]:,}")
        light = tuple(item if keep(item) else replace(item, body=b"") for item in part.items)
        parts.append(replace(part, items=light))
    return parts


def _decisive(parts: Iterable[Part], protocol: Protocol) -> Iterator[Part]:
    """Parts whose Patients and Consents and selector resources can all be decoded.

    What cannot is unreadable. For a Patient that is a rejection; where it hides who is enrolled, or who withdrew, it
    is a hole (F30): no report may rest on a guess about that.
    """
    deciding = {*SELECTOR_TYPES[protocol.enrolment.selector], "Consent"}
    for part in parts:
        read = _decodable(part) if part.resource_type in {*deciding, "Patient"} else part
        if read.unreadable and read.resource_type in deciding:
            n_unreadable = len(read.unreadable)
            yield with_hole(read, "F30", f"{n_unreadable} cannot be read, so it is not known who is enrolled")
        else:
            yield read


def _decodable(part: Part) -> Part:
    refused = {item.ref for item in part.items if _struct(item) is None}
    if not refused:
        return part
    unreadable = (Unreadable(f"{part.query_id} part {part.part}", "an element of another shape than FHIR's"),)
    return replace(
        part,
        items=tuple(item for item in part.items if item.ref not in refused),
        unreadable=part.unreadable + unreadable * len(refused),
    )


def _struct(item: Item) -> fhir.Resource | None:
    try:
        return fhir.decode(item.resource_type, item.body)
    except msgspec.DecodeError:
        return None


def _decoded(found: Account) -> dict[str, list[fhir.Resource]]:
    return {name: [fhir.decode(name, item.body) for item in items.values()] for name, items in found.kept.items()}


def _in_cohort(protocol: Protocol, studies: Sequence[fhir.Resource]) -> Keep:
    def keep(item: Item) -> bool:
        held: dict[str, Sequence[fhir.Resource]] = {"ResearchStudy": studies}
        held[item.resource_type] = [fhir.decode(item.resource_type, item.body)]
        return bool(cohort(held, protocol)[item.resource_type])

    return keep


def _nothing(_: Item) -> bool:
    return False


def _selector_filter(protocol: Protocol) -> tuple[Filter, str]:
    rule = protocol.enrolment
    filters: dict[str, tuple[Filter, str]] = {
        "group": ("identifier", rule.group_identifier),
        "research_subject": ("identifier", rule.study_identifier),
        "episode_of_care": ("type", rule.episode_type),
        "care_plan": ("category", rule.care_plan_category),
    }
    return filters[rule.selector]


def _is_patient(item: Item) -> bool:
    return item.resource_type == "Patient"


def _medication_id(item: Item) -> str:
    try:
        administration = _ADMINISTRATION.decode(item.body)
    except msgspec.DecodeError:
        return ""  # screening names its fault
    identity = fhir.id_in(administration.medication_reference, "Medication")
    return identity if FHIR_ID.fullmatch(identity) else ""


# --- what is said about the whole -----------------------------------------------------------------------------------


def _origin(source: Source, session: Session, protocol: Protocol, taken: Account) -> Origin:
    changed = [item.last_updated for items in taken.kept.values() for item in items.values() if item.last_updated]
    newest = max((one for one in changed if one <= session.pulled_at), default=session.pulled_at)
    return Origin(
        source_kind=source.kind,
        completeness="complete" if taken.is_verified else "unverified",
        selector=protocol.enrolment.selector,
        pulled_at=session.pulled_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pulled_on=_local_day(session.pulled_at, protocol),
        data_as_of=_local_day(newest, protocol),
        software=session.software,
    )


def _local_day(instant: datetime, protocol: Protocol) -> str:
    return instant.astimezone(ZoneInfo(protocol.timezone)).date().isoformat()


def _pull_folder(home: Home, origin: Origin) -> Path:
    """A new folder, named by the source's clock; names come from here, never from the data."""
    stamp = origin.pulled_at.replace(":", "").replace("-", "")
    for number in count(1):
        folder = home.pulls / f"{stamp}-{number:02d}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # count() never ends


def _nobody(people: Listed, enrolment: Enrolment | None, selector: str) -> str:
    if enrolment is None:
        return f"no enrolled patients: the {selector} selector lists {people.n} and none of them is active"
    return (
        f"no enrolled patients: of {enrolment.n_listed} listed by the {selector} selector {enrolment.n_inactive} are "
        f"inactive, {enrolment.n_consent_revoked} withdrew consent, of {enrolment.n_consent_expired} it has expired, "
        f"{enrolment.n_merged} are merged into another record, {enrolment.n_dangling} have no Patient resource, and "
        f"{enrolment.n_unresolved} cannot be resolved"
    )
