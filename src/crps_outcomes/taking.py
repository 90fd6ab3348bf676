"""Taking: queries become units, units are taken side by side and journaled, and what they brought is settled.

A unit that a stopped pull had committed is not taken again if the source counts as much for it as then, and no change
since. A unit that asked only for changes is taken whole when the source counts another number than is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crps_outcomes import resources as fhir
from crps_outcomes.fhir.source import Unit
from crps_outcomes.journal import Place, Taken, row_of
from crps_outcomes.ledger import Before, Books
from crps_outcomes.nights import KnownIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from crps_outcomes.fhir.source import Item, Part, Query, Session
    from crps_outcomes.journal import Held, Journal
    from crps_outcomes.nights import Past
    from crps_outcomes.progress import Tell

Keeps = Callable[[str, "Item | Held"], bool]  # resource type and item -> whether to keep it


@dataclass
class Taking:
    """One pull's way from queries to what is kept."""

    session: Session
    journal: Journal
    past: Past | None
    may_reuse: bool  # what a stopped pull committed, if the source can say that it still holds
    by_person: frozenset[str]  # types that are asked for by person
    read: Callable[[Part], Part]  # what looks at each part before it is committed
    started_at: datetime  # when the pull began, by the source's clock; one that goes on began before now
    now: datetime  # the source's clock
    progress: Tell
    books: Books = field(init=False)
    _taken: dict[str, list[Taken]] = field(default_factory=dict)
    _changes_only: dict[str, set[str]] = field(default_factory=dict)  # type -> people of whom only changes were asked
    _whole: set[str] = field(default_factory=set)  # types of which some unit was asked for without a limit in time
    is_confirmed: bool = True  # what was carried over was compared with a count
    known: frozenset[str] = frozenset()  # records of the people enrolled at the snapshot before
    rewrites: dict[str, Callable[[Held], Held]] = field(default_factory=dict)  # type -> what is kept instead
    _received: Counter[str] = field(default_factory=Counter)
    _known: KnownIds | None = None

    def __post_init__(self) -> None:
        self.books = Books(self.now)
        self._known = KnownIds(self.past) if self.past else None

    @property
    def has_holes(self) -> bool:
        return bool(self.books.doubts) or any(row.hole for row in self.books.rows)

    @property
    def is_verified(self) -> bool:
        """Every number received was compared with one the source declared."""
        return self.is_confirmed and self.books.is_verified

    @property
    def types(self) -> tuple[str, ...]:
        """Every type that was asked for, or held before."""
        held = self.past.snapshot.types() if self.past else ()
        return tuple(sorted({*self._taken, *held}))

    def came_whole(self, resource_type: str) -> bool:
        """Some of the type was asked for without a limit in time; with an export that means all of it."""
        return resource_type in self._whole

    def note(self, parts: Iterable[Part]) -> None:
        """Parts that opening the source has shown: they go into the accounts as they are."""
        self.books.rows += (row_of(self.read(part)) for part in parts)

    def give(self, part: Part) -> None:
        """Something the source does not hold, as if it did."""
        unit = Unit(part.query_id, part.resource_type)
        self._enter(unit, self.journal.commit(unit, [part], lambda _: True))

    def ask(self, queries: Sequence[Query], keeps: Keeps) -> None:
        """Take every unit of the queries; what ``keeps`` refuses is counted, and its content let go at once."""
        for query in queries:
            self._taken.setdefault(query.resource_type, [])
        pool = ThreadPoolExecutor(self.session.workers)
        try:
            for unit, taken in pool.map(lambda one: self._settled_unit(one, keeps), self.session.units(queries)):
                self._enter(unit, taken)
        finally:
            pool.shutdown(cancel_futures=True)

    def newest(self, resource_type: str, keeps: Keeps) -> Iterator[Held]:
        """What would be kept of a type as things stand; nothing is noted."""
        return self._settle(Books(self.now), resource_type, keeps)

    def settled(self, resource_type: str, keeps: Keeps, *, names_people: bool) -> Iterator[Held]:
        """What is kept of a type, noted in the books. To be read once, when everything was asked for."""
        return self._settle(self.books, resource_type, keeps, names_people=names_people)

    def decoded(self, resource_types: Iterable[str], keeps: Keeps) -> dict[str, list[fhir.Resource]]:
        """What would be kept of some types, decoded."""
        return {name: [fhir.decode(name, one.body) for one in self.newest(name, keeps)] for name in resource_types}

    def forget_doubtful(self) -> None:
        """Units in which something is in doubt are not committed any more: the next pull asks for them again."""
        for taken in (one for some in self._taken.values() for one in some):
            if any(row.place in self.books.doubts for row in taken.rows):
                self.journal.forget(taken.key)

    # --- one unit ---

    def _settled_unit(self, unit: Unit, keeps: Keeps) -> tuple[Unit, Taken]:
        """A unit and what it brought; if its changes do not add up with what is held, the whole of it instead."""
        taken = self._take(unit, keeps)
        if unit.since is None or not unit.people or taken.has_holes or self._adds_up(unit, taken):
            return unit, taken
        self.journal.forget(taken.key)
        return unit.whole, self._take(unit.whole, keeps)

    def _take(self, unit: Unit, keeps: Keeps) -> Taken:
        is_filtered = unit.resource_type in self.by_person and not unit.people  # by who was enrolled at that time
        known = self.journal.taken(unit) if self.may_reuse and not is_filtered else None
        if known is not None and self._still_holds(unit, known):
            return known
        return self.journal.commit(unit, self._told(unit), lambda item: keeps(item.resource_type, item))

    def _told(self, unit: Unit) -> Iterator[Part]:
        for part in self.session.take(unit):
            self._received[unit.resource_type] += part.n_received
            self.progress(f"Pulling {unit.resource_type}: {self._received[unit.resource_type]:,}")
            yield self.read(part)

    def _still_holds(self, unit: Unit, known: Taken) -> bool:
        """Nothing of the unit changed since the pull began, and the source counts what was committed.

        Of changes it cannot say how many there were; they are checked together with what was held before.
        """
        if self.session.count(unit._replace(since=self.started_at)) != 0:
            return False
        n_unreadable = sum(len(row.unreadable) for row in known.rows)
        return unit.since is not None or self.session.count(unit.whole) == len(self._ids(known)) + n_unreadable

    def _adds_up(self, unit: Unit, taken: Taken) -> bool:
        """What was held about these people, and what changed, are together what the source counts now.

        Something that cannot be read may be the newer version of something held.
        """
        held = self._known.of(unit.resource_type, unit.people) if self._known else set()
        has_unreadable = any(row.unreadable for row in taken.rows)
        return not has_unreadable and self.session.count(unit.whole) == len(self._ids(taken) | held)

    def _ids(self, taken: Taken) -> set[str]:
        return {one.id for run in self.journal.held(taken) for one in run}

    def _enter(self, unit: Unit, taken: Taken) -> None:
        if unit.since is None:
            self._whole.add(unit.resource_type)
        else:
            self._changes_only.setdefault(unit.resource_type, set()).update(unit.people)
        self._taken.setdefault(unit.resource_type, []).append(taken)
        self.books.rows += taken.rows

    # --- settling ---

    def _settle(self, books: Books, resource_type: str, keeps: Keeps, *, names_people: bool = False) -> Iterator[Held]:
        runs = [run for taken in self._taken.get(resource_type, ()) for run in self.journal.held(taken)]
        if resource_type in self.rewrites:
            runs = [map(self.rewrites[resource_type], run) for run in runs]
        before = self._before(resource_type)
        return books.settle(
            resource_type, runs, lambda one: keeps(resource_type, one), before, names_people=names_people
        )

    def _before(self, resource_type: str) -> Before | None:
        if self.past is None:
            return None
        past, changes_only = self.past, self._changes_only.get(resource_type, set())
        is_whole = self.session.since is None or self.came_whole(resource_type)
        place = Place(f"{resource_type} of the snapshot before", 0)
        items = past.items(resource_type, place)
        return Before(
            items=map(self.rewrites[resource_type], items) if resource_type in self.rewrites else items,
            place=place,
            is_asked_again=lambda one: is_whole and one.subject_id not in changes_only,
            is_known=lambda one: (one.subject_id or one.id) in self.known,
            deleted=frozenset(identity for name, identity in self.session.deleted if name == resource_type),
            seen_until=past.night.watermarks.get(resource_type),
        )
