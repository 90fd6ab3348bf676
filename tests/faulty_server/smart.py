"""SMART Backend Services: discovery, and tokens for an assertion that a registered key has signed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import jwt

from faulty_server.answers import Answer, Json, Scene, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faulty_server.server import FaultyServer

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_ASSERTION = 300
_SCOPE = re.compile(r"system/(\*|[A-Z]\w+)\.(read|\*|c?r\w*)")
_JSON = {"content-type": "application/json", "cache-control": "no-store"}


class RefusedError(Exception):
    """The assertion is not good: the error code of OAuth 2.0."""


@dataclass
class Smart:
    """One registered client: its id, its public keys as a JWKS, and what it may have.

    ``scopes`` are what is granted of what is asked. ``expires_in`` is told, and honoured by the clock ``seconds``.
    """

    client_id: str
    jwks: Mapping[str, Any]
    scopes: tuple[str, ...] = ("system/*.rs", "system/*.read")
    expires_in: int | None = 300
    seconds: Callable[[], float] = time.time
    issued: dict[str, Json] = field(default_factory=dict)
    jtis: set[str] = field(default_factory=set)

    def issue(self, scope: str) -> Json:
        """A token for this scope."""
        token = f"token-{len(self.issued) + 1}"
        self.issued[token] = {"scope": scope, "until": self.seconds() + (self.expires_in or 300), "uses": 0}
        told = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return {"access_token": token, "token_type": "bearer", "scope": scope, **told}

    def refusal(self, token: str, resource_type: str, most_uses: int | None) -> Answer | None:
        """401 for a token that is unknown, over or used up; 403 for a type it is not good for."""
        own = self.issued.get(token)
        if own is None or self.seconds() >= own["until"] or (most_uses is not None and own["uses"] >= most_uses):
            return outcome(401, "login")
        own["uses"] += 1
        return outcome(403, "forbidden") if resource_type and not allows(own["scope"], resource_type) else None

    def refusal_of_export(self, scene: Scene, types: set[str]) -> Answer | None:
        return None if self.narrowed(scene, types) == types else outcome(400, "forbidden")

    def narrowed(self, scene: Scene, types: set[str]) -> set[str]:
        """Those of the types that the token of the request is good for."""
        token = scene.request.headers.get("authorization", "").removeprefix("Bearer ")
        scope = self.issued.get(token, {}).get("scope", "")
        return {name for name in types if allows(scope, name)}


def allows(scope: str, resource_type: str) -> bool:
    """Whether a list of scopes lets a type be read, in the writing of SMART 1 or 2."""
    return any(found[1] in {"*", resource_type} for one in scope.split() if (found := _SCOPE.fullmatch(one)))


def discovery(server: FaultyServer, scene: Scene) -> Answer:
    assert server.smart is not None
    made = {
        "token_endpoint": token_endpoint(server, scene),
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(server.setting("algorithms")),
        "scopes_supported": list(server.smart.scopes),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }
    return server.faulty(Answer(200, made, _JSON), scene, "discovery", 1)


def token_endpoint(server: FaultyServer, scene: Scene) -> str:
    return f"{scene.base}/{server.setting('token_path')}"


def token(server: FaultyServer, scene: Scene) -> Answer:
    """A token, or the error of OAuth 2.0."""
    form = dict(httpx.QueryParams(scene.request.content.decode()))
    try:
        answer = Answer(200, _granted(server, scene, form), _JSON)
    except RefusedError as error:
        answer = refused(400, str(error))
    return server.faulty(answer, scene, "token", 1)


def refused(status: int, error: str) -> Answer:
    return Answer(status, {"error": error, "error_description": "Jane Roe, born 1970-01-01"}, _JSON)


def _granted(server: FaultyServer, scene: Scene, form: Mapping[str, str]) -> Json:
    assert server.smart is not None
    if scene.request.method != "POST" or form.get("client_assertion_type") != JWT_BEARER:
        raise RefusedError("invalid_request")
    if form.get("grant_type") != "client_credentials":
        raise RefusedError("unsupported_grant_type")
    _checked(server, scene, form.get("client_assertion", ""))
    asked = form.get("scope", "").split()
    granted = [one for one in asked if _is_granted(one, server.smart.scopes)]
    if not granted:
        raise RefusedError("invalid_scope")
    return server.smart.issue(" ".join(granted))


def _is_granted(scope: str, scopes: tuple[str, ...]) -> bool:
    found = _SCOPE.fullmatch(scope)
    return found is not None and (scope in scopes or allows(" ".join(scopes), found[1]))


def _checked(server: FaultyServer, scene: Scene, assertion: str) -> None:
    """Signed by the registered key, for this very endpoint, for at most five minutes, and never seen before."""
    smart = server.smart
    assert smart is not None
    try:
        head = jwt.get_unverified_header(assertion)
        key = next(one for one in smart.jwks["keys"] if one.get("kid") == head.get("kid"))
        needs: Any = {"require": ["exp", "jti", "iss", "sub", "aud"], "verify_exp": False, "verify_iat": False}
        if head["alg"] not in server.setting("algorithms"):
            raise RefusedError("invalid_client")
        claims = jwt.decode(
            assertion, jwt.PyJWK(dict(key), algorithm=head["alg"]), algorithms=[head["alg"]],
            audience=token_endpoint(server, scene), issuer=smart.client_id, options=needs,
        )  # fmt: skip
    except (jwt.PyJWTError, StopIteration) as error:
        raise RefusedError("invalid_client") from error
    left = claims["exp"] - smart.seconds()
    if not 0 < left <= _LONGEST_ASSERTION or claims["sub"] != smart.client_id or claims["jti"] in smart.jtis:
        raise RefusedError("invalid_client")
    smart.jtis.add(claims["jti"])


ROUTES: Mapping[str, Callable[[FaultyServer, Scene], Answer]] = {
    ".well-known/smart-configuration": discovery,
    "auth/token": token,
}
