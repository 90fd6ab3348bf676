"""The ledger: which of what arrived is kept, a row for every page and file, and the holes.

``accepted + rejected == received`` holds in every row. Duplicates and older versions are rejections under their own
rule, so that nothing is dropped in silence. What is carried over from the snapshot before has a row of its own, and
what became of the rest of it is a change.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.journal import Place, Row
from crps_outcomes.rejections import Rejection
from crps_outcomes.tables import CHANGES, LEDGER, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from crps_outcomes.journal import Held

_HOLES_IN_A_MESSAGE = 12
#: Names that we or a server made: Observation-001.2 whole, Observation.3.ndjson.gz, output-00004.ndjson Observation.
_TYPE = f"(?:{'|'.join(fhir.TYPES)})"
_TECHNICAL = re.compile(
    rf"(?:{_TYPE}[-.\d]*|(?:export )?output-\d+|export {_TYPE}|patient-list|manifest\.json \w+)"
    rf"(?:\.(?:nd)?json(?:\.gz|\.zst)?)?(?: {_TYPE})?(?: whole)?(?:\.\d)*"
)
_NO_ORDER = "F05 one resource in two versions, and no meta.lastUpdated tells which is newer"
_SUBSETTED = "F16 the source sent shortened resources (SUBSETTED)"

Change = Literal["new", "late", "changed", "entered-in-error", "deleted", "left"]


@dataclass(frozen=True)
class Before:
    """What the snapshot before held of a resource type, and how far this pull looked at it again."""

    items: Iterable[Held]  # sorted by id, all of them from `place`
    place: Place
    is_asked_again: Callable[[Held], bool]  # everything about it was asked for: what did not come back is gone
    is_known: Callable[[Held], bool]  # it is about somebody who was enrolled then
    deleted: frozenset[str] = frozenset()  # ids the source itself says are gone
    seen_until: datetime | None = None  # what changed before that should have been seen then


@dataclass(frozen=True)
class _Copies:
    """All copies of one resource: those that arrived, in order, and the one the snapshot before held."""

    id: str
    arrived: tuple[Held, ...]
    old: Held | None


@dataclass(frozen=True)
class _Judged:
    """The newest of the copies that arrived, what the others are, and which of them nothing puts in order."""

    newest: Held
    fates: tuple[tuple[Held, str], ...] = ()
    unordered: tuple[Held, ...] = ()


class _Status(msgspec.Struct):
    status: str = ""


_STATUS = msgspec.json.Decoder(_Status)


@dataclass
class Books:
    """The accounts of one pull. Rows come in as units are taken; the rest fills as each type is settled, once."""

    now: datetime  # the source's clock when the pull began: a change dated later says nothing about when it was
    rows: list[Row] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    changed: list[tuple[str, Change]] = field(default_factory=list)  # reference and change; not of new, nor of who left
    changes: Counter[tuple[str, Change]] = field(default_factory=Counter)  # by resource type and change
    newest: dict[str, datetime] = field(default_factory=dict)  # by resource type: the latest change kept
    doubts: dict[Place, str] = field(default_factory=dict)
    patients: frozenset[str] = frozenset()  # ids of all Patients that arrived, enrolled or not
    _accepted: Counter[Place] = field(default_factory=Counter)
    _distinct: Counter[Place] = field(default_factory=Counter)

    def settle(
        self,
        resource_type: str,
        runs: Iterable[Iterator[Held]],
        keep: Callable[[Held], bool],
        before: Before | None = None,
        *,
        names_people: bool = False,
    ) -> Iterator[Held]:
        """What is kept of a type, sorted by id: of each resource the newest version, and that only if ``keep`` says so.

        What ``keep`` refuses belongs to somebody who is not enrolled: it is counted in its row and named nowhere, but
        for what names nobody where it should (``names_people``). An item whose body was let go to save memory had been
        refused before, and stays so.
        """
        for copies in _together(runs, before):
            kept = self._kept(resource_type, copies, keep, before)
            if names_people and copies.arrived and not any(self._names_somebody(one) for one in copies.arrived):
                self.rejections.append(Rejection(f"{resource_type}/{copies.id}", "subject-missing"))
            if before is not None:
                self._note_change(resource_type, copies.old, kept, _change(copies.old, kept, keep, before))
            if kept is not None:
                self._accepted[kept.place] += 1
                self._note_newest(resource_type, kept)
                yield kept
        if before is not None and self._accepted[before.place]:
            self.rows.append(_carried_over(resource_type, before.place, self._accepted[before.place]))

    @property
    def is_verified(self) -> bool:
        """Every number received was compared with one the source declared."""
        return all(row.is_verified for row in self.rows)

    def ledger(self) -> pd.DataFrame:
        """LEDGER: every row accounts for what it received; the table refuses one that kept more than that."""
        return build(LEDGER, (self._entry(row) for row in self.rows))

    def refused(self) -> list[Rejection]:
        """Everything refused on the way in, with its rule."""
        return [*self.rejections, *_unreadable(self.rows)]

    def changes_table(self) -> pd.DataFrame:
        """CHANGES: what is different from the snapshot before."""
        rows = ({"resource_type": name, "change": change, "n": n} for (name, change), n in self.changes.items())
        return build(CHANGES, rows)

    def _kept(
        self, resource_type: str, copies: _Copies, keep: Callable[[Held], bool], before: Before | None
    ) -> Held | None:
        """The copy to keep, if any; the fates of the others are noted on the way."""
        judged = _judged(copies.arrived) if copies.arrived else None
        arrived = judged.newest if judged and judged.newest.body and keep(judged.newest) else None
        if judged:
            self._distinct[copies.arrived[0].place] += 1
        if arrived is not None and judged is not None:
            ref = f"{resource_type}/{copies.id}"
            self.rejections += (Rejection(ref, rule) for _, rule in judged.fates)
            self._note_doubts(judged)
        old = copies.old
        if before is None or old is None or copies.id in before.deleted or before.is_asked_again(old):
            return arrived
        if judged is None or (arrived and _fate(old, arrived) == "superseded"):
            return old if keep(old) else None
        return arrived

    def _names_somebody(self, one: Held) -> bool:
        """Whether it says whose it is. A urn:uuid that no Patient answers to says nothing (F28)."""
        return bool(one.subject_id) and not (one.is_loose and one.subject_id not in self.patients)

    def _note_newest(self, resource_type: str, kept: Held) -> None:
        if kept.last_updated is not None and kept.last_updated <= self.now:
            self.newest[resource_type] = max(kept.last_updated, self.newest.get(resource_type, kept.last_updated))

    def _note_doubts(self, judged: _Judged) -> None:
        for one in judged.unordered:
            if not _is_older(one, judged.newest):
                self.doubts[one.place] = _NO_ORDER
        if judged.newest.is_subsetted:
            self.doubts[judged.newest.place] = _SUBSETTED

    def _note_change(self, resource_type: str, old: Held | None, kept: Held | None, change: Change | None) -> None:
        if change is not None:
            self.changes[resource_type, change] += 1
        if change is not None and change not in {"new", "left"}:  # of who left, nothing is named
            one = kept or old
            assert one is not None
            self.changed.append((f"{resource_type}/{one.id}", change))

    def _entry(self, row: Row) -> dict[str, Any]:
        return {
            "query_id": row.query_id,
            "part": row.part,
            "resource_type": row.resource_type,
            "asked": row.asked,
            "declared": row.declared,
            "received": row.n_received,
            "distinct": self._distinct[row.place],
            "accepted": self._accepted[row.place],
            "rejected": row.n_received - self._accepted[row.place],
            "hole": row.hole or self.doubts.get(row.place, ""),
        }


def complaint(ledger: pd.DataFrame) -> str:
    """What is missing, in one sentence per hole: type, query, part and fault code; no ids, no values.

    Somebody may have named a file after a person: a name is told only if it is made of a type and numbers.
    """
    holes = ledger[ledger["hole"] != ""]
    told = [
        f"{_type_told(row)} ({_place_told(row)}, part {row['part']}): {row['hole']}"
        for row in holes.head(_HOLES_IN_A_MESSAGE).to_dict("records")
    ]
    more = len(holes) - len(told)
    return "\n".join([*told, *([f"and {more} more"] if more else [])])


def missing(ledger: pd.DataFrame) -> tuple[str, ...]:
    """What is missing, in a few words each: resource type and fault code."""
    holes = ledger[ledger["hole"] != ""]
    told = (f"{_type_told(row)} {row['hole'].split()[0]}" for row in holes.to_dict("records"))
    return tuple(sorted(set(told)))


def _type_told(row: Mapping[Any, Any]) -> str:
    name = str(row["resource_type"])
    return name if name in fhir.TYPES else "a file" if name else "any type"


def _place_told(row: Mapping[Any, Any]) -> str:
    place = str(row["query_id"])
    return place if _TECHNICAL.fullmatch(place) else "a name that the ledger has"


def _together(runs: Iterable[Iterator[Held]], before: Before | None) -> Iterator[_Copies]:
    by_id = attrgetter("id")
    streams = [*runs, *([iter(before.items)] if before else [])]
    for identity, copies in groupby(merge(*streams, key=by_id), key=by_id):
        found = tuple(copies)
        old = next((one for one in found if before and one.place == before.place), None)
        yield _Copies(identity, tuple(one for one in found if one is not old), old)


def _judged(arrived: Sequence[Held]) -> _Judged:
    newest, fates, unordered = arrived[0], [], []
    for one in arrived[1:]:
        fate = _fate(newest, one)
        if fate == "newer":
            fates.append((newest, "superseded"))
            newest = one
        elif fate == "conflict":
            unordered.append(one)
        else:
            fates.append((one, fate))
    return _Judged(newest, tuple(fates), tuple(unordered))


def _fate(known: Held, arrived: Held) -> str:
    """What a second copy of the same resource is. Only meta.lastUpdated orders versions; versionId never does."""
    if known.sha256 == arrived.sha256:
        return "duplicate"
    if known.last_updated is None or arrived.last_updated is None or known.last_updated == arrived.last_updated:
        return "conflict"
    return "newer" if arrived.last_updated > known.last_updated else "superseded"


def _is_older(item: Held, newest: Held) -> bool:
    known = item.last_updated is not None and newest.last_updated is not None
    return known and item.last_updated < newest.last_updated  # type: ignore[operator]


def _change(old: Held | None, kept: Held | None, keep: Callable[[Held], bool], before: Before) -> Change | None:
    """What happened to a resource since the snapshot before, if anything did.

    What is gone was deleted if it is about somebody who counts (``keep``), else it left with them.
    """
    if old is None:
        return None if kept is None else "late" if _came_late(kept, before) else "new"
    if kept is None:
        return "deleted" if keep(old) else "left"
    if kept.sha256 == old.sha256:
        return None
    return "entered-in-error" if _is_error(kept) and not _is_error(old) else "changed"


def _came_late(kept: Held, before: Before) -> bool:
    """It is of somebody known then, and changed before what was asked from then: only a whole pull finds it."""
    if before.seen_until is None or kept.last_updated is None:
        return False
    return kept.last_updated < before.seen_until and before.is_known(kept)


def _is_error(item: Held) -> bool:
    try:
        return _STATUS.decode(item.body).status == "entered-in-error"
    except msgspec.DecodeError:
        return False


def _carried_over(resource_type: str, place: Place, n: int) -> Row:
    """The row of what was not asked for again: it was compared with the source's count when it was pulled."""
    return Row(place.query_id, place.part, resource_type, None, None, n, (), "", is_verified=True)


def _unreadable(rows: Iterable[Row]) -> Iterator[Rejection]:
    for row in rows:
        for one in row.unreadable:
            yield Rejection(f"{row.resource_type or 'unknown'}/{one.place}", "unreadable", one.reason)
