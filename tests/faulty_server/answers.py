"""The nouns of the kit: what is asked for, what is answered, and a fault at a place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from faulty_server.server import FaultyServer

Json = dict[str, Any]
Row = Json | bytes
Stream = Callable[[], Iterator[bytes]]

BASE = "http://localhost/r4"
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
JSON_TYPE = "application/fhir+json"
NDJSON_TYPE = "application/fhir+ndjson"

#: Where a fault can stand, by source. The first of a fault's places in a source is where it stands if none is named.
REST_PLACES = ("page", "count", "metadata", "read", "data")
EXPORT_PLACES = ("kickoff", "status", "manifest", "lines", "file", "delete")
SMART_PLACES = ("discovery", "token")
PLACES = (*REST_PLACES, *EXPORT_PLACES, *SMART_PLACES)
#: Places that belong to one resource type, and the page or file that is meant when none is named (0: every one).
TYPED = frozenset({"page", "count", "read", "lines", "file"})
USUAL_PAGE = {"page": 2, "lines": 1, "file": 1, "manifest": 1}


@dataclass(frozen=True)
class Inject:
    """A fault at a place, the first ``times`` it is asked for.

    ``page``: of a search or a manifest, or number of a file of its type or of a poll; 0 is every one, ``"count"`` is
    at ``_summary=count``; None is where it shows best. ``at``: one of the places of the fault.
    """

    code: str
    page: int | str | None = None
    resource_type: str = "Observation"
    times: int = 1_000_000
    option: Any = None
    at: str = ""


@dataclass(frozen=True)
class Answer:
    """``body``: JSON, bytes, or what makes a stream of bytes. ``is_cut``: the connection dies after it."""

    status: int = 200
    body: Json | bytes | Stream = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    seconds: float = 0.0  # that pass before anything is sent

    @property
    def content(self) -> bytes:
        if callable(self.body):
            return b"".join(self.body())
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    def chunks(self) -> Iterator[bytes]:
        yield from self.body() if callable(self.body) else [self.content]


@dataclass(frozen=True)
class Scene:
    """What a fault may look at: the request, the place it stands at, and the server."""

    request: httpx.Request
    url: httpx.URL
    base: str
    server: FaultyServer
    name: str = ""  # resource type
    values: tuple[str, ...] = ()  # searched for
    inject: Inject = Inject("")
    job: str = ""  # of an export

    @property
    def option(self) -> Any:
        return self.inject.option


def bundle(total: int | None, entries: Sequence[Json], links: Sequence[Json] = (), kind: str = "searchset") -> Json:
    made: Json = {"resourceType": "Bundle", "type": kind, "total": total, "link": list(links), "entry": list(entries)}
    return {key: value for key, value in made.items() if value is not None and (value or key != "entry")}


def match(resource: Json) -> Json:
    return {"resource": resource, "search": {"mode": "match"}}


def issues(code: str, severity: str = "error", text: str = "Jane Roe, born 1970-01-01") -> Json:
    """An OperationOutcome; its text looks like what real servers repeat there, and must not be shown."""
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": code, "diagnostics": text}]}


def outcome(status: int, code: str, severity: str = "error") -> Answer:
    return Answer(status, issues(code, severity))


def edited(answer: Answer, **changes: Any) -> Answer:
    """The answer with other elements in its JSON; None takes one away. What is not JSON stays as it is."""
    if not isinstance(answer.body, dict):
        return answer
    return replace(answer, body={key: value for key, value in (answer.body | changes).items() if value is not None})


def in_body(answer: Answer, name: str) -> list[Json]:
    """The list of that name in a JSON body."""
    return list(answer.body.get(name, [])) if isinstance(answer.body, dict) else []


def line(row: Row) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row, separators=(",", ":")).encode()


def key_of(one: Json) -> tuple[str, str]:
    return one["resourceType"], one.get("id", "")
