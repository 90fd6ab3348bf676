"""A FHIR server read by search: independent shards, every page followed, every number compared, or a hole.

Nothing but the absence of ``next`` ends a shard. A shard is taken whole or not at all: when a page is lost, the pages
before it are thrown away, and either the shard is read again, or split, or it becomes one ledger row with its fault
code (F01 to F30 of the catalogue in docs/completeness.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

import httpx
import msgspec

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.auth import Login, no_credential
from crps_outcomes.fhir.client import Client, FaultError, Reply, Surroundings, connect
from crps_outcomes.fhir.source import Item, Order, Part, Query, Unit, Unreadable, read_item
from crps_outcomes.fhir.wire import Bundle, Capability, is_outcome, issues_in, read_bundle, read_capability
from crps_outcomes.home import append_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.definitions import Pull
    from crps_outcomes.fhir.source import Order

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
_AGAIN = {"F04": 2, "F07": 1, "F17": 2}
#: Faults that smaller queries may cure: too long an address, an offset limit.
_SPLIT = frozenset({"F12", "F13"})
#: What a status means on a later page, where it is not what it means on the first.
_LATER = {400: "F12", 404: "F17"}
_PAGES_WITHOUT_TOTAL = 100_000
_IDLE_PAGES = 3
_LONGEST_ADDRESS = 2_000  # characters; some servers and proxies refuse longer ones (F13)
_TAKES_NO_FORMS = frozenset({404, 405, 415, 501})
#: The server's clock is told in whole seconds.
_A_MOMENT = timedelta(seconds=2)
_FAR_FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
_UNTIL_SETTLED_SECONDS = 5.0


GiveUp = Callable[[FaultError], bool]


def _never(_: FaultError) -> bool:
    return False


class Shard(NamedTuple):
    """One search: a resource type, narrowed by one parameter to some values, or all of it."""

    query_id: str
    resource_type: str
    parameter: str = ""
    values: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True)
class _Page:
    url: httpx.URL
    number: int
    date: datetime  # the server's clock
    total: int | None
    next_url: httpx.URL | None
    items: tuple[Item, ...]  # matches of the type asked for
    unreadable: tuple[Unreadable, ...]
    n_not_asked_for: int

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(item.id for item in self.items)

    @property
    def changes(self) -> tuple[datetime, ...]:
        return tuple(item.last_updated for item in self.items if item.last_updated is not None)


@dataclass(frozen=True)
class RestSource:
    """A FHIR server. A description only: nothing is asked before it is opened."""

    url: str
    credential: Login = no_credential
    ca_file: Path | None = None
    allowed_origins: Sequence[str] = ()
    proxies: Mapping[str, str | None] = field(default_factory=dict, repr=False)
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
            resource_types=_readable(order.resource_types),
            ca_file=self.ca_file,
            allowed_origins=self.allowed_origins,
            proxies=self.proxies,
            transport=self.transport,
            surroundings=self.surroundings,
            timeout_seconds=limits.timeout_seconds,
            max_body_mb=limits.max_body_mb,
            requests_per_second=limits.requests_per_second,
            told=lambda record: append_private(
                order.workplace / "requests.ndjson", msgspec.json.encode(record) + b"\n"
            ),
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
    probed: dict[str, bool] = field(default_factory=dict)  # unlisted types: whether they are searched by change
    numbers: Counter[str] = field(default_factory=Counter)  # of the units so far, by type
    since: None = None  # each query says so itself
    deleted: frozenset[tuple[str, str]] = frozenset()

    @property
    def workers(self) -> int:
        return self.limits.workers

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

    def units(self, queries: Sequence[Query]) -> list[Unit]:
        """The searches that answer the queries: chunks of values, or a whole type if the server cannot narrow it."""
        return list(self._units(queries))

    def _units(self, queries: Sequence[Query]) -> Iterator[Unit]:
        whole: set[str] = set()  # types that cannot be narrowed: read once, for however many queries
        for query in queries:
            for chunk in self._chunks(query):
                if chunk or query.resource_type not in whole:
                    yield self._unit(query, chunk)
                whole |= set() if chunk else {query.resource_type}

    def narrows(self, resource_type: str) -> bool:
        """A search brings what it asks for, and may be asked again for more."""
        del resource_type
        return True

    def take(self, unit: Unit) -> Iterator[Part]:
        """The pages of a search; after a fault the search again, its halves, or one part with the hole."""
        yield from self._taken(_shard(unit))

    def count(self, unit: Unit) -> int | None:
        """What the server counts for the search."""
        if unit.since is not None and not self._knows_changes(unit.resource_type):
            return None
        return self._count(_shard(unit))

    def total(self, query: Query) -> int | None:
        """What the server counts for a query; None if it does not, or cannot narrow it."""
        if self._narrowing(query) is None:
            return None
        found = [self._count(_shard(self._unit(query, chunk))) for chunk in self._chunks(query)]
        return None if None in found else sum(one for one in found if one is not None)

    def _unit(self, query: Query, chunk: tuple[str, ...]) -> Unit:
        name = query.resource_type
        self.numbers[name] += 1
        parameter, prefix = self._narrowing(query) or ("", "")
        is_by_person = bool(parameter) and query.by == "patient"
        return Unit(
            name=f"{name}-{self.numbers[name]:03d}",
            resource_type=name,
            people=chunk if is_by_person else (),
            since=query.since if is_by_person and self._knows_changes(name) else None,
            work=(parameter, tuple(prefix + _escaped(value) for value in chunk) if parameter else ()),
        )

    def _chunks(self, query: Query) -> list[tuple[str, ...]]:
        if query.by and not query.values:
            return []
        if self._narrowing(query) is None:
            return [()]
        size = self.limits.patients_per_query
        return [query.values[start : start + size] for start in range(0, len(query.values), size)]

    def _narrowing(self, query: Query) -> tuple[str, str] | None:
        """The search parameter that narrows a query, and what stands before its values; None if there is none."""
        known = self.parameters.get(query.resource_type, frozenset())
        usable = [one for one in _PARAMETERS.get(query.by, ()) if one[0] in known or (known and one[0] == "_id")]
        return usable[0] if usable else None

    def _knows_changes(self, resource_type: str) -> bool:
        return "_lastUpdated" in self.parameters.get(resource_type, ())

    def _can_tell_changes(self, shard: Shard) -> bool:
        """The server searches by change; of a type it does not list, it says so by counting none in the far future."""
        name = shard.resource_type
        if name in self.parameters:
            return self._knows_changes(name)
        if name not in self.probed:
            self.probed[name] = self._count(shard._replace(since=_FAR_FUTURE)) == 0
        return self.probed[name]

    def _taken(self, shard: Shard) -> tuple[Part, ...]:
        faults: Counter[str] = Counter()
        while True:
            try:
                return self._whole(shard)
            except FaultError as fault:
                faults[fault.code] += 1
                if faults[fault.code] <= _AGAIN.get(fault.code, 0):
                    self.client.surroundings.sleep(_UNTIL_SETTLED_SECONDS * (fault.code == "F04"))
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
            FaultError: a page is lost (its code), rows came or went meanwhile (F04), or the numbers differ (F07).
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
        if len(pages) > 1 and self._changed_meanwhile(shard, first.date):
            raise FaultError("F04", "rows changed while the pages were read (drift)")
        is_settled = len(pages) == 1 or self._can_tell_changes(shard)  # else a row may have slipped unseen
        return tuple(_part(shard, page, self.limits.page_size, after, is_settled=is_settled) for page in pages)

    def _following(self, shard: Shard, first: _Page, total: int | None) -> Iterator[_Page]:
        page, seen, visited, n_idle, here = first, set(first.keys), {first.url}, 0, shard
        while page.next_url is not None:
            if page.next_url in visited or page.number >= _most_pages(first, total) or n_idle >= _IDLE_PAGES:
                raise FaultError("F02", f"the pages do not end (paging_loop at page {page.number})")
            visited.add(page.next_url)
            page, here = self._next(here, page)
            n_idle = n_idle + 1 if page.items and page.keys <= seen else 0
            seen |= page.keys
            yield page if here is shard else replace(page, total=None)  # of a later start the total is another

    def _next(self, shard: Shard, page: _Page) -> tuple[_Page, Shard]:
        """The next page; past the server's limit on offsets (F12), a new search from the last change seen."""
        assert page.next_url is not None
        try:
            return self._page(shard, page.next_url, page.number + 1, is_link=True), shard
        except FaultError as fault:
            last = max(page.changes, default=None)
            if (
                fault.code != "F12"
                or last is None
                or last == shard.since
                or not self._knows_changes(shard.resource_type)
            ):
                raise
            on = shard._replace(since=last)
            return self._page(on, self._first_url(on), page.number + 1), on

    def _changed_meanwhile(self, shard: Shard, since: datetime) -> bool:
        """Whether anything changed since the first page: a row may have slipped from a page not read to one read."""
        if not self._can_tell_changes(shard):
            return False
        swept = self._page(shard, self._first_url(shard._replace(since=since - _A_MOMENT)), 1)
        return any(changed <= swept.date + _A_MOMENT for changed in swept.changes)  # later ones are of a wrong clock

    def _page(self, shard: Shard, url: httpx.URL, number: int, *, is_link: bool = False) -> _Page:
        def give_up(fault: FaultError) -> bool:
            return fault.status == httpx.codes.INTERNAL_SERVER_ERROR and number == 1 and len(shard.values) > 1

        try:
            reply = (self._followed if is_link else self._searched)(url, give_up)
        except FaultError as fault:
            raise _as_of_page(fault, number, gave_up=give_up(fault)) from fault
        if number == 1:
            _refuse_ignored_filter(shard, reply.content)
        link = reply.content.link_to("next")
        next_url = self.client.follow(reply.url, link) if link else None
        page = _Page(url, number, reply.date, reply.content.total, next_url, (), (), 0)
        return _sorted_entries(shard, reply.content, page)

    def _searched(self, url: httpx.URL, give_up: GiveUp = _never) -> Reply[Bundle]:
        """A search of our own; what is too long an address for many servers is sent as a form, if this one takes it."""
        if len(str(url)) > _LONGEST_ADDRESS:
            form_url = url.copy_with(path=f"{url.path}/_search", query=None)
            try:
                return self.client.post_search(form_url, dict(url.params), read_bundle, give_up=give_up)
            except FaultError as fault:
                if fault.status not in _TAKES_NO_FORMS:
                    raise
        return self._followed(url, give_up)

    def _followed(self, url: httpx.URL, give_up: GiveUp = _never) -> Reply[Bundle]:
        return self.client.get(url, read_bundle, give_up=give_up)

    def _first_url(self, shard: Shard, **more: str) -> httpx.URL:
        sort = {"_sort": "_lastUpdated"} if self._knows_changes(shard.resource_type) else {}
        paging = more or {"_count": str(self.limits.page_size), **sort, "_total": "accurate"}
        narrowed = {shard.parameter: ",".join(shard.values)} if shard.parameter else {}
        if shard.since is not None:
            narrowed["_lastUpdated"] = f"ge{shard.since.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"
        return self.client.address(shard.resource_type, **narrowed, **paging)

    def _count(self, shard: Shard) -> int | None:
        """What the server counts for the shard; None when it does not say."""
        try:
            return self._searched(self._first_url(shard, _summary="count")).content.total
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


def _readable(resource_types: Sequence[str]) -> tuple[str, ...]:
    """What must be open to us: the types asked for, and the Medications that administrations point to."""
    more = ("Medication",) if "MedicationAdministration" in resource_types else ()
    return tuple(dict.fromkeys((*resource_types, *more)))


def _shard(unit: Unit) -> Shard:
    parameter, values = unit.work
    return Shard(unit.name, unit.resource_type, parameter, values, unit.since)


def session_of(client: Client, order: Order, capability: Capability, pulled_at: datetime) -> RestSession:
    """What can be searched for, as the server says."""
    return RestSession(client, order.limits, _software(capability), pulled_at, _parameters(capability))


def read_metadata(client: Client) -> tuple[Capability, datetime]:
    """What the server says it can do, and its clock.

    Raises:
        SourceError: no FHIR server answers.
    """
    try:
        reply = client.get(client.address("metadata"), read_capability, give_up=lambda fault: fault.is_unreached)
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


def _part(shard: Shard, page: _Page, asked: int, declared: int | None, *, is_settled: bool) -> Part:
    return Part(
        query_id=shard.query_id,
        part=page.number,
        resource_type=shard.resource_type,
        asked=asked,
        declared=declared,
        items=page.items,
        unreadable=page.unreadable,
        n_not_asked_for=page.n_not_asked_for,
        is_verified=declared is not None and is_settled,
    )


def _hole(shard: Shard, fault: FaultError) -> Part:
    of = f" of {len(shard.values)} values of {shard.parameter}" if shard.parameter else ""
    return Part(shard.query_id, 0, shard.resource_type, hole=f"{fault}; the whole query{of} is missing")


def _escaped(value: str) -> str:
    """A value of a search parameter: a comma or dollar in it must not be read as a separator."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
