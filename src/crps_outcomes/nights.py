"""From one night to the next: the last good pull of the same source and cohort, and what of it still holds.

A pull asks only for what changed since, where the source can also count what it has: a count that differs from what is
held says that something was deleted, or changed unseen, and then everything is asked for again. From time to time
everything is asked for in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from crps_outcomes import resources as fhir
from crps_outcomes.enrolment import SELECTOR_TYPES, enrol, listed
from crps_outcomes.errors import IncompleteDataError
from crps_outcomes.fhir.source import item_of
from crps_outcomes.journal import Held, Place, held
from crps_outcomes.snapshot import open_snapshot
from crps_outcomes.state import Night, Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from crps_outcomes.definitions import Protocol
    from crps_outcomes.fhir.source import Source
    from crps_outcomes.home import Home
    from crps_outcomes.snapshot import Snapshot

#: What was changed shortly before the last pull is asked for again: a server may show a change later than it dates it.
OVERLAP = timedelta(minutes=10)


def scope_of(source: Source, protocol: Protocol) -> str:
    """Which source, and which cohort: pulls of one scope go on from each other, no others do."""
    told = (source.identity, protocol.id, protocol.timezone, protocol.enrolment, protocol.pull.resource_types)
    return sha256(repr(told).encode()).hexdigest()


class KnownPeople(NamedTuple):
    """The people of a pull before: whom the selector named (ids and identifiers), and the records of the enrolled."""

    listed: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Past:
    """The last good pull of a scope."""

    night: Night
    snapshot: Snapshot

    def people(self, protocol: Protocol) -> KnownPeople:
        """Who was asked for then, and of whom everything is held."""
        names = {*SELECTOR_TYPES[protocol.enrolment.selector], "Patient", "Consent"}
        held = {name: [fhir.decode(name, line) for line in self.snapshot.lines(name)] for name in names}
        day = date.fromisoformat(self.snapshot.manifest.pulled_on)
        selected = {name: held[name] for name in SELECTOR_TYPES[protocol.enrolment.selector]}
        asked = listed(selected, protocol, as_of=day)  # records as they are named, not yet merged
        return KnownPeople(
            listed=frozenset(asked.active) | frozenset(asked.active_identifiers),
            records=frozenset(enrol(held, protocol, as_of=day).records),
        )

    def items(self, resource_type: str, place: Place) -> Iterator[Held]:
        """What it holds of a type, sorted by id."""
        return (held(item_of(line), place) for line in self.snapshot.lines(resource_type))

    def is_whole_due(self, now: datetime, protocol: Protocol) -> bool:
        """Everything should be asked for again."""
        return now >= self.whole_from(protocol) or now < self.night.whole_at  # a clock that was wrong once

    def whole_from(self, protocol: Protocol) -> datetime:
        """When everything should be asked for again."""
        return self.night.whole_at + timedelta(days=protocol.pull.whole_every_days)


def last_night(home: Home, scope: str) -> Past | None:
    """The last good pull of a scope; none if there was none, or its snapshot is gone or damaged."""
    night = Records(home.state_url).night(scope)
    if night is None:
        return None
    try:
        return Past(night, open_snapshot(home.snapshots / night.snapshot))
    except IncompleteDataError:
        return None


def next_watermarks(
    resource_types: Mapping[str, datetime | None], started_at: datetime, past: Past | None
) -> dict[str, datetime]:
    """From where the next night asks, by type: what the source said, less an overlap, and never further back.

    Args:
        resource_types: the newest change seen of each type, up to the beginning of the pull.
        started_at: when this pull began, by the source's clock.
        past: the pull before.
    """
    before = past.night.watermarks if past else {}
    marks = {name: min(started_at, newest or started_at) - OVERLAP for name, newest in resource_types.items()}
    return {name: max(mark, min(before.get(name, mark), started_at)) for name, mark in marks.items()}


@dataclass
class KnownIds:
    """The ids a past snapshot holds, by type and person; a type is read when it is first asked for, once."""

    past: Past
    _ids: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    _reading: Lock = field(default_factory=Lock)

    def of(self, resource_type: str, people: tuple[str, ...]) -> set[str]:
        """The ids of a type that are about these people."""
        with self._reading:
            if resource_type not in self._ids:
                self._ids[resource_type] = self._read(resource_type)
        by_person = self._ids[resource_type]
        return {identity for person in people for identity in by_person.get(person, ())}

    def _read(self, resource_type: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in self.past.items(resource_type, Place("", 0)):
            found.setdefault(one.subject_id, set()).add(one.id)
        return found
