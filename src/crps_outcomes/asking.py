"""What a pull asks for, and in which order: whom the selector lists, who they are, and what is known about them.

Each step decides what the next one asks for. What decides who is enrolled, or who withdrew, is never guessed: where it is
missing or cannot be read, the asking ends.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import SELECTOR_TYPES, Enrolment, Listed, cohort, enrol, listed, traces
from crps_outcomes.fhir.source import FHIR_ID, Filter, Item, Part, Query, Unit, Unreadable, item_of
from crps_outcomes.journal import Place, with_hole
from crps_outcomes.merges import concerned, directory_of, identifiers, token
from crps_outcomes.nights import KnownPeople
from crps_outcomes.patient_list import list_as_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from crps_outcomes.definitions import Protocol
    from crps_outcomes.journal import Held
    from crps_outcomes.merges import Directory
    from crps_outcomes.patient_list import ListedPatient
    from crps_outcomes.taking import Keeps, Taking


class _Medicated(msgspec.Struct, frozen=True, rename="camel"):
    """What tells which Medication was given or ordered; the rest is screened later."""

    medication_reference: fhir.Reference = fhir.Reference()


_MEDICATED = msgspec.json.Decoder(_Medicated)
_MEDICATED_TYPES = ("MedicationAdministration", "MedicationRequest", "MedicationStatement")


class WholeIsNeededError(Exception):
    """Changes alone are not enough: somebody is new, and a source that was asked for changes leaves out their past."""


def wanted_types(protocol: Protocol) -> tuple[str, ...]:
    """The resource types the source must know: the selector's, and those the study folder names."""
    asked = () if protocol.enrolment.selector == "list" else SELECTOR_TYPES[protocol.enrolment.selector]
    return tuple(dict.fromkeys((*asked, "Patient", *protocol.pull.resource_types)))


def ask(
    taking: Taking, protocol: Protocol, patients: Sequence[ListedPatient], *, is_whole: bool
) -> tuple[Listed, Enrolment | None, Keeps]:
    """Everything, in five steps; a hole in what decides who is enrolled ends it, later holes are gathered."""
    day = date.fromisoformat(local_day(taking.now, protocol))
    taking.note(taking.session.parts)
    in_cohort = _given(taking, patients) if protocol.enrolment.selector == "list" else _ask_cohort(taking, protocol)
    selected = taking.decoded(SELECTOR_TYPES[protocol.enrolment.selector], in_cohort)
    people = listed(selected, protocol, as_of=day)
    if taking.has_holes or not (people.active or people.active_identifiers):
        return people, None, in_cohort
    known = taking.past.people(protocol) if taking.past else KnownPeople()
    taking.known = known.records
    is_changes_only = taking.session.since is not None
    if is_changes_only and not known.listed.issuperset((*people.active, *people.active_identifiers)):
        raise WholeIsNeededError
    of_the_listed = _ask_people(taking, protocol, people)
    if taking.has_holes:  # somebody may have withdrawn
        return people, None, in_cohort
    persons = taking.decoded(("Patient", "Consent"), of_the_listed)
    enrolment = enrol(selected | persons, protocol, as_of=day)
    if is_changes_only and not known.records.issuperset(enrolment.records):
        raise WholeIsNeededError
    keeps = _of_the_enrolled(taking, protocol, in_cohort, of_the_listed, selected | persons, enrolment)
    if not enrolment.enrolled:
        return people, enrolment, keeps
    _ask_clinical(taking, protocol, enrolment, frozenset() if is_whole else known.records)
    if is_changes_only:
        _check_changes(taking, protocol, enrolment, keeps)
    return people, enrolment, _ask_medications(taking, keeps)


def _check_changes(taking: Taking, protocol: Protocol, enrolment: Enrolment, keeps: Keeps) -> None:
    """What was held and what changed must be what the source's search counts; where there is none, it is unverified.

    Raises:
        WholeIsNeededError: it counts another number, or something cannot be read that may be newer than what is held.
    """
    if any(row.unreadable for row in taking.books.rows):
        raise WholeIsNeededError
    for name in clinical_types(protocol):
        if taking.came_whole(name):
            continue
        counted = taking.session.total(Query(name, "patient", tuple(enrolment.records)))
        if counted is None:
            taking.is_confirmed = False
        elif counted != sum(1 for _ in taking.newest(name, keeps)):
            raise WholeIsNeededError


def _given(taking: Taking, patients: Sequence[ListedPatient]) -> Keeps:
    """The Group that a patient list becomes, as if the source had held it."""
    group = item_of(msgspec.json.encode(list_as_group(patients)))
    taking.give(Part("patient-list", 0, "Group", declared=1, items=(group,), is_verified=True))
    return lambda name, _: name == "Group"


def _ask_cohort(taking: Taking, protocol: Protocol) -> Keeps:
    """The selector's resources of this study's cohort, whoever they name; nothing of other cohorts."""
    rule = protocol.enrolment
    first, *then = SELECTOR_TYPES[rule.selector]
    by, token = _selector_filter(protocol)
    taking.ask([Query(first, by, (token,))], _in_cohort(protocol, ()))
    studies = taking.decoded((first,), _in_cohort(protocol, ()))[first]
    in_cohort = _in_cohort(protocol, studies)
    taking.ask([Query(name, "study", tuple(study.id for study in studies)) for name in then], in_cohort)
    return in_cohort


def _ask_people(taking: Taking, protocol: Protocol, people: Listed) -> Keeps:
    """Patients and Consents of the people listed, and of every record merged with theirs, however far."""
    by_id, by_identifier = people.active, people.active_identifiers
    taking.ask([Query("Patient", "_id", by_id), Query("Patient", "identifier", by_identifier)], is_patient)
    asked, wanted = frozenset(by_id), frozenset[str]()
    while True:
        held = cast("list[fhir.Patient]", taking.decoded(("Patient",), is_patient)["Patient"])
        wanted = concerned(held, by_id, by_identifier)
        missing = wanted - asked - {one.id for one in held}
        if not missing or not taking.session.narrows("Patient"):
            break
        asked |= missing
        taking.ask([Query("Patient", "_id", tuple(sorted(missing)))], is_patient)
    directory = directory_of([one for one in held if one.id in wanted])

    def of_the_listed(name: str, item: Item | Held) -> bool:
        return item.id in wanted if name == "Patient" else directory.record(_patient_of(item)) in wanted

    if "Consent" in protocol.pull.resource_types:
        taking.read = _attributed(taking, held, wanted, directory)
        taking.ask([Query("Consent", "patient", tuple(sorted(wanted)))], of_the_listed)
    return of_the_listed


def _attributed(
    taking: Taking, patients: Sequence[fhir.Patient], wanted: frozenset[str], directory: Directory
) -> Callable[[Part], Part]:
    """What looks at each part that comes: a Consent that may be anybody's is a hole (F28).

    One that names a Patient who is not listed is a stranger's. An export of changes does not bring the strangers, so it
    cannot tell.
    """
    read, strangers = taking.read, [one for one in patients if one.id not in wanted]
    of_strangers = {token(one) for patient in strangers for one in patient.identifier} - directory.carriers.keys()
    records = {one.id for one in strangers} | wanted

    def is_anybodys(item: Item) -> bool:
        reference = _patient_of(item)
        record = directory.record(reference)
        names_one = record in records if item.is_loose else bool(record)
        return not names_one and not of_strangers.intersection(identifiers(reference))

    def attributed(part: Part) -> Part:
        part = read(part)
        n = sum(map(is_anybodys, part.items)) if part.resource_type == "Consent" else 0
        if n and taking.session.since is not None:
            raise WholeIsNeededError
        return (
            with_hole(part, "F28", f"{n} name nobody the source knows, so it is not known who withdrew") if n else part
        )

    return attributed


def _ask_clinical(taking: Taking, protocol: Protocol, enrolment: Enrolment, known: frozenset[str]) -> None:
    """Everything else the study folder names: what changed about those who are known, all about the others."""
    old = tuple(record for record in enrolment.records if record in known)
    new = tuple(record for record in enrolment.records if record not in known)
    watermarks = taking.past.night.watermarks if taking.past else {}
    queries = [
        query
        for name in clinical_types(protocol)
        for query in (Query(name, "patient", old, watermarks.get(name)), Query(name, "patient", new))
    ]
    taking.ask(queries, lambda _, item: item.subject_id in enrolment.records)


def vanished(taking: Taking, resource_types: Sequence[str], enrolment: Enrolment) -> Iterator[Part]:
    """Holes for types of which there was something about the enrolled, and now nothing at all (F42).

    A server is asked how many there are; a folder cannot be, nor an export from a server without search.
    """
    if taking.past is None or taking.session.since is not None or taking.has_holes:
        return
    arrived = {row.resource_type for row in taking.books.rows if row.n_received}
    for name in resource_types:
        before = taking.past.items(name, Place(name, 0))
        cannot_count = taking.session.count(Unit(name, name, work=("", ()))) is None
        if name not in arrived and cannot_count and any(one.subject_id in enrolment.records for one in before):
            hole = "F42 the snapshot before holds some, and now there are none (suspicious_empty); if that is right: --whole"
            yield Part(name, 0, name, hole=hole)


def _ask_medications(taking: Taking, keeps: Keeps) -> Keeps:
    """The Medications that the kept administrations, orders and statements refer to."""
    given = (item for name in _MEDICATED_TYPES for item in taking.newest(name, keeps))
    used = frozenset(_medication_id(item) for item in given) - {""}

    def keeps_medications(name: str, item: Item | Held) -> bool:
        return item.id in used if name == "Medication" else keeps(name, item)

    taking.ask([Query("Medication", "_id", tuple(sorted(used)))], keeps_medications)
    return keeps_medications


def clinical_types(protocol: Protocol) -> tuple[str, ...]:
    """The types that are asked for by person, in the order of the study folder."""
    done = {*SELECTOR_TYPES[protocol.enrolment.selector], "Patient", "Consent", "Medication"}
    return tuple(name for name in dict.fromkeys(protocol.pull.resource_types) if name not in done)


def decisive(part: Part, protocol: Protocol) -> Part:
    """The part, if its Patients and Consents and selector resources can all be decoded.

    What cannot is unreadable. For a Patient that is a rejection; where it hides who is enrolled, or who withdrew, it
    is a hole (F30): no report may rest on a guess about that.
    """
    deciding = {*SELECTOR_TYPES[protocol.enrolment.selector], "Consent"}
    harmless = {*protocol.pull.resource_types, "Medication", "Patient"} - deciding
    read = _decodable(part) if part.resource_type in {*deciding, "Patient"} else part
    if read.unreadable and part.resource_type not in harmless:  # of a file of any type it may be the Consent
        return with_hole(read, "F30", f"{len(read.unreadable)} cannot be read, so it is not known who is enrolled")
    return read


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


def _in_cohort(protocol: Protocol, studies: Sequence[fhir.Resource]) -> Keeps:
    mine = SELECTOR_TYPES[protocol.enrolment.selector]

    def keeps(name: str, item: Item | Held) -> bool:
        held: dict[str, Sequence[fhir.Resource]] = {"ResearchStudy": studies}
        held[name] = [fhir.decode(name, item.body)] if name in mine else []
        return name in mine and bool(cohort(held, protocol)[name])

    return keeps


def _of_the_enrolled(  # noqa: PLR0913, PLR0917 - everything that decides who counts
    taking: Taking,
    protocol: Protocol,
    in_cohort: Keeps,
    of_the_listed: Keeps,
    held: dict[str, list[fhir.Resource]],
    enrolment: Enrolment,
) -> Keeps:
    """Of everybody listed their Consents, of the enrolled the rest, and of the cohort what says who they are.

    Of Patients who do not count, only how they were joined stays (`traces`).
    """
    left = {
        identity: item_of(msgspec.json.encode(trace)) for identity, trace in traces(held, protocol, enrolment).items()
    }
    patients = frozenset(enrolment.records) | frozenset(left)
    taking.rewrites["Patient"] = lambda one: (
        msgspec.structs.replace(one, body=left[one.id].body, sha256=left[one.id].sha256) if one.id in left else one
    )

    def keeps(name: str, item: Item | Held) -> bool:
        if name in SELECTOR_TYPES[protocol.enrolment.selector]:
            return in_cohort(name, item)
        if name == "Consent":
            return of_the_listed(name, item)
        return item.id in patients if name == "Patient" else item.subject_id in enrolment.records

    return keeps


def _selector_filter(protocol: Protocol) -> tuple[Filter, str]:
    rule = protocol.enrolment
    filters: dict[str, tuple[Filter, str]] = {
        "group": ("identifier", rule.group_identifier),
        "research_subject": ("identifier", rule.study_identifier),
        "episode_of_care": ("type", rule.episode_type),
        "care_plan": ("category", rule.care_plan_category),
    }
    return filters[rule.selector]


def is_patient(resource_type: str, _: Item | Held) -> bool:
    return resource_type == "Patient"


def _patient_of(item: Item | Held) -> fhir.Reference:
    return cast("fhir.Consent", fhir.decode("Consent", item.body)).patient


def _medication_id(item: Held) -> str:
    try:
        medicated = _MEDICATED.decode(item.body)
    except msgspec.DecodeError:
        return ""  # screening names its fault
    identity = fhir.id_in(medicated.medication_reference, "Medication")
    return identity if FHIR_ID.fullmatch(identity) else ""


def local_day(instant: datetime, protocol: Protocol) -> str:
    return instant.astimezone(ZoneInfo(protocol.timezone)).date().isoformat()
