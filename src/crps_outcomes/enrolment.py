"""Who is enrolled: pure functions over decoded resources, used by the pull (whom to fetch) and by the screen (who counts).

Every person the selector lists ends in exactly one place: enrolled, inactive, consent revoked, dangling (listed, but
the source has no such Patient) or unresolved (the reference names no Patient). The sum is asserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crps_outcomes import resources as fhir
from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.source import FHIR_ID
from crps_outcomes.fhirtime import moment

if TYPE_CHECKING:
    from datetime import date

    from crps_outcomes.definitions import Enrolment as Rule
    from crps_outcomes.definitions import Protocol

Resources = Mapping[str, Sequence[Any]]  # resource type -> decoded structs of that type

#: The resource types each selector reads, in the order they are asked for.
SELECTOR_TYPES: dict[str, tuple[str, ...]] = {
    "group": ("Group",),
    "research_subject": ("ResearchStudy", "ResearchSubject"),
    "episode_of_care": ("EpisodeOfCare",),
    "care_plan": ("CarePlan",),
}

#: A consent in one of these states is a decision; drafts, proposals and errors are none.
_DECIDED = frozenset({"active", "rejected", "inactive"})


@dataclass(frozen=True)
class Membership:
    """One line of the selector: whom it names ("" when it names no Patient), since when, and whether it holds."""

    subject_id: str
    since: date | None
    is_active: bool


@dataclass(frozen=True)
class Listed:
    """Everybody the selector names, one membership per person, before Patients and Consents are looked at."""

    people: Mapping[str, Membership]
    n_unresolved: int

    @property
    def active(self) -> tuple[str, ...]:
        """The people to ask the source for, sorted."""
        return tuple(sorted(name for name, one in self.people.items() if one.is_active))


@dataclass(frozen=True)
class Enrolment:
    """Who counts and since when (None: the source does not say), and how many were listed but do not count."""

    selector: str
    enrolled: dict[str, date | None]
    n_listed: int
    n_inactive: int
    n_consent_revoked: int
    n_dangling: int
    n_unresolved: int


def enrol(resources: Resources, protocol: Protocol, *, as_of: date) -> Enrolment:
    """Who is enrolled on a day, from the selector's resources, the Patients and the Consents."""
    people = listed(resources, protocol, as_of=as_of)
    patients = {patient.id for patient in resources.get("Patient", ())}
    revoked = withdrawn(resources.get("Consent", ()), protocol.timezone)
    places = {name: _place(one, name in revoked, name in patients) for name, one in people.people.items()}
    found = list(places.values())
    enrolment = Enrolment(
        selector=protocol.enrolment.selector,
        enrolled={name: people.people[name].since for name in sorted(places) if places[name] == "enrolled"},
        n_listed=len(people.people) + people.n_unresolved,
        n_inactive=found.count("inactive"),
        n_consent_revoked=found.count("consent revoked"),
        n_dangling=found.count("dangling"),
        n_unresolved=people.n_unresolved,
    )
    assert enrolment.n_listed == _accounted_for(enrolment)
    return enrolment


def listed(resources: Resources, protocol: Protocol, *, as_of: date) -> Listed:
    """Everybody the protocol's selector names, and whether their membership is active on a day.

    Raises:
        SourceError: several Groups carry the identifier that should name one.
    """
    chosen = cohort(resources, protocol)
    memberships = list(_MEMBERS[protocol.enrolment.selector](chosen, protocol, as_of))
    by_person: dict[str, list[Membership]] = {}
    for one in memberships:
        if one.subject_id:
            by_person.setdefault(one.subject_id, []).append(one)
    people = {name: _best(found) for name, found in by_person.items()}
    return Listed(people, sum(not one.subject_id for one in memberships))


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


def withdrawn(consents: Sequence[fhir.Consent], timezone: str) -> frozenset[str]:
    """The people whose latest decided Consent is a refusal: rejected, ended, or a provision that denies.

    Between decisions of the same moment a refusal wins; nobody without a Consent is left out.
    """
    latest: dict[str, tuple[str, str, bool]] = {}
    for consent in consents:
        subject = fhir.id_in(consent.patient, "Patient")
        if subject and consent.status in _DECIDED and not _is_advance_directive(consent):
            decision = (*_when(consent.date_time, timezone), _refuses(consent))
            latest[subject] = max(latest.get(subject, decision), decision)
    return frozenset(subject for subject, (_, _, refuses) in latest.items() if refuses)


def _is_advance_directive(consent: fhir.Consent) -> bool:
    """A decision about care near death says nothing about the use of data."""
    return any(coding.code == "adr" for coding in consent.scope.coding)


def _when(text: str, timezone: str) -> tuple[str, str]:
    """Sorts decisions by day, then by instant; what has no time of day comes before what has one."""
    found = moment(text, timezone)
    return found.on.isoformat() if found.on else text, found.at.isoformat() if found.at else ""


def _refuses(consent: fhir.Consent) -> bool:
    return consent.status != "active" or consent.provision.type == "deny"


def _place(one: Membership, is_revoked: bool, is_known: bool) -> str:  # noqa: FBT001 - both are facts, not switches
    if not one.is_active:
        return "inactive"
    if is_revoked:
        return "consent revoked"
    return "enrolled" if is_known else "dangling"


def _accounted_for(one: Enrolment) -> int:
    return len(one.enrolled) + one.n_inactive + one.n_consent_revoked + one.n_dangling + one.n_unresolved


def _best(memberships: Sequence[Membership]) -> Membership:
    """One membership per person: an active one if there is any; of several, the earliest known start."""
    is_active = any(one.is_active for one in memberships)
    starts = [one.since for one in memberships if one.is_active == is_active and one.since is not None]
    return Membership(memberships[0].subject_id, min(starts, default=None), is_active)


# --- one function per selector ---------------------------------------------------------------------------------------


def _group_members(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Membership]:
    """Group: a member counts unless marked inactive or outside its period; servers honour neither."""
    if len(chosen["Group"]) > 1:
        raise SourceError(f"{len(chosen['Group'])} Groups carry the enrolment identifier; there should be one")
    for group in chosen["Group"]:
        for member in group.member:
            inside = _has_begun(member.period, protocol, as_of) and not _has_ended(member.period, protocol, as_of)
            yield _membership(member.entity, member.period, inside and not member.inactive, protocol)


def _research_subjects(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Membership]:
    """ResearchSubject: the status decides; a finished participation has an ended period and still counts."""
    for one in chosen["ResearchSubject"]:
        is_active = _by_status(one, protocol.enrolment.research_subject_statuses, protocol, as_of)
        yield _membership(one.individual, one.period, is_active, protocol)


def _episodes(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Membership]:
    for one in chosen["EpisodeOfCare"]:
        is_active = _by_status(one, protocol.enrolment.episode_statuses, protocol, as_of)
        yield _membership(one.patient, one.period, is_active, protocol)


def _care_plans(chosen: Resources, protocol: Protocol, as_of: date) -> Iterator[Membership]:
    for one in chosen["CarePlan"]:
        is_active = _by_status(one, protocol.enrolment.care_plan_statuses, protocol, as_of)
        yield _membership(one.subject, one.period, is_active, protocol)


def _by_status(one: Any, accepted: Sequence[str], protocol: Protocol, as_of: date) -> bool:
    return one.status in accepted and _has_begun(one.period, protocol, as_of)


def _membership(reference: fhir.Reference, period: fhir.Period, is_active: bool, protocol: Protocol) -> Membership:  # noqa: FBT001
    identity = fhir.id_in(reference, "Patient")
    known = identity if FHIR_ID.fullmatch(identity) else ""
    return Membership(known, moment(period.start, protocol.timezone).on, is_active)


_MEMBERS: dict[str, Callable[[Resources, Protocol, date], Iterator[Membership]]] = {
    "group": _group_members,
    "research_subject": _research_subjects,
    "episode_of_care": _episodes,
    "care_plan": _care_plans,
}

_BELONGS: dict[str, Callable[[Any, Rule], bool]] = {
    "group": lambda one, rule: _has_identifier(one, rule.group_identifier),
    "episode_of_care": lambda one, rule: _has_code(one.type, rule.episode_type),
    "care_plan": lambda one, rule: _has_code(one.category, rule.care_plan_category),
}


def _has_identifier(resource: Any, token: str) -> bool:
    return any(_is_token(one.system, one.value, token) for one in resource.identifier)


def _has_code(concepts: Sequence[fhir.CodeableConcept], token: str) -> bool:
    return any(_is_token(coding.system, coding.code, token) for one in concepts for coding in one.coding)


def _is_token(system: str, code: str, token: str) -> bool:
    """A token without a system matches in any system, as in a FHIR search."""
    return token == (f"{system}|{code}" if "|" in token else code)


def _has_begun(period: fhir.Period, protocol: Protocol, as_of: date) -> bool:
    """A start that says only a month or year counts from its first possible day."""
    day = moment(period.start, protocol.timezone).on
    return day <= as_of if day else period.start <= as_of.isoformat()[: len(period.start)]


def _has_ended(period: fhir.Period, protocol: Protocol, as_of: date) -> bool:
    """The last day of a period still belongs to it; an end that says only a month lasts to the end of that month."""
    day = moment(period.end, protocol.timezone).on
    return day < as_of if day else bool(period.end) and period.end < as_of.isoformat()[: len(period.end)]
