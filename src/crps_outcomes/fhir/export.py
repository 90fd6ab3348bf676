"""A FHIR server read by Bulk Data $export: asked once, waited for, downloaded, and from then on read like a folder.

Whatever a folder is checked for, an export is checked for. Beside that, a type of which nothing came, or of which the
manifest counts nothing, is compared with what the server's search counts (F36, F42). What the export does not hold but
the server can search for, as the Group or Medications beside an export of patients, is searched for.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from crps_outcomes import resources as fhir
from crps_outcomes.errors import DefinitionError, SourceError
from crps_outcomes.fhir.bulk import Bulk, Job
from crps_outcomes.fhir.client import FaultError
from crps_outcomes.fhir.files import MANIFEST
from crps_outcomes.fhir.folder import FolderSession, opened
from crps_outcomes.fhir.search import RestSession, RestSource, read_metadata, session_of
from crps_outcomes.fhir.source import FHIR_ID, JSON_ERRORS, Part
from crps_outcomes.fhir.wire import Capability, read_bundle
from crps_outcomes.home import private_folder, replace_private
from crps_outcomes.workplace import EXPORT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import httpx

    from crps_outcomes.fhir.client import Client
    from crps_outcomes.fhir.source import Order, Query, Unit

_BY_PERSON = frozenset({"patient", "subject"})
Level = Literal["system", "patient", "group"]


class Member(NamedTuple):
    id: str
    is_active: bool


@dataclass(frozen=True)
class ExportSource:
    """A server's Bulk Data export. A description only: nothing is asked before it is opened."""

    server: RestSource
    level: Level = "group"

    @property
    def kind(self) -> Literal["export"]:
        return "export"

    @property
    def identity(self) -> str:
        """The same server gives the next night, whichever way it is asked."""
        return self.server.identity

    @contextmanager
    def open(self, order: Order) -> Iterator[ExportSession]:
        """A session, after the export was made and downloaded.

        Raises:
            SourceError: the server cannot be reached, refuses, or does not finish the export.
            DefinitionError: a Group is to be exported, but the protocol names none.
        """
        if self.level == "group" and not order.group:
            raise DefinitionError(
                'a Group can be exported only with the selector "group"; pull.export_level should be patient or system'
            )
        with self.server.connected(order) as client:
            search = session_of(client, order, *_metadata(client))
            yield _Export(client, search, order, self.level).session()


@dataclass(frozen=True)
class ExportSession:
    """A downloaded export, and the server's search for what it does not hold."""

    folder: FolderSession
    search: RestSession
    parts: tuple[Part, ...]
    beside: frozenset[str]  # types that are searched for, because no file holds them
    workers: int = 1  # one disk

    @property
    def software(self) -> str:
        return self.search.software

    @property
    def pulled_at(self) -> datetime:
        """The export's transactionTime."""
        return self.folder.pulled_at

    @property
    def since(self) -> datetime | None:
        return self.folder.since

    @property
    def deleted(self) -> frozenset[tuple[str, str]]:
        return self.folder.deleted

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """Files for the types that the export holds, searches for the others that the server knows."""
        others = [query for query in queries if query.resource_type in self.beside]
        inside = [query for query in queries if query.resource_type not in self.beside]
        return [*self.folder.units(inside), *self.search.units(others)]

    def narrows(self, resource_type: str) -> bool:
        """Files bring all there is of a type at once, a search what it is asked for."""
        return resource_type in self.beside

    def take(self, unit: Unit) -> Iterator[Part]:
        """The parts of a file or of a search."""
        return self.folder.take(unit) if self.folder.holds(unit) else self.search.take(unit)

    def total(self, query: Query) -> int | None:
        """What the server's search counts for a query, where it has one."""
        return self.search.total(query)

    def count(self, unit: Unit) -> int | None:
        """What a search counts; of its files an export says nothing more."""
        return None if self.folder.holds(unit) else self.search.count(unit)


@dataclass(frozen=True)
class _Export:
    client: Client
    search: RestSession
    order: Order
    level: Level

    @property
    def since(self) -> datetime | None:
        """From when on changes are enough; None once everything is due again."""
        whole_from = self.order.whole_from
        return None if whole_from and self.search.pulled_at >= whole_from else self.order.since

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.order.resource_types, "Medication")))

    def session(self) -> ExportSession:
        """Everything on disk: as a killed pull had left it, or asked for now."""
        path, members = self._target()
        bulk = Bulk(self.client, private_folder(self.order.workplace / EXPORT), self._asked(path), self.order.limits)
        job, holes = bulk.delivered()
        folder = bulk.place / job.folder
        if not job.is_settled:
            confirmed, short = self._compared(job, members, {part.resource_type for part in holes})
            holes = (*holes, *short)
            _write_manifest(folder, job, confirmed)
        files = opened(folder, self.order)
        parts = (*files.parts, *holes)
        if any(part.hole for part in parts):
            bulk.forget()
        elif not job.is_settled:
            bulk.settle(job)
        held = files.types if files.since is None else files.types - self._searched_beside_changes()
        beside = frozenset(name for name in self.types if name not in held and self._can_search(name))
        return ExportSession(files, self.search, parts, beside)

    def _searched_beside_changes(self) -> frozenset[str]:
        """Medications, because an old one may be referred to for the first time; and what cannot be counted by person."""
        known = self.search.parameters
        uncounted = (name for name in self.order.resource_types if not known.get(name, frozenset()) & _BY_PERSON)
        return frozenset(("Medication", *uncounted)) - {"Patient", "Group"}

    def _can_search(self, name: str) -> bool:
        try:
            return name in self.search.parameters or self.search.knows(name)
        except SourceError:
            return False

    def _asked(self, path: str) -> httpx.URL:
        since = {"_since": _instant(self.since)} if self.since else {}
        return self.client.address(path, _type=",".join(self.types), **since)

    def _target(self) -> tuple[str, tuple[Member, ...]]:
        """What is exported, and the members if it is a Group."""
        if self.level != "group":
            return {"system": "$export", "patient": "Patient/$export"}[self.level], ()
        group = self._group()
        members = (Member(fhir.id_in(one.entity, "Patient"), not one.inactive) for one in group.member)
        return f"Group/{group.id}/$export", tuple(one for one in members if FHIR_ID.fullmatch(one.id))

    def _group(self) -> fhir.Group:
        """The cohort's Group, read before it is exported: of one it does not know a server may export nothing (F43).

        Raises:
            SourceError: there is none, or more than one, or it cannot be searched for.
        """
        try:
            page = self.client.get(self.client.address("Group", identifier=self.order.group), read_bundle).content
            groups = [fhir.decode("Group", bytes(one.resource)) for one in page.entry if one.search.mode != "outcome"]
        except FaultError as fault:
            raise SourceError(f"F43 the Group of the protocol cannot be searched for: {fault}") from fault
        except JSON_ERRORS as error:
            raise SourceError("F43 the Group of the protocol cannot be read") from error
        if len(groups) != 1 or not isinstance(groups[0], fhir.Group) or not FHIR_ID.fullmatch(groups[0].id):
            raise SourceError(
                f"F29 the server has {len(groups)} Groups with the protocol's identifier; there should be one (empty_cohort)"
            )
        return groups[0]

    # --- compared with what the server's search counts (F36, F42) ---

    def _compared(
        self, job: Job, members: Sequence[Member], lost: Collection[str]
    ) -> tuple[frozenset[str], tuple[Part, ...]]:
        """Types whose number the search confirms, and a hole for each that falls short of it.

        Only where the manifest leaves a doubt: nothing of a type, or no count. What was written after the export does
        not count; of an export of changes nothing can be compared; and types of which a file is ``lost`` have a hole.
        """
        confirmed: set[str] = set()
        holes: list[Part] = []
        for name in [name for name in self.types if name not in lost] if self.since is None else ():
            files = [(file, one) for kind, file, one in job.manifest.files() if (kind, one.type) == ("output", name)]
            n_lines = sum(job.files[file].n_lines for file, _ in files if file in job.files)
            if n_lines and all(one.declared is not None for _, one in files):
                continue
            before = str(job.manifest.transaction_time)
            least = self._counted(name, [one.id for one in members if one.is_active], before)
            if least is not None and n_lines < least:
                holes.append(Part(f"export {name}", 0, name, declared=least, hole=_short(least, n_lines)))
            elif n_lines in {least, self._counted(name, [one.id for one in members], before)}:
                confirmed.add(name)
        return frozenset(confirmed), tuple(holes)

    def _counted(self, name: str, people: Sequence[str], before: str) -> int | None:
        """What the search counts for a type: of these people, or of everybody if the whole system is exported."""
        known = self.search.parameters.get(name, frozenset())
        if self.level == "patient" or "_lastUpdated" not in known:
            return None
        by = "_id" if name == "Patient" else "patient"
        if self.level == "group" and by not in known:
            return None
        size = self.order.limits.patients_per_query
        narrowed: list[Mapping[str, str]] = [
            {by: ",".join(people[at : at + size])} for at in range(0, len(people), size)
        ]
        try:
            return sum(self._total(name, one, before) for one in ([{}] if self.level == "system" else narrowed))
        except FaultError:
            return None

    def _total(self, name: str, narrowed: Mapping[str, str], before: str) -> int:
        url = self.client.address(name, **narrowed, _lastUpdated=f"le{before}", _summary="count")
        total = self.client.get(url, read_bundle).content.total
        if total is None:
            raise FaultError("F06", "no total")
        return total


def _short(counted: int, n_lines: int) -> str:
    if n_lines:
        return f"F36 the server counts {counted}, the export brought {n_lines} (rows_missing)"
    return f"F42 the server counts {counted}, and the export brought none (suspicious_empty)"


def _metadata(client: Client) -> tuple[Capability, datetime]:
    """What the server says it can do; a server that says nothing may still export."""
    try:
        return read_metadata(client)
    except SourceError:
        return Capability("CapabilityStatement"), client.surroundings.now()


def _write_manifest(folder: Path, job: Job, confirmed: frozenset[str]) -> None:
    """The manifest of what was downloaded, with our own file names; counts as declared, or as confirmed by search."""
    lists: dict[str, list[dict[str, Any]]] = {"output": [], "error": [], "deleted": []}
    for kind, name, output in job.manifest.files():
        if name in job.files:
            own = job.files[name].n_lines if output.type in confirmed else None
            count = own if output.declared is None else output.declared
            lists[kind].append({"type": output.resource_type, "url": name, "count": count})
    written = {"transactionTime": job.manifest.transaction_time, "request": job.asked, **lists}
    replace_private(private_folder(folder) / MANIFEST, msgspec.json.encode(written))


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
