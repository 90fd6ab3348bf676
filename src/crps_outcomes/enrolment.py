"""Who is enrolled: pure functions over decoded resources, used by the pull (whom to fetch) and by the report (who counts).

Everything the selector lists ends in exactly one place: enrolled, inactive, consent refused or withdrawn, consent
expired, merged (another record of somebody listed), dangling (the source has no such Patient) or unresolved (the entry
names no Patient). The sum is asserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from crps_outcomes import resources as fhir
from crps_outcomes.consents import left_out
from crps_outcomes.errors import SourceError
from crps_outcomes.fhirtime import has_begun, has_ended, moment
from crps_outcomes.merges import Directory, directory_of, identifiers, merge_links, token
from crps_outcomes.patient_list import LIST_IDENTIFIER

if TYPE_CHECKING:
    from datetime import date

    from crps_outcomes.definitions import Enrolment as Rule
    from crps_outcomes.definitions import Protocol

Resources = Mapping[str, Sequence[Any]]  # resource type -> decoded structs of that type
Place = Literal["enrolled", "inactive", "refused", "expired", "dangling"]

#: The resource types each selector reads, in the order they are asked for; a patient list stands as a Group.
SELECTOR_TYPES: dict[str, tuple[str, ...]] = {
    "group": ("Group",),
    "research_subject": ("ResearchStudy", "ResearchSubject"),
    "episode_of_care": ("EpisodeOfCare",),
    "care_plan": ("CarePlan",),
    "list": ("Group",),
}

#: Statuses of a participation that is through: its period has an end, and it still counts.
_FINISHED = frozenset({"off-study", "completed", "finished"})
#: Statuses of somebody who stopped: they count until the day their period ends, and without an end not at all.
_STOPPED = frozenset({"withdrawn", "revoked"})


class Entry(NamedTuple):
    """One line of the selector: whom it names, since when, and whether it holds."""

    whom: fhir.Reference
    since: date | None
    is_active: bool


@dataclass(frozen=True)
class Membership:
    """All that the selector says about one person: since when, and whether it holds."""

    since: date | None
    is_active: bool


@dataclass(frozen=True)
class Listed:
    """Everybody the selector names, one membership per person, before Consents are looked at.

    Before the Patients are received, a person is a record, and whoever is named by an identifier is unresolved.
    """

    people: Mapping[str, Membership]
    identifiers: Mapping[str, bool]  # identifiers by which the entries name people, and whether one of these is active
    n_merged: int
    n_unresolved: int

    @property
    def active(self) -> tuple[str, ...]:
        """The ids to ask the source for, sorted."""
        return tuple(sorted(name for name, one in self.people.items() if one.is_active))

    @property
    def active_identifiers(self) -> tuple[str, ...]:
        """The identifiers (``system|value``) to ask the source for, sorted."""
        return tuple(sorted(name for name, is_active in self.identifiers.items() if is_active))

    @property
    def n(self) -> int:
        """How many are listed: records, and entries that name none."""
        return len(self.people) + self.n_merged + self.n_unresolved


@dataclass(frozen=True)
class Enrolment:
    """Who counts and since when (None: the source does not say), and how many were listed but do not count.

    ``enrolled`` is keyed by the surviving record; ``records`` has every record whose resources are theirs.
    """

    selector: str
    enrolled: dict[str, date | None]
    records: dict[str, str]
    n_listed: int
    n_inactive: int
    n_consent_revoked: int
    n_consent_expired: int
    n_merged: int
    n_dangling: int
    n_unresolved: int


def enrol(resources: Resources, protocol: Protocol, *, as_of: date, pulled_on: date | None = None) -> Enrolment:
    """Who is enrolled, from the selector's resources, the Patients and the Consents.

    The pull judges as of its own day. A report judges twice, as of the day of the pull and as of its own, and somebody
    counts who counts on both: so a withdrawal known at the pull holds for earlier reports too, one that takes effect
    later holds from then on, and who joined later is not active yet.

    Args:
        resources: the selector's own, Patient and Consent.
        protocol: names the selector.
        as_of: the day the report speaks of.
        pulled_on: the day of the pull; without it, ``as_of``.

    Raises:
        SourceError: the list or the merges contradict themselves.
    """
    directory = directory_of(resources.get("Patient", ()))
    people = listed(resources, protocol, as_of=as_of)
    places = _places(resources, protocol, directory, as_of)
    if pulled_on is not None:
        at_the_pull = _places(resources, protocol, directory, pulled_on)
        places = {name: places[name] if place == "enrolled" else place for name, place in at_the_pull.items()}
    n = Counter(places.values())
    enrolment = Enrolment(
        selector=protocol.enrolment.selector,
        enrolled={name: people.people[name].since for name in sorted(places) if places[name] == "enrolled"},
        records={
            record: person for record, person in sorted(directory.survivors.items()) if places.get(person) == "enrolled"
        },
        n_listed=people.n,
        n_inactive=n["inactive"],
        n_consent_revoked=n["refused"],
        n_consent_expired=n["expired"],
        n_merged=people.n_merged,
        n_dangling=n["dangling"],
        n_unresolved=people.n_unresolved,
    )
    assert enrolment.n_listed == _accounted_for(enrolment)
    return enrolment


def listed(resources: Resources, protocol: Protocol, *, as_of: date) -> Listed:
    """Everybody the protocol's selector names, and whether their membership is active on a day.

    Raises:
        SourceError: several Groups carry the identifier that should name one; or as `merges.persons`.
    """
    directory = directory_of(resources.get("Patient", ()))
    entries = list(_ENTRIES[protocol.enrolment.selector](cohort(resources, protocol), protocol, as_of))
    records = [directory.record(entry.whom) for entry in entries]
    by_person: dict[str, list[Entry]] = {}
    by_identifier: dict[str, bool] = {}
    for entry, record in zip(entries, records, strict=True):
        if record:
            by_person.setdefault(directory.survivors.get(record, record), []).append(entry)
        for name in identifiers(entry.whom):
            by_identifier[name] = by_identifier.get(name, False) or entry.is_active
    return Listed(
        people={name: _best(found) for name, found in by_person.items()},
        identifiers=by_identifier,
        n_merged=len(set(records) - {""}) - len(by_person),
        n_unresolved=records.count(""),
    )


def traces(resources: Resources, protocol: Protocol, enrolment: Enrolment) -> dict[str, dict[str, Any]]:
    """What a snapshot keeps of Patients who do not count, by id: how they were joined, and nothing about them.

    These are Patients with an id, the merge links, and the identifiers that the list or a Consent names anyway.
    Without them the snapshot could not say again why those listed do not count.
    """
    named = {name for entry in _references(resources, protocol) for name in identifiers(entry)}
    bare = {
        patient.id: _bare(patient, named)
        for patient in resources.get("Patient", ())
        if patient.id not in enrolment.records
    }
    return {name: one for name, one in bare.items() if one.keys() & {"link", "identifier"}}


def _references(resources: Resources, protocol: Protocol) -> Iterator[fhir.Reference]:
    chosen = cohort(resources, protocol)
    for group in chosen.get("Group", ()):
        yield from (member.entity for member in group.member)
    yield from (one.individual for one in chosen.get("ResearchSubject", ()))
    yield from (one.patient for one in (*chosen.get("EpisodeOfCare", ()), *resources.get("Consent", ())))
    yield from (one.subject for one in chosen.get("CarePlan", ()))


def _bare(patient: fhir.Patient, named: set[str]) -> dict[str, Any]:
    links = [{"other": {"reference": f"Patient/{other}"}, "type": kind} for kind, other in sorted(merge_links(patient))]
    kept = [{"system": one.system, "value": one.value} for one in patient.identifier if token(one) in named]
    bare: dict[str, Any] = {"resourceType": "Patient", "id": patient.id}
    return bare | ({"link": links} if links else {}) | ({"identifier": kept} if kept else {})


def cohort(resources: Resources, protocol: Protocol) -> Resources:
    """Of the selector's resource types, those that belong to this study's cohort and no other."""
    rule = protocol.enrolment
    if rule.selector == "research_subject":
        studies = [one for one in resources.get("ResearchStudy", ()) if _has_identifier(one, rule.study_identifier)]
        ids = {study.id for study in studies}
        members = [one for one in resources.get("ResearchSubject", ()) if fhir.id_in(one.study, "ResearchStudy") in ids]
        return {"ResearchStudy": studies, "ResearchSubject": members}
    (name,) = SELECTOR_TYPES[rule.selector]
    return {name: [one for one in resources.get(name, ()) if _BELONGS[rule.selector](one, rule)]}


def _places(resources: Resources, protocol: Protocol, directory: Directory, day: date) -> dict[str, Place]:
    """Where each person listed ends, on a day."""
    answers = left_out(resources.get("Consent", ()), directory.person, day, protocol.timezone)
    places: dict[str, Place] = {}
    for name, one in listed(resources, protocol, as_of=day).people.items():
        answer = answers.get(name, "permitted")
        if not one.is_active:
            places[name] = "inactive"
        elif answer == "permitted":
            places[name] = "enrolled" if name in directory.held else "dangling"
        else:
            places[name] = answer
    return places


def _accounted_for(one: Enrolment) -> int:
    by_reason = (one.n_inactive, one.n_consent_revoked, one.n_consent_expired, one.n_merged, one.n_dangling)
    return len(one.enrolled) + sum(by_reason) + one.n_unresolved


def _best(entries: Sequence[Entry]) -> Membership:
    """One membership per person: an active one if there is any; of several, the earliest known start."""
    is_active = any(one.is_active for one in entries)
    starts = [one.since for one in entries if one.is_active == is_active and one.since is not None]
    return Membership(min(starts, default=None), is_active)


# --- one function per selector ---------------------------------------------------------------------------------------


def _group_members(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Entry]:
    """Group: a member counts unless marked inactive or outside its period; servers honour neither."""
    if len(chosen["Group"]) > 1:
        raise SourceError(f"{len(chosen['Group'])} Groups carry the enrolment identifier; there should be one")
    for group in chosen["Group"]:
        for member in group.member:
            is_inside = _is_inside(member.period, protocol, as_of)
            yield _entry(member.entity, member.period, protocol, is_active=is_inside and not member.inactive)


def _research_subjects(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Entry]:
    for one in chosen["ResearchSubject"]:
        is_active = _by_status(one, protocol.enrolment.research_subject_statuses, protocol, as_of)
        yield _entry(one.individual, one.period, protocol, is_active=is_active)


def _episodes(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Entry]:
    for one in chosen["EpisodeOfCare"]:
        is_active = _by_status(one, protocol.enrolment.episode_statuses, protocol, as_of)
        yield _entry(one.patient, one.period, protocol, is_active=is_active)


def _care_plans(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Entry]:
    for one in chosen["CarePlan"]:
        is_active = _by_status(one, protocol.enrolment.care_plan_statuses, protocol, as_of)
        yield _entry(one.subject, one.period, protocol, is_active=is_active)


def _by_status(one: Any, accepted: Sequence[str], protocol: Protocol, as_of: date) -> bool:
    """Status and period together: a finished participation counts, one under way until it ends.

    Who stopped counts up to the day before the period ends; when no end is stated, nobody knows since when.
    """
    zone, end = protocol.timezone, one.period.end
    if one.status in _STOPPED:
        return has_begun(one.period.start, as_of, zone) and not has_begun(end, as_of, zone)
    if one.status in _FINISHED & set(accepted):
        return has_begun(one.period.start, as_of, zone)
    return one.status in accepted and _is_inside(one.period, protocol, as_of)


def _is_inside(period: fhir.Period, protocol: Protocol, as_of: date) -> bool:
    return has_begun(period.start, as_of, protocol.timezone) and not has_ended(period.end, as_of, protocol.timezone)


def _entry(whom: fhir.Reference, period: fhir.Period, protocol: Protocol, *, is_active: bool) -> Entry:
    return Entry(whom, moment(period.start, protocol.timezone).on, is_active)


_ENTRIES: dict[str, Callable[[Resources, Protocol, date], Iterator[Entry]]] = {
    "group": _group_members,
    "research_subject": _research_subjects,
    "episode_of_care": _episodes,
    "care_plan": _care_plans,
    "list": _group_members,
}

_BELONGS: dict[str, Callable[[Any, Rule], bool]] = {
    "group": lambda one, rule: _has_identifier(one, rule.group_identifier),
    "episode_of_care": lambda one, rule: _has_code(one.type, rule.episode_type),
    "care_plan": lambda one, rule: _has_code(one.category, rule.care_plan_category),
    "list": lambda one, _: _has_identifier(one, LIST_IDENTIFIER),
}


def _has_identifier(resource: Any, wanted: str) -> bool:
    return any(_is_token(one.system, one.value, wanted) for one in resource.identifier)


def _has_code(concepts: Sequence[fhir.CodeableConcept], wanted: str) -> bool:
    return any(_is_token(coding.system, coding.code, wanted) for one in concepts for coding in one.coding)


def _is_token(system: str, code: str, wanted: str) -> bool:
    """A token without a system matches in any system, as in a FHIR search."""
    return wanted == (f"{system}|{code}" if "|" in wanted else code)
