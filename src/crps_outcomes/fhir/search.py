"""A FHIR server read by search: independent shards, every page followed, every number compared, or a hole.

Nothing but the absence of ``next`` ends a shard. A shard is taken whole or not at all: when a page is lost, the pages
before it are thrown away, and either the shard is read again, or split, or it becomes one ledger row with its fault
code (F01 to F30 of the catalogue in docs/completeness.md).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import httpx

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.auth import Login, no_credential
from crps_outcomes.fhir.client import Client, FaultError, Surroundings, connect
from crps_outcomes.fhir.source import Item, Order, Part, Query, Unit, Unreadable, read_item
from crps_outcomes.fhir.wire import Bundle, Capability, is_outcome, issues_in, read_bundle, read_capability

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from crps_outcomes.definitions import Pull

#: What a query may be narrowed by -> (search parameter, what stands before each value), best first.
_PARAMETERS: dict[str, tuple[tuple[str, str], ...]] = {
    "_id": (("_id", ""),),
    "patient": (("patient", ""), ("subject", "Patient/")),
    "identifier": (("identifier", ""),),
    "study": (("study", "ResearchStudy/"),),
    "type": (("type", ""),),
    "category": (("category", ""),),
}
#: How often a shard is read again from page 1, by fault.
_AGAIN = {"F04": 1, "F07": 1, "F17": 2}
#: Faults that smaller queries may cure: too long an address, an offset limit.
_SPLIT = frozenset({"F12", "F13"})
#: What a status means on a later page, where it is not what it means on the first.
_LATER = {400: "F12", 404: "F17"}
_PAGES_WITHOUT_TOTAL = 100_000
_IDLE_PAGES = 3


class Shard(NamedTuple):
    """One search: a resource type, narrowed by one parameter to some values, or all of it."""

    query_id: str
    resource_type: str
    parameter: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Page:
    url: httpx.URL
    number: int
    total: int | None
    next_url: httpx.URL | None
    items: tuple[Item, ...]  # matches of the type asked for
    unreadable: tuple[Unreadable, ...]
    n_not_asked_for: int

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(item.id for item in self.items)


@dataclass(frozen=True)
class RestSource:
    """A FHIR server. A description only: nothing is asked before it is opened."""

    url: str
    credential: Login = no_credential
    ca_file: Path | None = None
    allowed_origins: Sequence[str] = ()
    proxies: Mapping[str, str | None] = field(default_factory=dict)
    transport: httpx.BaseTransport | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def kind(self) -> Literal["rest"]:
        return "rest"

    @property
    def identity(self) -> str:
        """The same server gives the next night."""
        return self.url.rstrip("/")

    @contextmanager
    def open(self, order: Order) -> Iterator[RestSession]:
        """A session, after the capability statement was read and the first search was answered.

        Raises:
            SourceError: the server cannot be reached, refuses, is no FHIR server, or does not know a type.
        """
        with self.connected(order) as client:
            capability, pulled_at = read_metadata(client)
            session = session_of(client, order, capability, pulled_at)
            session.refuse_unknown(order.resource_types)
            yield session

    @contextmanager
    def connected(self, order: Order) -> Iterator[Client]:
        """A client that is signed in; nothing is asked yet."""
        limits = order.limits
        with connect(
            self.url,
            credential=self.credential,
            resource_types=order.resource_types,
            ca_file=self.ca_file,
            allowed_origins=self.allowed_origins,
            proxies=self.proxies,
            transport=self.transport,
            surroundings=self.surroundings,
            timeout_seconds=limits.timeout_seconds,
            max_body_mb=limits.max_body_mb,
            requests_per_second=limits.requests_per_second,
        ) as client:
            yield client


@dataclass(frozen=True)
class RestSession:
    """A server that has answered. ``parameters``: resource type -> the search parameters it says it knows."""

    client: Client
    limits: Pull
    software: str
    pulled_at: datetime
    parameters: Mapping[str, frozenset[str]]
    parts: tuple[Part, ...] = ()
    since: datetime | None = None
    deleted: frozenset[tuple[str, str]] = frozenset()

    def refuse_unknown(self, resource_types: Sequence[str]) -> None:
        """Ask once for what the capability statement does not list, and once with the token in any case.

        Raises:
            SourceError: the server refuses, or does not know a type (F24).
        """
        unlisted = (name for name in resource_types if name not in self.parameters)
        unknown = [name for name in dict.fromkeys(("Patient", *unlisted)) if not self.knows(name)]
        if unknown:
            raise SourceError(
                f"F24 the server does not know {', '.join(unknown)}; "
                "pull.resource_types in mappings/protocol.toml should name only types it has"
            )

    @property
    def workers(self) -> int:
        return self.limits.workers

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """The shards of the queries."""
        shards = [shard for query in queries for shard in self.shards(query)]
        return [Unit(shard.query_id, shard.resource_type, work=shard) for shard in shards]

    def count(self, unit: Unit) -> int | None:
        """What the server counts for the unit; None when it does not say."""
        return self._count(unit.work)

    def take(self, unit: Unit) -> Iterator[Part]:
        """The pages of a shard, or one part with the hole."""
        yield from self._taken(unit.work)

    def shards(self, query: Query) -> list[Shard]:
        """The searches that answer a query: chunks of values, or the whole type if the server cannot narrow it."""
        if query.by and not query.values:
            return []
        name, known = query.resource_type, self.parameters.get(query.resource_type, frozenset())
        usable = [one for one in _PARAMETERS.get(query.by, ()) if one[0] in known or (known and one[0] == "_id")]
        if not usable:
            return [Shard(f"{name}-001", name)]
        parameter, prefix = usable[0]
        values, size = query.values, self.limits.patients_per_query
        chunks = [values[start : start + size] for start in range(0, len(values), size)]
        return [
            Shard(f"{name}-{number:03d}", name, parameter, tuple(prefix + _escaped(value) for value in chunk))
            for number, chunk in enumerate(chunks, 1)
        ]

    def _taken(self, shard: Shard) -> tuple[Part, ...]:
        """All pages of a shard; after a fault the shard again, its halves, or one part with the hole."""
        faults: Counter[str] = Counter()
        while True:
            try:
                return self._whole(shard)
            except FaultError as fault:
                faults[fault.code] += 1
                if faults[fault.code] <= _AGAIN.get(fault.code, 0):
                    continue
                if fault.code in _SPLIT and len(shard.values) > 1:
                    return self._halves(shard)
                return (_hole(shard, fault),)

    def _halves(self, shard: Shard) -> tuple[Part, ...]:
        middle = len(shard.values) // 2
        parts: tuple[Part, ...] = ()
        for number, values in enumerate((shard.values[:middle], shard.values[middle:]), 1):
            parts += self._taken(shard._replace(query_id=f"{shard.query_id}.{number}", values=values))
            if any(part.hole for part in parts):  # the rest could not make it whole again
                return tuple(part for part in parts if part.hole)
        return parts

    def _whole(self, shard: Shard) -> tuple[Part, ...]:
        """Every page of a shard, compared with its total.

        Raises:
            FaultError: a page is lost (its code), rows vanished meanwhile (F04), or the numbers differ (F07).
        """
        first = self._page(shard, self._first_url(shard), 1)
        before = first.total if first.total is not None else self._count(shard)
        pages = [first, *self._following(shard, first, before)]
        after = self._total_after(shard, pages, before)
        n_found = len({key for page in pages for key in page.keys}) + sum(len(page.unreadable) for page in pages)
        if before is not None and after is not None and after < before:
            raise FaultError("F04", f"rows vanished during the pull: {before} before, {after} after (drift)")
        if after is not None and n_found != after:
            raise FaultError("F07", f"the server declares {after}, {n_found} arrived (count_mismatch)")
        return tuple(_part(shard, page, self.limits.page_size, after) for page in pages)

    def _following(self, shard: Shard, first: _Page, total: int | None) -> Iterator[_Page]:
        page, seen, visited, n_idle = first, set(first.keys), {first.url}, 0
        while page.next_url is not None:
            if page.next_url in visited or page.number >= _most_pages(first, total) or n_idle >= _IDLE_PAGES:
                raise FaultError("F02", f"the pages do not end (paging_loop at page {page.number})")
            visited.add(page.next_url)
            page = self._page(shard, page.next_url, page.number + 1)
            n_idle = n_idle + 1 if page.items and page.keys <= seen else 0
            seen |= page.keys
            yield page

    def _page(self, shard: Shard, url: httpx.URL, number: int) -> _Page:
        def give_up(fault: FaultError) -> bool:
            return fault.status == httpx.codes.INTERNAL_SERVER_ERROR and number == 1 and len(shard.values) > 1

        try:
            reply = self.client.get(url, read_bundle, give_up=give_up)
        except FaultError as fault:
            raise _as_of_page(fault, number, gave_up=give_up(fault)) from fault
        if number == 1:
            _refuse_ignored_filter(shard, reply.content)
        link = reply.content.link_to("next")
        next_url = self.client.follow(reply.url, link) if link else None
        return _sorted_entries(shard, reply.content, _Page(url, number, reply.content.total, next_url, (), (), 0))

    def _first_url(self, shard: Shard, **more: str) -> httpx.URL:
        sort = {"_sort": "_lastUpdated"} if "_lastUpdated" in self.parameters.get(shard.resource_type, ()) else {}
        paging = more or {"_count": str(self.limits.page_size), **sort, "_total": "accurate"}
        narrowed = {shard.parameter: ",".join(shard.values)} if shard.parameter else {}
        return self.client.address(shard.resource_type, **narrowed, **paging)

    def _count(self, shard: Shard) -> int | None:
        """What the server counts for the shard; None when it does not say."""
        try:
            return self.client.get(self._first_url(shard, _summary="count"), read_bundle).content.total
        except FaultError:
            return None  # the pull goes on, and its state becomes "unverified"

    def _total_after(self, shard: Shard, pages: Sequence[_Page], before: int | None) -> int | None:
        told = [page.total for page in pages if page.total is not None]
        if told:
            return told[-1]
        return self._count(shard) if before is not None and len(pages) > 1 else before

    def knows(self, resource_type: str) -> bool:
        """Whether a search for the type is answered; some servers list less than they know.

        Raises:
            SourceError: the server refuses.
        """
        try:
            self.client.get(self.client.address(resource_type, _summary="count"), read_bundle)
        except FaultError as fault:
            if fault.code in {"F15", "F24"}:
                return False
            raise SourceError(f"the FHIR server refused the first search: {fault}") from fault
        return True


def session_of(client: Client, order: Order, capability: Capability, pulled_at: datetime) -> RestSession:
    """What can be searched for, as the server says."""
    return RestSession(client, order.limits, _software(capability), pulled_at, _parameters(capability))


def read_metadata(client: Client) -> tuple[Capability, datetime]:
    """What the server says it can do, and its clock.

    Raises:
        SourceError: no FHIR server answers.
    """
    try:
        reply = client.get(client.address("metadata"), read_capability, give_up=lambda fault: not fault.status)
    except FaultError as fault:
        raise SourceError(f"no FHIR server answers at {client.base}: {fault}") from fault
    return reply.content, reply.date


def _software(capability: Capability) -> str:
    return f"{capability.software.name} {capability.software.version}".strip() or "not stated"


def _parameters(capability: Capability) -> dict[str, frozenset[str]]:
    return {
        one.type: frozenset({"_id", *(parameter.name for parameter in one.search_param)})
        for rest in capability.rest
        if rest.mode == "server"
        for one in rest.resource
    }


def _sorted_entries(shard: Shard, bundle: Bundle, page: _Page) -> _Page:
    """The page with its entries put where they belong: matches, unreadable ones, and what nobody asked for.

    Raises:
        FaultError: the server says inside the page that something went wrong (F23).
    """
    items: list[Item] = []
    unreadable: list[Unreadable] = []
    n_not_asked_for = 0
    for number, entry in enumerate(bundle.entry, 1):
        item = read_item(bytes(entry.resource))
        if isinstance(item, str):
            if entry.search.mode != "outcome" and not is_outcome(entry):
                unreadable.append(Unreadable(f"{shard.query_id} page {page.number} entry {number}", item))
        elif item.resource_type == shard.resource_type and entry.search.mode in {"", "match"}:
            items.append(item)
        elif item.resource_type != "OperationOutcome":
            n_not_asked_for += 1
    _refuse_errors_inside(bundle)
    return replace(page, items=tuple(items), unreadable=tuple(unreadable), n_not_asked_for=n_not_asked_for)


def _refuse_errors_inside(bundle: Bundle) -> None:
    errors = sorted({issue.code for issue in issues_in(bundle) if issue.severity in {"error", "fatal"}})
    if errors:
        raise FaultError("F23", "the page holds an OperationOutcome of severity error")


def _refuse_ignored_filter(shard: Shard, bundle: Bundle) -> None:
    """A filter the server ignored shows in two places: missing from the self link, or named in an outcome."""
    if not shard.parameter:
        return
    told = " ".join(f"{issue.diagnostics} {issue.details.text}" for issue in issues_in(bundle))
    own = bundle.link_to("self").partition("?")[2]
    sent = {name.split(":")[0].split(".")[0] for name in httpx.QueryParams(own)} if own else {shard.parameter}
    if shard.parameter not in sent or f"'{shard.parameter}'" in told or f'"{shard.parameter}"' in told:
        raise FaultError("F15", f"the server ignored the filter {shard.parameter} (param_ignored)")


def _as_of_page(fault: FaultError, number: int, *, gave_up: bool) -> FaultError:
    """The same status means other things on the first page and later."""
    code = fault.code
    if gave_up:
        code = "F13"
    elif number > 1:
        code = _LATER.get(fault.status, code)
    text = "the search expired (search_expired)" if code == "F17" else fault.reason
    return FaultError(code, f"page {number}: {text}", status=fault.status)


def _most_pages(first: _Page, total: int | None) -> int:
    """Twice the pages that the total needs at the size the server really sends, and ten more."""
    if total is None:
        return _PAGES_WITHOUT_TOTAL
    size = len(first.items) + len(first.unreadable) + first.n_not_asked_for
    return 2 * total // max(size, 1) + 10


def _part(shard: Shard, page: _Page, asked: int, declared: int | None) -> Part:
    return Part(
        query_id=shard.query_id,
        part=page.number,
        resource_type=shard.resource_type,
        asked=asked,
        declared=declared,
        items=page.items,
        unreadable=page.unreadable,
        n_not_asked_for=page.n_not_asked_for,
        is_verified=declared is not None,
    )


def _hole(shard: Shard, fault: FaultError) -> Part:
    of = f" of {len(shard.values)} values of {shard.parameter}" if shard.parameter else ""
    return Part(shard.query_id, 0, shard.resource_type, hole=f"{fault}; the whole query{of} is missing")


def _escaped(value: str) -> str:
    """A value of a search parameter: a comma or dollar in it must not be read as a separator."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
