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
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import SELECTOR_TYPES, Enrolment, Listed, cohort, enrol, listed
from crps_outcomes.errors import IncompleteDataError, NoPatientsError
from crps_outcomes.fhir.source import FHIR_ID, Filter, Item, Order, Part, Query, Unreadable
from crps_outcomes.home import write_private
from crps_outcomes.ledger import Account, account, complaint, ledger_table, merged, with_hole
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


def pull(source: Source, protocol: Protocol, home: Home, *, progress: Tell = _say_nothing) -> Pulled:
    """Take a complete snapshot from a source, or none.

    The ledger is written below ``home.pulls`` in any case, as soon as the source has answered at all.

    Raises:
        SourceError: the source cannot be reached, refuses, or does not know a resource type.
        IncompleteDataError: something that should be there is missing; no snapshot is published.
        NoPatientsError: the selector names nobody who counts.
    """
    rule = protocol.enrolment
    group = rule.group_identifier if rule.selector == "group" else ""
    with source.open(Order(wanted_types(protocol), protocol.pull, home.pulls, group=group)) as session:
        taken, people, enrolment = _take(session, protocol, progress)
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
    selector = SELECTOR_TYPES[protocol.enrolment.selector]
    return tuple(dict.fromkeys((*selector, "Patient", *protocol.pull.resource_types)))


def _take(session: Session, protocol: Protocol, progress: Tell) -> tuple[Account, Listed, Enrolment | None]:
    """Everything, in five steps; a hole in what decides who is enrolled ends it, later holes are gathered."""
    day = date.fromisoformat(_local_day(session.pulled_at, protocol))
    cohort_ = account(_decisive(session.parts, protocol), _nothing)
    if not cohort_.has_holes:
        cohort_ = merged([cohort_, _take_cohort(session, protocol, progress)])
    people = listed(_decoded(cohort_), protocol, as_of=day)
    if cohort_.has_holes or not people.active:
        return cohort_, people, None
    persons, enrolment = _take_people(session, protocol, cohort_, people, progress)
    if persons.has_holes or not enrolment.enrolled:
        return merged([cohort_, persons]), people, enrolment
    clinical = _take_clinical(session, protocol, enrolment, progress)
    medications = _take_medications(session, protocol, clinical, progress)
    return merged([cohort_, persons, clinical, medications]), people, enrolment


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
    """Patients and Consents of the people listed; kept are all their Consents, but Patients only of the enrolled."""
    day = date.fromisoformat(_local_day(session.pulled_at, protocol))
    wanted = frozenset(people.active)
    queries = [Query("Patient", "_id", people.active)]
    if "Consent" in protocol.pull.resource_types:
        queries.append(Query("Consent", "patient", people.active))
    parts = _arrived(session, protocol, queries, lambda item: _person(item) in wanted, progress)
    everybody = account(parts, lambda item: _person(item) in wanted)
    enrolment = enrol(_decoded(merged([cohort_, everybody])), protocol, as_of=day)
    kept = account(parts, lambda item: _person(item) in (enrolment.enrolled if _is_patient(item) else wanted))
    return kept, enrolment


def _take_clinical(session: Session, protocol: Protocol, enrolment: Enrolment, progress: Tell) -> Account:
    """Everything else the study folder names, of the enrolled people; what names nobody is told, not kept."""
    done = {*SELECTOR_TYPES[protocol.enrolment.selector], "Patient", "Consent", "Medication"}
    names = [name for name in dict.fromkeys(protocol.pull.resource_types) if name not in done]
    queries = [Query(name, "patient", tuple(enrolment.enrolled)) for name in names]
    parts = _arrived(session, protocol, queries, lambda item: item.subject_id in enrolment.enrolled, progress)
    found = account(parts, lambda item: item.subject_id in enrolment.enrolled)
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
    arrived = (part for unit in session.units(queries) for part in session.take(unit))
    for part in _decisive(arrived, protocol):
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


def _person(item: Item) -> str:
    return item.id if _is_patient(item) else item.subject_id


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
    n_listed = len(people.people) + people.n_unresolved
    if enrolment is None:
        return f"no enrolled patients: the {selector} selector lists {n_listed} and none of them is active"
    return (
        f"no enrolled patients: of {enrolment.n_listed} listed by the {selector} selector {enrolment.n_inactive} are "
        f"inactive, {enrolment.n_consent_revoked} withdrew consent, {enrolment.n_dangling} have no Patient resource, "
        f"and {enrolment.n_unresolved} cannot be resolved"
    )
