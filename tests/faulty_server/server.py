"""The server itself: what it holds, who may ask, which part answers, and where a fault stands in between."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from faulty_server import export, search, smart
from faulty_server.answers import (
    Answer,
    Inject,
    Json,
    Row,
    Scene,
    key_of,
    outcome,
)
from faulty_server.faults import VARIANTS
from faulty_server.injection import full, refuse_nonsense, stands
from faulty_server.search import PARAMETERS
from faulty_server.wire import asgi, listening, transport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

#: Which requests each part answers; what it does not take from the path are empty groups.
_ROUTES: tuple[tuple[str, Callable[..., Answer]], ...] = (
    (r"GET metadata", search.metadata),
    (r"GET ()()\$export", export.kick_off),
    (r"GET (Patient)/()\$export", export.kick_off),
    (r"GET (Group)/([^/]+)/\$export", export.kick_off),
    (r"(?:GET|DELETE) bulkstatus/(\d+)", export.status),
    (r"GET bulkfiles/(\d+)/(\d+)", export.file),
    (r"GET ([A-Z]\w+)", search.search),
    (r"(?:GET|POST) ([A-Z]\w+)/_search", search.search),
    (r"GET ([A-Z]\w+)/([^/_][^/]*)", search.read),
)


@dataclass(frozen=True)
class Settings:
    """How a server without faults behaves. A fault may change one of these while it is injected."""

    paging: str = "cursor"  # or offset
    biggest_page: int = 1000
    knows_last_updated: bool = True
    file_lines: int = 1000
    manifest_files: int = 1000  # of one page of the manifest
    polls: int = 1  # before an export is done
    packs: bool = True  # gzip for who accepts it
    files_need_token: bool | None = None  # None: if anything does
    whole_new_members: bool = True  # of a Group, whatever _since
    token_path: str = "auth/token"
    algorithms: tuple[str, ...] = ("RS384", "ES384")
    token_uses: int | None = None  # requests a token is good for


class FaultyServer:
    """Resources as FHIR dictionaries; one that stands twice is sent twice and counted once.

    ``token`` is the one token it takes; ``smart`` lets clients ask for tokens instead. ``lines`` are resources that are
    never looked at, only exported: type -> a path or a function that gives encoded lines. ``settings`` are `Settings`.
    """

    def __init__(
        self,
        resources: Sequence[Json],
        *injects: Inject,
        parameters: Mapping[str, tuple[str, ...]] = PARAMETERS,
        token: str = "",
        smart: smart.Smart | None = None,
        lines: Mapping[str, export.Lines | Path | Callable[[], Iterator[bytes]]] | None = None,
        now: Callable[[], datetime] = lambda: datetime(2026, 3, 1, 12, tzinfo=UTC),
        **settings: Any,
    ) -> None:
        for inject in injects:
            refuse_nonsense(inject)
        self.resources, self.injects, self.parameters, self.token = resources, injects, parameters, token
        self.smart, self.lines, self.now, self.settings = smart, lines or {}, now, Settings(**settings)
        self.requests: list[httpx.Request] = []
        self.deleted: dict[tuple[str, str], datetime] = {}
        self.cursors: list[tuple[list[Json], int, int]] = []
        self.aliases: dict[str, httpx.URL] = {}
        self.jobs: dict[str, export.Job] = {}
        self._done: dict[int, int] = {}
        self._lock = threading.RLock()

    # --- how it is reached ---

    @cached_property
    def app(self) -> Any:
        """A plain ASGI application."""
        return asgi(self.answer)

    def transport(self) -> httpx.MockTransport:
        """For httpx, without a network; its base URL is `BASE`."""
        return transport(self.answer, self.now)

    @contextmanager
    def listen(self, context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
        """The same server on loopback; gives its base URL."""
        with listening(self.answer, context, port) as base:
            yield base

    def asked(self, resource_type: str) -> list[httpx.URL]:
        """The addresses that were asked for a type."""
        ends = (f"/{resource_type}", f"/{resource_type}/_search")
        return [one.url for one in self.requests if one.url.path.endswith(ends)]

    # --- what it holds ---

    def put(self, resource: Json) -> None:
        """Store a resource in place of all versions of it, as the last one."""
        with self._lock:
            self.deleted.pop(key_of(resource), None)
            self.resources = [*(one for one in self.resources if key_of(one) != key_of(resource)), resource]

    def delete(self, resource_type: str, identity: str) -> None:
        with self._lock:
            self.deleted[resource_type, identity] = self.now()
            self.resources = [one for one in self.resources if key_of(one) != (resource_type, identity)]

    def stored(self) -> Sequence[Json]:
        """The resources, as faults of the data themselves leave them."""
        found: Sequence[Json] = self.resources
        for inject in self.injects:
            if (change := VARIANTS[inject.code].data) is not None:
                found = change(found, full(inject))
        return found

    def remember(self, cursor: tuple[list[Json], int, int]) -> int:
        with self._lock:
            self.cursors.append(cursor)
            return len(self.cursors) - 1

    # --- how it answers ---

    def answer(self, request: httpx.Request, base: str) -> Answer:
        """The answer to one request to the server at ``base``."""
        request.read()
        with self._lock:
            self.requests.append(request)
        url = self.aliases.get(str(request.url), request.url)
        path = url.path.removeprefix(httpx.URL(base).path).strip("/")
        scene = Scene(request, url, base, self)
        if self.smart is not None and (answering := smart.ROUTES.get(path)):
            return answering(self, scene)
        for pattern, answering in _ROUTES:
            if found := re.fullmatch(pattern, f"{request.method} {path}"):
                return self._refusal(request, found.groups(), answering) or answering(self, scene, *found.groups())
        return self._refusal(request, (), None) or outcome(404, "not-found")

    def _refusal(self, request: httpx.Request, names: Sequence[str], answering: Any) -> Answer | None:
        if answering is export.file and not self.needs_token_for_files:
            return None
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.smart is not None:
            name = names[0] if names and answering in {search.search, search.read} else ""
            return self.smart.refusal(sent, name, self.setting("token_uses"))
        return outcome(401, "login") if self.token and sent != self.token else None

    @property
    def needs_token_for_files(self) -> bool:
        told = self.setting("files_need_token")
        return bool(self.token or self.smart) if told is None else told

    def setting(self, name: str) -> Any:
        """A setting, as the faults injected change it."""
        for inject in self.injects:
            variant = VARIANTS[inject.code]
            if name in variant.settings:
                is_told = inject.option is not None and variant.act is None
                return inject.option if is_told else variant.settings[name]
        return getattr(self.settings, name)

    def faulty(self, answer: Answer, scene: Scene, at: str, page: int) -> Answer:
        """The answer after all faults that stand at this place."""
        for inject in self._hits(at, scene.name, page):
            variant = VARIANTS[inject.code]
            here = replace(scene, inject=inject)
            if variant.act is not None:
                answer = variant.act(answer, here)
            elif variant.rows is not None:
                answer = _with_rows(answer, here)
        return answer

    def faulty_rows(self, rows: Sequence[Row], scene: Scene, page: int) -> Sequence[Row]:
        """The lines of a file of an export after the faults that stand in it."""
        for inject in self._hits("lines", scene.name, page):
            if (change := VARIANTS[inject.code].rows) is not None:
                rows = change(list(rows), replace(scene, inject=inject))
        return rows

    def _hits(self, at: str, name: str, page: int) -> Iterator[Inject]:
        for place, own in enumerate(self.injects):
            inject = full(own)
            if not stands(inject, at, name, page):
                continue
            with self._lock:
                done = self._done.get(place, 0)
                self._done[place] = done + 1
            if done < inject.times:
                yield inject


def _with_rows(answer: Answer, scene: Scene) -> Answer:
    """A page whose matches a fault has changed."""
    if not isinstance(answer.body, dict) or not answer.body.get("entry"):
        return answer
    entries = answer.body.get("entry", [])
    rows = VARIANTS[scene.inject.code].rows
    matches = [one["resource"] for one in entries if one["search"]["mode"] == "match"]
    others = [one for one in entries if one["search"]["mode"] != "match"]
    assert rows is not None
    changed = [search.match(row) for row in rows(matches, scene) if isinstance(row, dict)]
    return replace(answer, body=answer.body | {"entry": [*changed, *others]})
