"""Faults of SMART Backend Services: F48 to F52."""

from __future__ import annotations

from typing import Any

from faulty_server.answers import Answer, Scene, edited
from faulty_server.faults.variant import Act, Variant, status
from faulty_server.smart import refused

_TOKEN = ("token",)


def _refuses(code: int, error: str) -> Act:
    return lambda _, __: refused(code, error)


def _told(**changes: Any) -> Act:
    return lambda answer, _: edited(answer, **changes) if answer.status == 200 else answer


def _endpoint_elsewhere(answer: Answer, scene: Scene) -> Answer:
    return edited(answer, token_endpoint=scene.option)


def _narrows(answer: Answer, scene: Scene) -> Answer:
    """Fewer scopes are granted than were asked for, with 200; the token is good for these only."""
    if not isinstance(answer.body, dict) or answer.status != 200:
        return answer
    scope = scene.option or " ".join(answer.body["scope"].split()[:-1]) or "system/Patient.rs"
    assert scene.server.smart is not None
    scene.server.smart.issued[answer.body["access_token"]]["scope"] = scope
    return edited(answer, scope=scope)


def _wrong_key_first(_: Answer, __: Scene) -> Answer:
    return Answer(500, b"Internal Server Error", {"content-type": "text/plain"})


LOGIN = (
    Variant("F48", "the token endpoint ends in a slash, and aud must have it", ("discovery", "token"), settings={"token_path": "auth/token/"}),
    Variant("F48 elsewhere", "discovery names a token endpoint on another host (option: the address)", ("discovery",),
            _endpoint_elsewhere, option="http://elsewhere.invalid/auth/token"),
    Variant("F49", "500 with text/plain, as for a key of the wrong type", _TOKEN, _wrong_key_first),
    Variant("F49 RS384", "only RS384 is taken", ("discovery", "token"), settings={"algorithms": ("RS384",)}),
    Variant("F49 ES384", "only ES384 is taken", ("discovery", "token"), settings={"algorithms": ("ES384",)}),
    Variant("F50", "no expires_in", _TOKEN, _told(expires_in=None)),
    Variant("F50 short", "expires_in is a second", _TOKEN, _told(expires_in=1)),
    Variant("F51", "400 invalid_scope", _TOKEN, _refuses(400, "invalid_scope")),
    Variant("F51 narrowed", "fewer scopes than asked for, in silence (option: which)", _TOKEN, _narrows),
    Variant("F51 resource", "403 for a type the token was granted", ("page", "count"), status(403, "forbidden"), page=0),
    Variant("F51 kickoff", "400 for the kick-off, for want of a scope", ("kickoff",), status(400, "forbidden")),
    Variant("F52", "400 invalid_client", _TOKEN, _refuses(400, "invalid_client")),
    Variant("F52 401", "401 invalid_client", _TOKEN, _refuses(401, "invalid_client")),
    Variant("F52 503", "503 of the token endpoint", _TOKEN, _refuses(503, "temporarily_unavailable")),
    Variant("F52 429", "429 of the token endpoint", _TOKEN, _refuses(429, "slow_down")),
)  # fmt: skip
