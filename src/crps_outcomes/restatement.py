"""Restatement: what is not as it was in the last report of the same kind, record by record, and under which reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.fhirtime import moment
from crps_outcomes.stages.screen import REFUTED, subject_id, written_date
from crps_outcomes.tables import ESTIMATES, build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import date

    import pandas as pd

    from crps_outcomes.enrolment import Enrolment
    from crps_outcomes.headlines import Footprint
    from crps_outcomes.plan_history import PlanChange
    from crps_outcomes.snapshot import Snapshot

Kind = Literal[
    "entered",
    "left",
    "follow-up",
    "late",
    "undated",
    "amended",
    "entered-in-error",
    "deleted",
    "resaved",
    "time",
    "other",
]
THEN = "before/"  # what the ids of the last report's estimates begin with


@dataclass(frozen=True)
class Moved:
    """A record that is not as it was: whose it is ("" where it names nobody) and under which reason it counts."""

    person: str
    kind: Kind


@dataclass(frozen=True)
class Reason:
    """How many people and records came under a reason, and how many of the records are behind a score."""

    kind: Kind
    n_people: int
    n_records: int
    n_scores: int


@dataclass(frozen=True)
class FileChange:
    """A file of the study folder that is not what it was; "" for one that was or is not there."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Why:
    """Why a figure is another: people by reason, and whether plan, definitions or program alone change it (None: not known)."""

    people: tuple[tuple[Kind, int], ...] = ()
    by_rules: bool | None = None


@dataclass(frozen=True)
class Again:
    """The data of the last report, worked out anew by the study folder and the program of today: how many figures are as then."""

    n_same: int
    n: int


@dataclass(frozen=True)
class Restatement:
    """What a report says about the last one of its kind. A release has no number of it that comes from data.

    ``then`` is ESTIMATES of the last report, its ids behind ``before/``; ``whys`` go by `Headline.id`.
    """

    run_id: str
    as_of: str
    snapshot: str
    is_data_kept: bool = True
    is_report_kept: bool = True
    reasons: tuple[Reason, ...] = ()
    then: pd.DataFrame = field(default_factory=lambda: build(ESTIMATES, ()), repr=False, compare=False)
    whys: Mapping[str, Why] = field(default_factory=dict)
    again: Again | None = None
    plan: tuple[PlanChange, ...] = ()
    study: tuple[str, str] = ("", "")  # digests then and now, where they differ
    files: tuple[FileChange, ...] | None = ()  # None: the files of then were not kept
    code: tuple[str, str] = ("", "")
    versions: tuple[tuple[str, str, str], ...] = ()  # name, then, now

    @property
    def rules_changed(self) -> tuple[str, ...]:
        """What of the rules is another: "definitions", "program"."""
        return tuple(name for name, (then, _) in {"definitions": self.study, "program": self.code}.items() if then)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all of it: a report that tells something else is another report."""
        told = {name: value for name, value in asdict(self).items() if name != "then"}
        text = json.dumps(told, sort_keys=True) + self.then.to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()


# --- record by record -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """The data as a report sees them: a snapshot, the last day that exists, and who is enrolled."""

    snapshot: Snapshot
    as_of: date
    people: Enrolment

    def whose(self, resource: fhir.Resource, timezone: str) -> str | None:
        """Whose record it is, "" for one that names nobody and needs to name none; None where this report does not see it."""
        day = moment(written_date(resource), timezone).on
        if day is not None and day > self.as_of:
            return None
        return "" if isinstance(resource, fhir.Medication) else self.people.records.get(subject_id(resource))


@dataclass(frozen=True)
class _Copy:
    """One version of a record: its bytes, what can be read of it, and whose it is to a report that sees it."""

    raw: bytes
    resource: fhir.Resource | None
    person: str | None

    @property
    def is_seen(self) -> bool:
        return self.person is not None


_NOT_THERE = _Copy(b"", None, None)


def moved(then: View, now: View, resource_types: Iterable[str], timezone: str) -> dict[str, Moved]:
    """Every record that is not as it was, by its reference; each under one reason, the first that holds."""
    found = {}
    is_same_view = (then.as_of, then.people.records) == (now.as_of, now.people.records)
    for name in sorted({*resource_types, "Patient", "Medication"}):
        for identity, old, new in _pairs(then.snapshot.lines(name), now.snapshot.lines(name)):
            if is_same_view and old == new:
                continue
            before = _read(name, old)
            after = before if old == new else _read(name, new)
            one = _moved(_copy(old, before, then, timezone), _copy(new, after, now, timezone), then, now, timezone)
            if one is not None:
                found[f"{name}/{identity}"] = one
    return found


class _Identified(msgspec.Struct):
    id: str


def _pairs(then: Iterator[bytes], now: Iterator[bytes]) -> Iterator[tuple[str, bytes, bytes]]:
    """The lines of both snapshots by id, b"" for one that is not there; each comes sorted by id."""
    keyed = (_keyed(lines, place) for place, lines in enumerate((then, now)))
    for identity, own in groupby(merge(*keyed, key=itemgetter(0)), key=itemgetter(0)):
        lines = {place: line for _, place, line in own}
        yield identity, lines.get(0, b""), lines.get(1, b"")


def _keyed(lines: Iterator[bytes], place: int) -> Iterator[tuple[str, int, bytes]]:
    for line in lines:
        yield msgspec.json.decode(line, type=_Identified).id, place, line


def _read(resource_type: str, raw: bytes) -> fhir.Resource | None:
    """What cannot be read is seen by no report: it is refused, and counts nowhere."""
    try:
        return fhir.decode(resource_type, raw) if raw else None
    except msgspec.DecodeError:
        return None


def _copy(raw: bytes, resource: fhir.Resource | None, view: View, timezone: str) -> _Copy:
    return _Copy(raw, resource, None if resource is None else view.whose(resource, timezone))


def _moved(old: _Copy, new: _Copy, then: View, now: View, timezone: str) -> Moved | None:
    if not old.is_seen and not new.is_seen:
        return None
    person = (new.person if new.is_seen else old.person) or ""
    if person and person not in then.people.enrolled:
        return Moved(person, "entered")
    if person and person not in now.people.enrolled:
        return Moved(person, "left")
    kind = _kind(old, new, then.as_of, timezone)
    return Moved(person, kind) if kind else None


def _kind(old: _Copy, new: _Copy, since: date, timezone: str) -> Kind | None:
    if old.is_seen and new.is_seen:
        return _of_both(old, new)
    if not new.is_seen:
        return "amended" if new.raw else "deleted"  # a day in the future, or nobody who is enrolled
    assert new.resource is not None
    if _is_error(new.resource):
        return "entered-in-error"
    day = moment(_dated(new.resource), timezone).on
    if day is not None and day > since:
        return "follow-up"
    return "amended" if old.raw else "late" if day is not None else "undated"


def _of_both(old: _Copy, new: _Copy) -> Kind | None:
    assert old.resource is not None
    assert new.resource is not None
    if old.raw == new.raw:
        return None
    if _is_error(new.resource) and not _is_error(old.resource):
        return "entered-in-error"
    return "resaved" if _content(old.raw) == _content(new.raw) else "amended"


def _dated(resource: fhir.Resource) -> str:
    """The date by which a record is old or new, also where no rule of screening asks for one."""
    period = getattr(resource, "period", None) or getattr(resource, "onset_period", None) or fhir.Period()
    return written_date(resource) or getattr(resource, "onset_date_time", "") or period.start


def _is_error(resource: fhir.Resource) -> bool:
    if isinstance(resource, fhir.Condition):
        return bool({coding.code for coding in resource.verification_status.coding} & REFUTED)
    return bool(getattr(resource, "status", "") == "entered-in-error")


def _content(raw: bytes) -> dict[str, Any]:
    """All of a resource but what the server writes each time it is saved."""
    content = msgspec.json.decode(raw, type=dict[str, Any])
    return {name: value for name, value in content.items() if name != "meta"}


# --- counted --------------------------------------------------------------------------------------------------------

ALWAYS_TOLD: tuple[Kind, ...] = ("entered", "left", "follow-up", "late", "amended", "entered-in-error", "deleted")
IF_ANY: tuple[Kind, ...] = ("undated", "resaved")


def counted(found: Mapping[str, Moved], then: View, now: View, behind_scores: AbstractSet[str]) -> tuple[Reason, ...]:
    """People and records by reason. Who entered or left counts also without a record."""
    people: dict[Kind, set[str]] = {
        "entered": now.people.enrolled.keys() - then.people.enrolled.keys(),
        "left": then.people.enrolled.keys() - now.people.enrolled.keys(),
    }
    records: Counter[Kind] = Counter()
    scores: Counter[Kind] = Counter()
    for ref, one in found.items():
        records[one.kind] += 1
        scores[one.kind] += ref in behind_scores
        if one.person:
            people.setdefault(one.kind, set()).add(one.person)
    told = (*ALWAYS_TOLD, *(kind for kind in IF_ANY if records[kind]))
    return tuple(Reason(kind, len(people.get(kind, ())), records[kind], scores[kind]) for kind in told)


def why(
    then: Footprint, now: Footprint, found: Mapping[str, Moved], gone: Mapping[str, Kind], *, is_later: bool
) -> Counter[Kind]:
    """The people whose part in a figure is another, by reason; one with several reasons counts under each.

    Args:
        then: what the figure rested on.
        now: what it rests on.
        found: the records that are not as they were.
        gone: who entered or left.
        is_later: this report speaks of a later day, so that what was not due may be.
    """
    of_person: dict[str, set[Kind]] = {}
    for one in found.values():
        if one.kind != "resaved":
            of_person.setdefault(one.person, set()).add(one.kind)
    total: Counter[Kind] = Counter()
    for person in then.keys() | now.keys():
        entries = then.get(person, frozenset()) ^ now.get(person, frozenset())
        if not entries:
            continue
        refs = {ref for entry in entries for ref in entry[0].split()}
        own = {found[ref].kind for ref in refs if ref in found and found[ref].kind != "resaved"}
        rest: Kind = "time" if is_later else "other"
        total.update({gone[person]} if person in gone else own or of_person.get(person) or of_person.get("") or {rest})
    return total
