"""SMART Backend Services: our key speaks for us, and the server gives a short-lived token for reading, no more.

The signed statement goes to the origin of the FHIR server or to the host the settings name (T3), and names exactly
the token endpoint it is for (F48). One renewal at a time serves all threads.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import jwt
import msgspec

from crps_outcomes.fhir.auth import no_credential
from crps_outcomes.fhir.client import FaultError, is_sealed, origin
from crps_outcomes.fhir.complaints import complaint_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crps_outcomes.fhir.client import Client, RawReply
    from crps_outcomes.fhir.keys import SigningKey

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: A statement may live 300 s at most; a minute less bears with a clock that is ahead of the server's.
_STATEMENT_SECONDS = 240
_TOKEN_SECONDS = 300.0  # where the server does not say
_RENEWED_AFTER = 0.8
_JSON = {"Accept": "application/json"}
#: What version 1 of the scopes calls reading, in the letters of version 2.
_VERSION_1 = {"read": "rs", "*": "cruds"}


class _Configuration(msgspec.Struct, frozen=True):
    """What is read of a server's .well-known/smart-configuration."""

    token_endpoint: str = ""
    scopes_supported: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    """What is read of a token endpoint's answer."""

    access_token: str
    token_type: str
    expires_in: float | str | None = None
    scope: str | None = None


class _Token(NamedTuple):
    header: str
    renew_at: float  # by the clock that never turns back


@dataclass(frozen=True)
class SmartBackend:
    """A client registered with the server. ``token_url`` and ``token_host`` are for servers that keep logins elsewhere."""

    client_id: str
    key: SigningKey = field(repr=False)
    token_url: str = ""
    token_host: str = ""
    new_jti: Callable[[], str] = field(default=lambda: secrets.token_urlsafe(16), repr=False)

    def sign_in(self, client: Client, resource_types: Sequence[str]) -> RenewedToken:
        """A first token that lets us read these types.

        Raises:
            FaultError: the endpoint may not be trusted (T3), refuses (F52), or grants less than was asked (F51).
        """
        found = self._configuration(client)
        endpoint = self._endpoint(client, found)
        types = tuple(sorted(set(resource_types)))
        scope = " ".join(f"system/{name}.{_suffix(found)}" for name in types)
        # Redirects from here lead nowhere else, and what a token endpoint says may repeat the statement we sent.
        asking = replace(
            client, base=httpx.URL(endpoint), credential=no_credential, allowed=frozenset(),
            told=lambda record: client.told({**record, "text": ""}),
        )  # fmt: skip
        return RenewedToken(lambda: self._token(asking, endpoint, scope, types), client.surroundings.clock)

    def _configuration(self, client: Client) -> _Configuration:
        address = client.address(".well-known/smart-configuration")
        try:
            reply = client.ask("GET", address, headers=_JSON, with_token=False)
        except FaultError as fault:
            raise FaultError(fault.code, f"signing in at {client.base}: {fault.reason}") from fault
        try:
            return msgspec.json.decode(reply.body if reply.status == httpx.codes.OK else b"{}", type=_Configuration)
        except msgspec.DecodeError:
            return _Configuration()

    def _endpoint(self, client: Client, found: _Configuration) -> str:
        """The token endpoint, letter by letter as it was written.

        Raises:
            FaultError: there is none, or it is at a host nobody named.
        """
        text = self.token_url or found.token_endpoint
        if not text:
            raise FaultError("F48", "the server names no token endpoint; CRPS_OUTCOMES_TOKEN_URL should name it")
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise FaultError("F48", "the token endpoint is no address") from error
        host = url.raw_host.decode()
        is_named = bool(self.token_url) or self.token_host.lower() in {host, f"{host}:{url.port}"}
        if not host or url.userinfo or not is_sealed(url) or not (is_named or origin(url) == origin(client.base)):
            raise FaultError(
                "F48",
                "refused: the server sends us to another host for its token; if that is right, "
                "CRPS_OUTCOMES_TOKEN_HOST (or --accept-token-host) should name that host",
            )
        return text

    def _token(self, asking: Client, endpoint: str, scope: str, types: Sequence[str]) -> _Token:
        reply = asking.ask(
            "POST", asking.base, headers=_JSON, form=lambda: self._form(asking, endpoint, scope), with_token=False
        )
        answer = _read(reply)
        missing = [name for name in types if not _covers(answer.scope, name)]
        if missing:
            raise FaultError("F51", f"scope_narrowed: the server does not let us read {', '.join(missing)}")
        return _Token(f"Bearer {answer.access_token}", asking.surroundings.clock() + _RENEWED_AFTER * _lifetime(answer))

    def _form(self, asking: Client, endpoint: str, scope: str) -> dict[str, str]:
        """A statement of its own for each attempt: a server takes each ``jti`` once."""
        ends = int(asking.surroundings.now().timestamp()) + _STATEMENT_SECONDS
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": endpoint, "exp": ends, "jti": self.new_jti()}
        return {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": _ASSERTION,
            "client_assertion": jwt.encode(claims, self.key.private, self.key.algorithm, headers={"kid": self.key.kid}),
        }


class RenewedToken:
    """A token that is renewed at four fifths of its life, and once more if the server rejects it before."""

    def __init__(self, fetch: Callable[[], _Token], clock: Callable[[], float]) -> None:
        self._fetch, self._clock, self._lock = fetch, clock, threading.Lock()
        self._refusal: FaultError | None = None
        self._token = fetch()

    def header(self) -> str:
        """The header to send now.

        Raises:
            FaultError: its time is up and the server gives no other.
        """
        with self._lock:
            if self._clock() >= self._token.renew_at:
                self._renew()
            return self._token.header

    def renew(self, rejected: str) -> bool:
        """A new token, unless another thread had one since ``rejected`` was sent."""
        with self._lock:
            if self._token.header == rejected:
                self._renew()
            return True

    def _renew(self) -> None:
        """What was refused once is not asked for again: a key is locked out for less."""
        if self._refusal is not None:
            raise FaultError(self._refusal.code, self._refusal.reason, status=self._refusal.status)
        try:
            self._token = self._fetch()
        except FaultError as fault:
            self._refusal = fault if fault.status < httpx.codes.INTERNAL_SERVER_ERROR and fault.status else None
            raise


def _suffix(found: _Configuration) -> str:
    """How this server writes the right to read and search: ``rs`` since version 2 of the scopes, ``read`` before."""
    rights = [one.rpartition(".")[2].partition("?")[0] for one in found.scopes_supported if one.startswith("system/")]
    if not rights:
        rights = ["read"] if {"permission-v1"} == {*found.capabilities} & {"permission-v1", "permission-v2"} else ["rs"]
    return "rs" if any(_reads(one) for one in rights) else "read"


def _covers(granted: str | None, name: str) -> bool:
    """Whether scopes let us read and search all of a type; an answer without scopes grants what was asked."""
    if granted is None:
        return True
    rights = [one.removeprefix("system/").rpartition(".") for one in granted.split() if one.startswith("system/")]
    return any(kind in {name, "*"} and _reads(_VERSION_1.get(right, right)) for kind, _, right in rights)


def _reads(rights: str) -> bool:
    """Whether letters of version 2 allow to read and search, with no condition behind them."""
    return {"r", "s"} <= {*rights} <= {*"cruds"}


def _read(reply: RawReply) -> _Answer:
    if not httpx.codes.is_success(reply.status):
        code = complaint_in(reply.body).code
        row = "F51" if code == "invalid_scope" else "F52"
        told = f"the token endpoint refuses: HTTP {reply.status}" + (f" ({code})" if code else "")
        raise FaultError(row, told, status=reply.status)
    try:
        answer = msgspec.json.decode(reply.body, type=_Answer)
    except msgspec.DecodeError as error:
        raise FaultError("F52", "the token endpoint's answer holds no token", status=reply.status) from error
    is_word = answer.access_token.isascii() and answer.access_token.isprintable() and " " not in answer.access_token
    if not answer.access_token or not is_word or answer.token_type.lower() != "bearer":
        raise FaultError("F52", "the token endpoint's answer holds no bearer token", status=reply.status)
    return answer


def _lifetime(answer: _Answer) -> float:
    told: Any = answer.expires_in
    try:
        seconds = float(told)
    except (TypeError, ValueError):
        return _TOKEN_SECONDS
    return seconds if 0 < seconds < float("inf") else _TOKEN_SECONDS
