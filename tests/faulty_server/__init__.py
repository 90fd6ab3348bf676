"""A small FHIR server that answers from a list of resources and goes wrong where it is told to.

It runs inside the test (`transport`, for httpx) or listens on loopback (`listen`), with the same behaviour. Paging is
by opaque cursor. What goes wrong is an `Inject`: a fault by its number in the catalogue, at a page of a type.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

BASE = "http://localhost/r4"
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
JSON_TYPE = "application/fhir+json"
PARAMETERS = {
    "Group": ("identifier",), "Patient": ("identifier",), "ResearchStudy": ("identifier",),
    "ResearchSubject": ("study", "patient"), "EpisodeOfCare": ("type", "patient"), "CarePlan": ("category", "patient"),
    **dict.fromkeys(("Condition", "Consent", "Encounter", "MedicationAdministration", "MedicationRequest", "MedicationStatement", "Observation", "Procedure", "QuestionnaireResponse"), ("patient",)),
    "AdverseEvent": (), "Medication": (),
}  # fmt: skip
CONTROL = ("_count", "_sort", "_total", "_summary", "_cursor", "turn", "a", "b")


@dataclass(frozen=True)
class Inject:
    """A fault at a page (0: at every page; ``"count"``: at ``_summary=count``), the first ``times`` it is asked for."""

    code: str
    page: int | str = 2
    resource_type: str = "Observation"
    times: int = 1_000_000
    option: Any = None


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: dict[str, Any] | bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Scene:
    """What a fault may look at: its injection, the request, the server's base URL, and the values searched for."""

    url: httpx.URL
    base: str
    values: tuple[str, ...] = ()
    inject: Inject = Inject("")


class FaultyServer:
    """Resources as FHIR dictionaries; one that stands twice is sent twice and counted once."""

    def __init__(
        self,
        resources: Sequence[dict[str, Any]],
        *injects: Inject,
        parameters: dict[str, tuple[str, ...]] = PARAMETERS,
        token: str = "",
        biggest_page: int = 1000,
    ) -> None:
        self.resources, self.injects, self.parameters = resources, injects, parameters
        self.token, self.biggest_page = token, biggest_page
        self.requests: list[httpx.Request] = []
        self._cursors: list[tuple[list[dict[str, Any]], int, int]] = []
        self._done: dict[int, int] = {}
        self._lock = threading.Lock()

    def transport(self) -> httpx.MockTransport:
        def respond(request: httpx.Request) -> httpx.Response:
            answer = self.answer(request, BASE)
            headers = {"content-type": JSON_TYPE, "date": DATE} | answer.headers
            return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(answer.content))

        return httpx.MockTransport(respond)

    @contextmanager
    def listen(self) -> Iterator[str]:
        """The same server on loopback; gives its base URL."""
        with listening(self.answer) as base:
            yield base

    def answer(self, request: httpx.Request, base: str) -> Answer:
        with self._lock:
            self.requests.append(request)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return outcome(401, "login")
        path = request.url.path.removeprefix(httpx.URL(base).path).strip("/")
        if path == "metadata":
            return self._faulty(Answer(200, self._capability()), "metadata", 1, Scene(request.url, base))
        return self._search(path, Scene(request.url, base))

    def asked(self, resource_type: str) -> list[httpx.URL]:
        """The addresses that were asked for a type."""
        return [one.url for one in self.requests if one.url.path.endswith(f"/{resource_type}")]

    def _search(self, name: str, scene: Scene) -> Answer:
        if not any(one["resourceType"] == name for one in self.resources) and name not in self.parameters:
            return outcome(404, "not-supported")
        parameters = dict(scene.url.params)
        unknown = [one for one in parameters if one not in (*CONTROL, "_id", *self.parameters.get(name, ()))]
        if unknown:
            return outcome(400, "not-supported")
        values = next((tuple(v.split(",")) for k, v in parameters.items() if k not in CONTROL), ())
        scene = replace(scene, values=values)
        if parameters.get("_summary") == "count":
            counted = bundle(len(distinct(self._matching(name, parameters))), [])
            return self._faulty(Answer(200, counted), name, "count", scene)
        return self._page(name, parameters, scene)

    def _page(self, name: str, parameters: dict[str, str], scene: Scene) -> Answer:
        if "_cursor" in parameters:
            found, start, size = self._cursors[int(parameters["_cursor"])]
        else:
            size = min(int(parameters.get("_count", "20")), self.biggest_page)
            found, start = self._matching(name, parameters), 0
        links = [{"relation": "self", "url": str(scene.url)}]
        if start + size < len(found):
            with self._lock:
                self._cursors.append((found, start + size, size))
                links.append({"relation": "next", "url": f"{scene.base}/{name}?_cursor={len(self._cursors) - 1}"})
        page = bundle(len(distinct(found)), found[start : start + size], links)
        return self._faulty(Answer(200, page), name, start // size + 1, scene)

    def _matching(self, name: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        found = [one for one in self.resources if one["resourceType"] == name]
        for parameter, text in parameters.items():
            if parameter not in CONTROL:
                found = [one for one in found if set(text.split(",")) & set(FINDS[parameter](one))]
        return found

    def _faulty(self, answer: Answer, name: str, page: int | str, scene: Scene) -> Answer:
        for place, inject in enumerate(self.injects):
            hits = inject.resource_type == name and inject.page in ({page, 0} if page != "count" else {page})
            with self._lock:
                done = self._done.get(place, 0)
                self._done[place] = done + hits
            if hits and done < inject.times:
                answer = FAULTS[inject.code](answer, replace(scene, inject=inject))
        return answer

    def _capability(self) -> dict[str, Any]:
        listed = [
            {"type": name, "searchParam": [{"name": one} for one in (*own, "_lastUpdated")]}
            for name, own in self.parameters.items()
        ]
        return {
            "resourceType": "CapabilityStatement",
            "software": {"name": "Faulty", "version": "1"},
            "rest": [{"mode": "server", "resource": listed}],
        }


def bundle(total: int, resources: Sequence[dict[str, Any]], links: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": list(links)}
    entries = [{"resource": one, "search": {"mode": "match"}} for one in resources]
    return made | ({"entry": entries} if entries else {})


def outcome(status: int, code: str) -> Answer:
    issue = {"severity": "error", "code": code, "diagnostics": "Jane Roe, born 1970-01-01"}
    return Answer(status, {"resourceType": "OperationOutcome", "issue": [issue]})


def distinct(resources: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["resourceType"], one.get("id", f"none {place}")) for place, one in enumerate(resources)}


def _patient_of(one: dict[str, Any]) -> Iterator[str]:
    for name in ("subject", "patient", "individual"):
        yield one.get(name, {}).get("reference", "").removeprefix("Patient/")


#: search parameter -> the values a resource is found by
FINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "_id": lambda one: [one.get("id", "")],
    "patient": _patient_of,
    "subject": lambda one: [one.get("subject", {}).get("reference", "")],
    "identifier": lambda one: [f"{i['system']}|{i['value']}" for i in one.get("identifier", ())],
    "study": lambda one: [one.get("study", {}).get("reference", "")],
    "type": lambda one: [f"{c['system']}|{c['code']}" for t in one.get("type", ()) for c in t["coding"]],
    "category": lambda one: [f"{c['system']}|{c['code']}" for t in one.get("category", ()) for c in t["coding"]],
}


@contextmanager
def listening(answer: Callable[[httpx.Request, str], Answer], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Anything that answers requests, on a free port of 127.0.0.1 (with TLS, if a context is given); the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://{self.headers['host']}{self.path}"
            given = answer(httpx.Request("GET", url, headers=list(self.headers.items())), base)
            self.send_response(given.status)
            headers = {"content-type": JSON_TYPE, "content-length": str(len(given.content))} | given.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(given.content)

        def handle(self) -> None:
            with suppress(OSError):  # a client that hangs up is part of some tests
                super().handle()

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    base = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}/r4"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield base
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- the faults, by number ------------------------------------------------------------------------------------------


def _edited(answer: Answer, **changes: Any) -> Answer:
    assert isinstance(answer.body, dict)
    body = {key: value for key, value in (answer.body | changes).items() if value is not None}
    return replace(answer, body=body)


def _next_is(answer: Answer, address: str) -> Answer:
    assert isinstance(answer.body, dict)
    links = [link for link in answer.body["link"] if link["relation"] != "next"]
    return _edited(answer, link=[*links, {"relation": "next", "url": address}])


def _entries(answer: Answer) -> list[dict[str, Any]]:
    assert isinstance(answer.body, dict)
    return list(answer.body.get("entry", []))


def _next_loops(answer: Answer, scene: Scene) -> Answer:
    return _next_is(answer, str(scene.url))


def _next_never_ends(answer: Answer, scene: Scene) -> Answer:
    """Every page is the last one again, under a new address."""
    turn = int(scene.url.params.get("turn", "0")) + 1
    return _next_is(
        answer, f"{scene.base}/{scene.inject.resource_type}?_cursor={scene.url.params['_cursor']}&turn={turn}"
    )


def _next_elsewhere(answer: Answer, scene: Scene) -> Answer:
    return _next_is(answer, scene.inject.option)


def _redirects(_: Answer, scene: Scene) -> Answer:
    return Answer(302, b"", {"location": scene.inject.option})


def _repeats_an_entry(answer: Answer, _: Scene) -> Answer:
    entries = _entries(answer)
    return _edited(answer, entry=[*entries, entries[0]])


def _says_no_total(answer: Answer, _: Scene) -> Answer:
    return _edited(answer, total=None)


def _says_more(answer: Answer, scene: Scene) -> Answer:
    assert isinstance(answer.body, dict)
    return _edited(answer, total=answer.body["total"] + (scene.inject.option or 1))


def _is_empty(answer: Answer, _: Scene) -> Answer:
    """The page's entries are lost; its total and next are as they should be."""
    return _edited(answer, entry=None)


def _has_strangers_among_results(answer: Answer, _: Scene) -> Answer:
    include = {"resource": {"resourceType": "Organization", "id": "o1"}, "search": {"mode": "include"}}
    hint = {"resource": outcome(200, "informational").body, "search": {"mode": "outcome"}}
    hint["resource"]["issue"][0]["severity"] = "information"  # type: ignore[index, call-overload]
    return _edited(answer, entry=[*_entries(answer), include, hint])


def _refuses_long_lists(answer: Answer, scene: Scene) -> Answer:
    status, most = scene.inject.option
    return outcome(status, "exception") if len(scene.values) > most else answer


def _ignores_the_filter(answer: Answer, scene: Scene) -> Answer:
    own = [{"relation": "self", "url": f"{scene.base}/{scene.inject.resource_type}?_count=20"}]
    assert isinstance(answer.body, dict)
    return _edited(answer, link=[*own, *(link for link in answer.body["link"] if link["relation"] != "self")])


def _shortens(answer: Answer, _: Scene) -> Answer:
    first, *rest = _entries(answer)
    tagged = first["resource"] | {"meta": {"tag": [{"code": "SUBSETTED"}]}}
    return _edited(answer, entry=[first | {"resource": tagged}, *rest])


def _status(status: int, code: str) -> Callable[[Answer, Scene], Answer]:
    return lambda _, scene: replace(outcome(status, code), headers=scene.inject.option or {})


def _is_cut(answer: Answer, _: Scene) -> Answer:
    return replace(answer, body=answer.content[: len(answer.content) // 2])


def _is_html(answer: Answer, _: Scene) -> Answer:
    return Answer(200, b"<html>login</html>", {"content-type": "text/html"})


def _is_an_outcome(_: Answer, __: Scene) -> Answer:
    return replace(outcome(200, "throttled"))


def _holds_an_error(answer: Answer, _: Scene) -> Answer:
    error = {"resource": outcome(200, "incomplete").body, "search": {"mode": "outcome"}}
    return _edited(answer, entry=[*_entries(answer), error])


def _spoils_an_entry(answer: Answer, _: Scene) -> Answer:
    if not _entries(answer):
        return answer
    first, *rest = _entries(answer)
    nameless = {key: value for key, value in first["resource"].items() if key != "id"}
    return _edited(answer, entry=[first | {"resource": nameless}, *rest])


FAULTS: dict[str, Callable[[Answer, Scene], Answer]] = {
    "F02": _next_loops,
    "F02 never ends": _next_never_ends,
    "F03": _next_elsewhere,
    "F03 redirect": _redirects,
    "F05": _repeats_an_entry,
    "F06": _says_no_total,
    "F07": _says_more,
    "F07 lost page": _is_empty,
    "F09": _has_strangers_among_results,
    "F12": _status(400, "too-costly"),
    "F13": _refuses_long_lists,
    "F15": _ignores_the_filter,
    "F16": _shortens,
    "F17": _status(410, "expired"),
    "F18": _status(401, "login"),
    "F19": _status(403, "forbidden"),
    "F20": _status(429, "throttled"),
    "F21": _status(503, "transient"),
    "F21 cut": _is_cut,
    "F22": _is_html,
    "F22 outcome": _is_an_outcome,
    "F23": _holds_an_error,
    "F24": _status(404, "not-found"),
    "F30": _spoils_an_entry,
}
