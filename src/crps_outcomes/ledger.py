"""The ledger: which of what arrived is kept, a row for every page and file, and the holes.

``accepted + rejected == received`` holds in every row. Duplicates and older versions are rejections under their own
rule, so that nothing is dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crps_outcomes.rejections import Rejection
from crps_outcomes.tables import LEDGER, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from crps_outcomes.fhir.source import Item, Part

Place = tuple[str, int]  # query_id and part: the key of a ledger row
Key = tuple[str, str]  # resource type and id
_HOLES_IN_A_MESSAGE = 12
_NO_ORDER = "F05 one resource in two versions, and no meta.lastUpdated tells which is newer"
_SUBSETTED = "F16 the source sent shortened resources (SUBSETTED)"


@dataclass(frozen=True)
class Account:
    """What became of the parts: the newest version of each resource kept, ledger rows, and rejections."""

    kept: Mapping[str, Mapping[str, Item]]  # resource type -> id -> item
    rows: tuple[dict[str, Any], ...]
    rejections: tuple[Rejection, ...]
    is_verified: bool

    @property
    def has_holes(self) -> bool:
        return any(row["hole"] for row in self.rows)

    def items(self, resource_type: str) -> tuple[Item, ...]:
        return tuple(self.kept.get(resource_type, {}).values())


@dataclass(frozen=True)
class _Arrival:
    place: Place
    item: Item

    @property
    def key(self) -> Key:
        return self.item.resource_type, self.item.id


def account(arrived: Iterable[Part], keep: Callable[[Item], bool]) -> Account:
    """Decide what is kept: of each resource the newest version, and that only if ``keep`` says so.

    What ``keep`` refuses belongs to somebody who is not enrolled: it is counted in its row and named nowhere. An item
    whose body was let go to save memory had been refused before, and stays so.
    """
    parts = tuple(arrived)
    newest, fates, unordered = _versions(parts)
    kept = {key: arrival for key, arrival in newest.items() if arrival.item.body and keep(arrival.item)}
    doubts = _doubts(kept, unordered)
    accepted = Counter(arrival.place for arrival in kept.values())
    distinct = Counter(_first_seen(parts))
    rejections = [Rejection(item.ref, rule) for item, rule in fates if (item.resource_type, item.id) in kept]
    return Account(
        kept=_by_type(kept.values()),
        rows=tuple(_row(part, accepted, distinct, doubts) for part in parts),
        rejections=(*rejections, *_unreadable(parts)),
        is_verified=all(part.is_verified for part in parts),
    )


def merged(accounts: Sequence[Account]) -> Account:
    """Several accounts of different resource types as one."""
    return Account(
        kept={name: items for one in accounts for name, items in one.kept.items()},
        rows=tuple(row for one in accounts for row in one.rows),
        rejections=tuple(rejection for one in accounts for rejection in one.rejections),
        is_verified=all(one.is_verified for one in accounts),
    )


def with_hole(part: Part, code: str, reason: str) -> Part:
    """The part as a hole: what had arrived of it is not used."""
    return replace(part, items=(), unreadable=(), n_not_asked_for=0, hole=f"{code} {reason}", is_verified=False)


def ledger_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """LEDGER, checked: every row accounts for what it received."""
    frame = build(LEDGER, rows)
    assert (frame["accepted"] + frame["rejected"] == frame["received"]).all()
    return frame


def complaint(ledger: pd.DataFrame) -> str:
    """What is missing, in one sentence per hole: type, query, part and fault code; no ids, no values."""
    holes = ledger[ledger["hole"] != ""]
    told = [
        f"{row['resource_type'] or 'any type'} ({row['query_id']}, part {row['part']}): {row['hole']}"
        for row in holes.head(_HOLES_IN_A_MESSAGE).to_dict("records")
    ]
    more = len(holes) - len(told)
    return "\n".join([*told, *([f"and {more} more"] if more else [])])


def _versions(parts: Sequence[Part]) -> tuple[dict[Key, _Arrival], list[tuple[Item, str]], list[_Arrival]]:
    """The newest arrival of each resource, the fate of the others, and arrivals nothing puts in order."""
    newest: dict[Key, _Arrival] = {}
    fates: list[tuple[Item, str]] = []
    unordered: list[_Arrival] = []
    for arrival in _arrivals(parts):
        known = newest.setdefault(arrival.key, arrival)
        fate = "first" if known is arrival else _fate(known.item, arrival.item)
        if fate == "newer":
            newest[arrival.key] = arrival
            fates.append((known.item, "superseded"))
        elif fate == "conflict":
            unordered.append(arrival)
        elif fate != "first":
            fates.append((arrival.item, fate))
    return newest, fates, unordered


def _doubts(kept: Mapping[Key, _Arrival], unordered: Iterable[_Arrival]) -> dict[Place, str]:
    """Where it cannot be told which version is the newest, or what is kept is not whole."""
    doubts = {
        one.place: _NO_ORDER for one in unordered if one.key in kept and not _is_older(one.item, kept[one.key].item)
    }
    return doubts | {one.place: _SUBSETTED for one in kept.values() if one.item.is_subsetted}


def _is_older(item: Item, newest: Item) -> bool:
    known = item.last_updated is not None and newest.last_updated is not None
    return known and item.last_updated < newest.last_updated  # type: ignore[operator]


def _fate(known: Item, arrived: Item) -> str:
    """What a second arrival of the same resource is. Only meta.lastUpdated orders versions; versionId never does."""
    if known.sha256 == arrived.sha256:
        return "duplicate"
    if known.last_updated is None or arrived.last_updated is None or known.last_updated == arrived.last_updated:
        return "conflict"
    return "newer" if arrived.last_updated > known.last_updated else "superseded"


def _arrivals(parts: Iterable[Part]) -> Iterator[_Arrival]:
    return (_Arrival((part.query_id, part.part), item) for part in parts for item in part.items)


def _first_seen(parts: Iterable[Part]) -> Iterator[Place]:
    """For each resource the place where it arrived first."""
    seen: set[Key] = set()
    for arrival in _arrivals(parts):
        if arrival.key not in seen:
            seen.add(arrival.key)
            yield arrival.place


def _by_type(arrivals: Iterable[_Arrival]) -> dict[str, dict[str, Item]]:
    kept: dict[str, dict[str, Item]] = {}
    for arrival in arrivals:
        kept.setdefault(arrival.item.resource_type, {})[arrival.item.id] = arrival.item
    return kept


def _unreadable(parts: Iterable[Part]) -> Iterator[Rejection]:
    for part in parts:
        for one in part.unreadable:
            yield Rejection(f"{part.resource_type or 'unknown'}/{one.place}", "unreadable", one.reason)


def _row(part: Part, accepted: Counter[Place], distinct: Counter[Place], doubts: Mapping[Place, str]) -> dict[str, Any]:
    place = (part.query_id, part.part)
    return {
        "query_id": part.query_id,
        "part": part.part,
        "resource_type": part.resource_type,
        "asked": part.asked,
        "declared": part.declared,
        "received": part.n_received,
        "distinct": distinct[place],
        "accepted": accepted[place],
        "rejected": part.n_received - accepted[place],
        "hole": part.hole or doubts.get(place, ""),
    }
