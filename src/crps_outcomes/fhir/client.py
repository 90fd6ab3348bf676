"""One FHIR server over HTTP: the token goes to its origin and nowhere else, a retry is bounded, a body is whole.

Rules of the house: no redirect is followed, no certificate goes unchecked, no proxy or .netrc is taken from the
environment, no body is half-used, and no error text repeats what the server wrote.
"""

from __future__ import annotations

import random
import re
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
import msgspec
import pyarrow as pa

from crps_outcomes.errors import DefinitionError, SourceError
from crps_outcomes.fhir.auth import Token, no_token
from crps_outcomes.fhir.source import JSON_ERRORS
from crps_outcomes.fhir.unpack import MEGABYTE, UnpackError, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Content = TypeVar("Content")

_HEADERS = {"Accept": "application/fhir+json", "Accept-Encoding": "gzip", "Prefer": "handling=strict"}
_JSON_TYPES = ("application/fhir+json", "application/json", "text/json")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OUTCOME_CODE = re.compile(r"[a-z][a-z-]{1,30}", re.ASCII)

#: How often a request is sent in all, by fault code; what does not stand here is sent once.
_TRIES = {"F18": 2, "F20": 10, "F21": 5}
_LONGEST_WAIT_SECONDS = 600.0
_FIRST_WAIT_SECONDS = 1.0
_SECONDS_A_DAY = 86_400
_EPOCH_MILLISECONDS_FROM = 10**11


class FaultError(SourceError):
    """A request that failed for good, under its row of the fault catalogue."""

    def __init__(self, code: str, reason: str, *, status: int = 0, wait_seconds: float | None = None) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason, self.status, self.wait_seconds = code, reason, status, wait_seconds


@dataclass(frozen=True)
class Surroundings:
    """Sleep, chance and the clock, so that a test waits for nothing. ``chance`` gives a number from 0 to 1."""

    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Reply(Generic[Content]):
    """A body that was whole and could be read, and the address it came from."""

    url: httpx.URL
    content: Content
    date: datetime  # the server's clock


@dataclass(frozen=True)
class Client:
    """Asks one server. Share it between threads."""

    base: httpx.URL
    http: httpx.Client
    token: Token
    surroundings: Surroundings
    largest_body: int

    def address(self, path: str, **parameters: str) -> httpx.URL:
        """``path`` below the base URL, with search parameters."""
        return httpx.URL(f"{self.base}/{path}", params=parameters)

    def follow(self, page: httpx.URL, link: str) -> httpx.URL:
        """A link of a page, as it is written; relative links are resolved against the page's own address.

        Raises:
            FaultError: it leaves the server's origin (F03).
        """
        try:
            target = page.join(link)
        except (httpx.InvalidURL, ValueError) as error:
            raise FaultError("F03", "refused: a link that is no address") from error
        if origin(target) != origin(self.base) or target.userinfo:
            raise FaultError("F03", "refused: foreign origin (cross_origin_next)")
        return target

    def get(
        self,
        url: httpx.URL,
        read: Callable[[bytes], Content],
        *,
        give_up: Callable[[FaultError], bool] = lambda _: False,
    ) -> Reply[Content]:
        """The answer to one request, repeated as long as that may help.

        Args:
            url: below this server's origin.
            read: turns the body into content; what it raises of `JSON_ERRORS` is a failed attempt.
            give_up: which failures the caller has a better answer to than asking again.

        Raises:
            FaultError: with the code of the fault catalogue.
        """
        if origin(url) != origin(self.base):
            raise FaultError("F03", "refused: foreign origin")
        for attempt in count(1):
            try:
                return self._ask(url, read)
            except FaultError as fault:
                if give_up(fault) or attempt >= _TRIES.get(fault.code, 1):
                    raise
                self.surroundings.sleep(self._pause(fault, attempt))
        raise AssertionError  # count() never ends

    def _ask(self, url: httpx.URL, read: Callable[[bytes], Content]) -> Reply[Content]:
        token = self.token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with self.http.stream("GET", url, headers=headers) as response:
                body = self._body(response)
        except httpx.HTTPError as error:
            raise FaultError("F21", _no_answer(error)) from error
        except httpx.InvalidURL as error:  # raised while httpx looks at a redirect it will not follow
            raise FaultError("F03", "a redirect to what is no address; redirects are not followed") from error
        self._refuse_status(response, body)
        _refuse_other_than_json(response)
        return Reply(url, _read(read, body), self._date(response))

    def _body(self, response: httpx.Response) -> bytes:
        """The body, unpacked here rather than by httpx, so that its size is bounded before it is in memory."""
        packed = b"".join(self._bounded(response.iter_raw()))
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding == "identity":
            return packed
        if encoding != "gzip":
            raise FaultError("F22", "an answer packed in a way that was not asked for")
        try:
            return b"".join(blocks(pa.BufferReader(packed), "gzip", self.largest_body))
        except UnpackError as error:
            raise FaultError("F21" if "cut" in str(error) else "F22", f"the answer is {error}") from error

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        n_bytes = 0
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > self.largest_body:
                limit = self.largest_body // MEGABYTE
                raise FaultError("F22", f"an answer larger than {limit} MB; lower pull.page_size or raise max_body_mb")
            yield chunk

    def _refuse_status(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        text = f"HTTP {status}{_outcome_code(body)}"
        code = _FAULTS.get(status) or ("F21" if status >= httpx.codes.INTERNAL_SERVER_ERROR else "F22")
        if 300 <= status < 400:
            code, text = "F03", f"{text}: redirects are not followed"
        raise FaultError(code, text, status=status, wait_seconds=_asked_to_wait(response, self._date(response)))

    def _pause(self, fault: FaultError, attempt: int) -> float:
        """What the server asks for, else exponential back-off with jitter; never more than ten minutes."""
        backoff = _FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (0.5 + self.surroundings.chance())
        return min(backoff if fault.wait_seconds is None else fault.wait_seconds, _LONGEST_WAIT_SECONDS)

    def _date(self, response: httpx.Response) -> datetime:
        return _http_date(response.headers.get("date", "")) or self.surroundings.now()


@contextmanager
def connect(  # noqa: PLR0913 - each is one setting of the source
    url: str,
    *,
    token: Token = no_token,
    ca_file: Path | None = None,
    transport: httpx.BaseTransport | None = None,
    surroundings: Surroundings,
    timeout_seconds: float,
    max_body_mb: int,
) -> Iterator[Client]:
    """A client for the server at ``url``, closed at the end.

    Raises:
        DefinitionError: the address is not one of a FHIR server, or would carry the token unencrypted.
    """
    base = _base(url, has_token=token is not no_token)
    wire = transport or httpx.HTTPTransport(verify=_trusted(ca_file), trust_env=False)
    with httpx.Client(
        headers=_HEADERS, timeout=timeout_seconds, transport=wire, follow_redirects=False, trust_env=False
    ) as http:
        yield Client(base, http, token, surroundings, max_body_mb * MEGABYTE)


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates, and a hospital's own authority beside them. Nothing turns the check off."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise DefinitionError(f"{ca_file}: not a file of certificates; it should be in PEM form") from error
    return context


def origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Scheme, host and port as parsed, never as text: a base URL can hide in the userinfo or query of another host."""
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _base(url: str, *, has_token: bool) -> httpx.URL:
    try:
        base = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise DefinitionError("the server's address is not a URL; it should look like https://host/fhir") from error
    if base.scheme not in {"http", "https"} or not base.host or base.userinfo or base.query or base.fragment:
        raise DefinitionError("the server's address should be https://host/path, without user, query or fragment")
    if has_token and base.scheme == "http" and base.host not in _LOOPBACK:
        raise DefinitionError("a token is never sent unencrypted: the server's address should begin with https://")
    return base


_FAULTS = {
    400: "F15", 401: "F18", 403: "F19", 404: "F24", 408: "F21", 410: "F17", 413: "F13", 414: "F13", 429: "F20", 431: "F13",
}  # fmt: skip


def _no_answer(error: BaseException | None) -> str:
    """What went wrong below HTTP; a certificate that is not trusted is named, for no setting turns the check off."""
    reason = f"no whole answer ({type(error).__name__})"
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return "the server's certificate is not trusted; name its authority's file in ca_file"
        error = error.__cause__ or error.__context__
    return reason


def _read(read: Callable[[bytes], Content], body: bytes) -> Content:
    try:
        return read(body)
    except msgspec.ValidationError as error:
        raise FaultError("F22", "an answer of another shape (not_a_bundle)") from error
    except JSON_ERRORS as error:
        raise FaultError("F21", "an answer that is cut or is not JSON") from error


def _refuse_other_than_json(response: httpx.Response) -> None:
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise FaultError("F22", "an answer that is not FHIR JSON (not_a_bundle)")


def _outcome_code(body: bytes) -> str:
    """The code of an OperationOutcome, and nothing else of it: its text may repeat a patient's data."""
    try:
        outcome: Any = msgspec.json.decode(body)
        code = str(outcome["issue"][0]["code"])
    except (*JSON_ERRORS, LookupError, TypeError):
        return ""
    return f" ({code})" if _OUTCOME_CODE.fullmatch(code) else ""


def _asked_to_wait(response: httpx.Response, now: datetime) -> float | None:
    """Seconds the server asks to wait: Retry-After, else the reset time of an exhausted RateLimit; None if neither."""
    asked = _retry_after(response.headers.get("retry-after", "").strip(), now)
    if asked is None:
        exhausted = re.search(r"\br=0;\s*t=(\d{1,6})", response.headers.get("ratelimit", ""))
        asked = float(exhausted[1]) if exhausted else None
    return asked if asked is not None and asked >= 0 else None


def _retry_after(text: str, now: datetime) -> float | None:
    """Servers write seconds, an HTTP date, epoch seconds or epoch milliseconds here."""
    if not text.isascii() or not text.isdigit():
        date = _http_date(text)
        return (date - now).total_seconds() if date else None
    number = int(text[:20])
    if number <= _SECONDS_A_DAY:
        return float(number)
    epoch = number / 1000 if number >= _EPOCH_MILLISECONDS_FROM else number
    return epoch - now.timestamp()


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
