"""Faults of single answers: F18 to F24, at any request of a search or an export."""

from __future__ import annotations

import gzip
from dataclasses import replace
from email.utils import format_datetime
from typing import Any

from faulty_server.answers import Answer, Json, Row, Scene, edited, in_body, issues
from faulty_server.faults.variant import Act, Variant, asks_to_wait, status

_ANY = ("page", "file", "count", "metadata", "read", "kickoff", "status", "manifest", "token", "delete")
_WITH_BODY = ("page", "file", "count", "metadata", "read", "status", "manifest", "token")


def _of_batch(_: Answer, __: Scene) -> Answer:
    """200, and a 429 in the only entry."""
    entry = {"response": {"status": "429", "outcome": issues("throttled")}}
    return Answer(200, {"resourceType": "Bundle", "type": "batch-response", "entry": [entry]})


def _halved(answer: Answer, _: Scene) -> Answer:
    return replace(answer, body=answer.content[: len(answer.content) // 2])


def _dies(answer: Answer, _: Scene) -> Answer:
    return replace(answer, body=answer.content[: len(answer.content) // 2], is_cut=True)


def _dies_at_once(answer: Answer, _: Scene) -> Answer:
    return replace(answer, body=b"", is_cut=True)


def _dawdles(answer: Answer, scene: Scene) -> Answer:
    return replace(answer, seconds=float(scene.option))


def _packed_and_cut(answer: Answer, _: Scene) -> Answer:
    packed = gzip.compress(answer.content)
    return replace(answer, body=packed[: len(packed) // 2], headers={**answer.headers, "content-encoding": "gzip"})


def _is(body: bytes | Json, kind: str = "application/fhir+json", code: int = 200) -> Act:
    return lambda _, __: Answer(code, body, {"content-type": kind})


def _holds_an_error(answer: Answer, _: Scene) -> Answer:
    error = {"resource": issues("incomplete"), "search": {"mode": "outcome"}}
    return edited(answer, entry=[*in_body(answer, "entry"), error])


def _spelled(issue: Json, **more: Any) -> Act:
    body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"} | issue], **more}
    return _is(body, code=500)


def _error_line(rows: list[Row], _: Any) -> list[Row]:
    return [*rows, issues("incomplete")]


_DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><b>Jane</b> Roe</div>'
ANSWERING = (
    Variant("F18", "401 (times=1: once)", _ANY, status(401, "login")),
    Variant("F18 used up", "a SMART token is good for a few requests (option: how many)", ("page", "file"),
            settings={"token_uses": 3}),
    Variant("F19", "403", _ANY, status(403, "forbidden")),
    Variant("F20", "429 without a time (option: headers)", _ANY, status(429, "throttled")),
    Variant("F20 seconds", "429 with seconds in Retry-After", _ANY, status(429, "throttled", **{"retry-after": "1"})),
    Variant("F20 date", "429 with a date in Retry-After", _ANY,
            asks_to_wait(lambda at: {"retry-after": format_datetime(at, usegmt=True)})),
    Variant("F20 epoch", "429 with epoch seconds in Retry-After", _ANY,
            asks_to_wait(lambda at: {"retry-after": str(int(at.timestamp()))})),
    Variant("F20 epoch ms", "429 with epoch milliseconds in Retry-After", _ANY,
            asks_to_wait(lambda at: {"retry-after": str(int(at.timestamp() * 1000))})),
    Variant("F20 ratelimit", "429 with the RateLimit header only", _ANY, status(429, "throttled", ratelimit='"requests";r=0;t=1')),
    Variant("F20 unreadable", "429 with a negative Retry-After", _ANY, status(429, "throttled", **{"retry-after": "-1"})),
    Variant("F20 batch", "200 with the 429 in an entry", ("page",), _of_batch),
    Variant("F21", "503", _ANY, status(503, "transient")),
    Variant("F21 500", "500", _ANY, status(500, "exception")),
    Variant("F21 cut", "half of the body, sent as if it were all", _WITH_BODY, _halved),
    Variant("F21 reset", "the connection dies in the middle of the body", _ANY, _dies),
    Variant("F21 silent", "the connection dies before the body", _ANY, _dies_at_once),
    Variant("F21 slow", "nothing is sent for some time (option: seconds)", _ANY, _dawdles, option=120),
    Variant("F21 gzip cut", "half of a packed body", ("page", "count", "metadata"), _packed_and_cut),
    Variant("F22", "200 with HTML", _ANY, _is(b"<html>login</html>", "text/html")),
    Variant("F22 xml", "200 with FHIR XML", _ANY, _is(b'<Bundle xmlns="http://hl7.org/fhir"/>', "application/fhir+xml")),
    Variant("F22 text", "200 with text that calls itself JSON", _ANY, _is(b"OK")),
    Variant("F22 outcome", "200 with a bare OperationOutcome", _ANY, _is(issues("throttled"))),
    Variant("F22 other", "200 with another resource", _ANY, _is({"resourceType": "Patient", "id": "p"})),
    Variant("F23", "an error stands among the entries or lines", ("page", "lines"), _holds_an_error, rows=_error_line),
    Variant("F23 details", "500, the text in issue.details.text", _ANY, _spelled({"details": {"text": "Jane Roe"}})),
    Variant("F23 coding", "500, the text in issue.details.coding", _ANY, _spelled({"details": {"coding": [{"display": "Jane Roe"}]}})),
    Variant("F23 html", "500, the text in text.div", _ANY, _spelled({}, text={"status": "generated", "div": _DIV})),
    Variant("F23 plain", "500 with text/plain", _ANY, _is(b"Jane Roe", "text/plain", 500)),
    Variant("F23 empty", "500 with an empty body", _ANY, _is(b"", code=500)),
    Variant("F24", "404", _ANY, status(404, "not-found")),
    Variant("F24 unknown type", "400, no such type", ("page", "count", "kickoff"), status(400, "not-supported"), page=0),
    Variant("F24 gone", "410 for a read", ("read",), status(410, "deleted")),
)  # fmt: skip
