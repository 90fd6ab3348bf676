"""One FHIR server over HTTP: the token goes to its origin and nowhere else, a retry is bounded, a body is whole.

Rules of the house: a redirect or link leads to the same origin or to one the settings name, else nothing is sent; no
certificate goes unchecked; no .netrc is read; no body is half-used; and no error text repeats what the server wrote.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import httpx
import msgspec
import pyarrow as pa

from crps_outcomes.errors import DefinitionError, SourceError
from crps_outcomes.fhir.auth import Credential, Login, no_credential
from crps_outcomes.fhir.complaints import complaint_in
from crps_outcomes.fhir.pace import Pace, asked_to_wait, http_date
from crps_outcomes.fhir.source import JSON_ERRORS
from crps_outcomes.fhir.unpack import MEGABYTE, UnpackError, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Content = TypeVar("Content")
Origin = tuple[str, bytes, int | None]
Record = dict[str, Any]
_Routes = dict[str, httpx.BaseTransport | None]

_FHIR, _NDJSON = "application/fhir+json", "application/fhir+ndjson"
_STRICT = {"Accept": _FHIR, "Prefer": "handling=strict"}
_JSON_TYPES = (_FHIR, "application/json", "text/json")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# The library below writes every address to its log, and an address names patients.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

#: How often a request is sent in all, by fault code; what does not stand here is sent once.
_TRIES = {"F18": 2, "F20": 10, "F21": 5}
_LONGEST_WAIT_SECONDS = 600.0
_FIRST_WAIT_SECONDS = 1.0
_MOST_REDIRECTS = 3
_TIMEOUTS_AN_ANSWER = 10
_LARGEST_FILE = 16 << 30  # unpacked; as for a file in a folder


class FaultError(SourceError):
    """A request that failed for good, under its row of the fault catalogue."""

    def __init__(
        self, code: str, reason: str, *, status: int = 0, wait_seconds: float | None = None, is_unreached: bool = False
    ) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason, self.status, self.wait_seconds = code, reason, status, wait_seconds
        self.is_unreached = is_unreached  # there was no connection at all


@dataclass(frozen=True)
class Surroundings:
    """Sleep, chance and the clocks, so that a test waits for nothing. ``chance`` gives a number from 0 to 1."""

    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Reply(Generic[Content]):
    """A body that was whole and could be read, and the address it came from."""

    url: httpx.URL
    content: Content
    date: datetime  # the server's clock


@dataclass(frozen=True)
class RawReply:
    """An answer as it came, whatever its status."""

    status: int
    headers: httpx.Headers
    url: httpx.URL
    body: bytes = field(repr=False)


class Download(NamedTuple):
    """What went through a sink, unpacked."""

    n_bytes: int
    sha256: str


class _Request(NamedTuple):
    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    form: Callable[[], Mapping[str, str]] | None = None  # made anew for each attempt
    with_token: bool = True


def _nobody(_: Mapping[str, Any]) -> None:
    """For pulls that keep no record of their requests."""


@dataclass(frozen=True)
class Client:
    """Asks one server. Share it between threads.

    ``told`` hears of every request: its full address, outcome text and hash. That is patient data, for the pull's own
    folder only; it never holds a header or a body.
    """

    base: httpx.URL
    http: httpx.Client
    credential: Credential
    surroundings: Surroundings
    pace: Pace
    largest_body: int
    patience_seconds: float  # for the whole of an answer held in memory
    allowed: frozenset[Origin] = frozenset()
    told: Callable[[Mapping[str, Any]], None] = _nobody

    def address(self, path: str, **parameters: str) -> httpx.URL:
        """``path`` below the base URL, with search parameters."""
        return httpx.URL(f"{self.base}/{path}", params=parameters)

    def follow(self, page: httpx.URL, link: str) -> httpx.URL:
        """A link of a page, as it is written; relative links are resolved against the page's own address.

        Raises:
            FaultError: it leaves the server's origin and those the settings allow (F03).
        """
        try:
            target = page.join(link)
        except (httpx.InvalidURL, ValueError) as error:
            raise FaultError("F03", "refused: a link that is no address") from error
        self._refuse_foreign(target)
        return target

    def is_home(self, url: httpx.URL | str) -> bool:
        """Whether a request may go there: the origin of the base URL, or one the settings allow."""
        try:
            url = httpx.URL(url)
        except httpx.InvalidURL:
            return False
        return not url.userinfo and origin(url) in {origin(self.base), *self.allowed}

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
        return self._content(_Request("GET", url, _STRICT), read, give_up)

    def post_search(
        self,
        url: httpx.URL,
        form: Mapping[str, str],
        read: Callable[[bytes], Content],
        *,
        give_up: Callable[[FaultError], bool] = lambda _: False,
    ) -> Reply[Content]:
        """The first page of a search whose parameters make too long an address; ``url`` ends in _search.

        Raises:
            FaultError: with the code of the fault catalogue.
        """
        return self._content(_Request("POST", url, _STRICT, lambda: form), read, give_up)

    def ask(
        self,
        method: Literal["GET", "POST", "DELETE"],
        url: httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        form: Callable[[], Mapping[str, str]] | None = None,
        with_token: bool = True,
    ) -> RawReply:
        """The answer whatever its status; 401, 429 and 5xx are first repeated as by `get`.

        Args:
            method: of HTTP.
            url: below this server's origin, or one the settings allow.
            headers: beside Accept, which is FHIR JSON unless it stands here.
            form: makes the form to send, anew for each attempt.
            with_token: whether the token goes along, where it may; without it a 401 is not repeated.

        Raises:
            FaultError: no whole answer came, or nothing may be sent there.
        """
        last: list[RawReply] = []

        def take(response: httpx.Response, record: Record) -> RawReply:
            body = self._body(response, record)
            last[:] = [RawReply(response.status_code, response.headers, response.url, body)]
            fault = self._fault(response, body, record)
            if fault is not None and fault.code in _TRIES:
                raise fault
            return last[0]

        try:
            return self._repeated(_Request(method, url, {"Accept": _FHIR, **(headers or {})}, form, with_token), take)
        except FaultError as fault:
            if last and fault.status == last[0].status:
                return last[0]
            raise

    def download(self, url: httpx.URL, sink: Callable[[bytes], object], *, with_token: bool) -> Download:
        """A file of an export, unpacked, block by block into ``sink``.

        Nothing is sent again once the sink got a byte: the caller throws away what it has and starts the file anew.

        Raises:
            FaultError: F39 for a cut, short or bloated body; else with the code of its status.
        """

        def take(response: httpx.Response, record: Record) -> Download:
            if response.status_code != httpx.codes.OK:
                fault = self._fault(response, self._body(response, record), record)
                raise fault or FaultError("F22", f"HTTP {response.status_code} for a file", status=response.status_code)
            return _poured(response, sink, record)

        return self._repeated(_Request("GET", url, {"Accept": _NDJSON}, with_token=with_token), take)

    # --- one request, and again ---------------------------------------------------------------------------------------

    def _content(
        self, request: _Request, read: Callable[[bytes], Content], give_up: Callable[[FaultError], bool]
    ) -> Reply[Content]:
        def take(response: httpx.Response, record: Record) -> Reply[Content]:
            body = self._body(response, record)
            fault = self._fault(response, body, record)
            if fault is not None:
                raise fault
            _refuse_other_than_json(response)
            return Reply(response.url, _read(read, body), self._date(response))

        return self._repeated(request, take, give_up)

    def _repeated(
        self,
        request: _Request,
        take: Callable[[httpx.Response, Record], Content],
        give_up: Callable[[FaultError], bool] = lambda _: False,
    ) -> Content:
        faults: Counter[str] = Counter()
        while True:
            record, header = self._record(request, faults.total() + 1), ""
            try:
                self._refuse_foreign(request.url)
                header = self.credential.header() if request.with_token else ""
                return self._sent(request, header, take, record)
            except FaultError as fault:
                faults[fault.code] += 1
                is_last = faults[fault.code] >= _TRIES.get(fault.code, 1) or give_up(fault)
                wait = 0.0 if is_last else self._pause(fault, faults[fault.code])
                record |= {"fault": fault.code, "wait_seconds": wait}
                failed = fault
            finally:
                self.told(_without(record, header))
            if is_last or (failed.code == "F18" and not (request.with_token and self.credential.renew(header))):
                raise failed
            if wait:
                self.surroundings.sleep(wait)

    def _sent(
        self, request: _Request, header: str, take: Callable[[httpx.Response, Record], Content], record: Record
    ) -> Content:
        try:
            return self._followed(request, header, take, record)
        except httpx.HTTPError as error:
            is_unreached = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            raise FaultError("F21", _no_answer(error), is_unreached=is_unreached) from error

    def _followed(
        self, request: _Request, header: str, take: Callable[[httpx.Response, Record], Content], record: Record
    ) -> Content:
        """Redirects are followed by hand: the token goes to its origin and nowhere else."""
        url = request.url
        for _ in range(_MOST_REDIRECTS + 1):
            with closing(self._opened(request, url, header)) as response:
                record["status"] = response.status_code
                if not response.has_redirect_location:
                    return take(response, record)
            self.told(dict(record))
            url = self._redirected(request, url, response)
            record |= {"url": self._written(url), "url_sha256": _digest(url), "status": 0}
        raise FaultError("F03", f"refused: more than {_MOST_REDIRECTS} redirects")

    def _opened(self, request: _Request, url: httpx.URL, header: str) -> httpx.Response:
        own = {"Authorization": header} if header and origin(url) == origin(self.base) else {}
        form = request.form() if request.form else None
        built = self.http.build_request(request.method, url, headers={**request.headers, **own}, data=form)
        self.pace.wait()
        try:
            return self.http.send(built, stream=True)
        except (httpx.InvalidURL, ValueError) as error:  # raised while httpx looks at a redirect
            raise FaultError("F03", "refused: a redirect to what is no address") from error

    def _redirected(self, request: _Request, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        status = response.status_code
        if request.method != "GET" and status not in {307, 308}:
            raise FaultError("F03", f"refused: HTTP {status}, a redirect that changes the method", status=status)
        return self.follow(url, response.headers["location"])

    def _refuse_foreign(self, url: httpx.URL) -> None:
        if not self.is_home(url):
            self.told({"fault": "F03", "refused": self._written(url)})
            raise FaultError("F03", "refused: foreign origin (cross_origin_next)")

    # --- answers ------------------------------------------------------------------------------------------------------

    def _body(self, response: httpx.Response, record: Record) -> bytes:
        """The body, unpacked here rather than by httpx, so that its size is bounded before it is in memory."""
        codec = _codec(response)
        packed = b"".join(self._bounded(response.iter_raw()))
        try:
            body = b"".join(blocks(pa.BufferReader(packed), codec, self.largest_body)) if codec else packed
        except UnpackError as error:
            raise FaultError("F21" if "cut" in str(error) else "F22", f"the answer is {error}") from error
        record |= {"n_bytes": len(body), "sha256": sha256(body).hexdigest()}
        return body

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        n_bytes, latest = 0, self.surroundings.clock() + self.patience_seconds
        for chunk in chunks:
            n_bytes += len(chunk)
            if self.surroundings.clock() > latest:
                raise FaultError("F21", "an answer that trickles on without an end")
            if n_bytes > self.largest_body:
                limit = self.largest_body // MEGABYTE
                raise FaultError("F22", f"an answer larger than {limit} MB; lower pull.page_size or raise max_body_mb")
            yield chunk

    def _fault(self, response: httpx.Response, body: bytes, record: Record) -> FaultError | None:
        """What a status that is no success means; the server's words go to the record, its code into the message."""
        status = response.status_code
        if response.is_success:
            return None
        said = complaint_in(body, response.reason_phrase)
        record |= said._asdict()
        code = _FAULTS.get(status) or ("F21" if status >= httpx.codes.INTERNAL_SERVER_ERROR else "F22")
        text = f"HTTP {status}" + (f" ({said.code})" if said.code else "")
        wait = asked_to_wait(response.headers, self._date(response))
        return FaultError(code, text, status=status, wait_seconds=wait)

    def _pause(self, fault: FaultError, attempt: int) -> float:
        """What the server asks for, else exponential back-off with jitter; never more than ten minutes."""
        if fault.code == "F18":
            return 0.0
        backoff = _FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (0.5 + self.surroundings.chance())
        return min(backoff if fault.wait_seconds is None else fault.wait_seconds, _LONGEST_WAIT_SECONDS)

    def _date(self, response: httpx.Response) -> datetime:
        return http_date(response.headers.get("date", "")) or self.surroundings.now()

    def _record(self, request: _Request, attempt: int) -> Record:
        return {
            "at": self.surroundings.now().isoformat(), "method": request.method, "url": self._written(request.url),
            "url_sha256": _digest(request.url), "attempt": attempt, "status": 0, "wait_seconds": 0.0, "n_bytes": 0,
            "sha256": "", "fault": "", "severity": "", "code": "", "text": "",
        }  # fmt: skip

    def _written(self, url: httpx.URL) -> str:
        """An address for the record: elsewhere its query is as good as a key (a pre-signed file), so it is left out."""
        return str(url if origin(url) == origin(self.base) else url.copy_with(query=None, userinfo=b""))


@contextmanager
def connect(  # noqa: PLR0913 - each is one setting of the source
    url: str,
    *,
    credential: Login = no_credential,
    resource_types: Sequence[str] = (),
    ca_file: Path | None = None,
    allowed_origins: Sequence[str] = (),
    proxies: Mapping[str, str | None] | None = None,
    transport: httpx.BaseTransport | None = None,
    surroundings: Surroundings,
    timeout_seconds: float,
    max_body_mb: int,
    requests_per_second: float = 20,
    told: Callable[[Mapping[str, Any]], None] = _nobody,
) -> Iterator[Client]:
    """A client for the server at ``url``, signed in, closed at the end.

    Args:
        url: the server's base URL.
        credential: see `auth` and `smart`.
        resource_types: what will be read; a login asks for no more.
        ca_file: certificates to trust beside the system's.
        allowed_origins: other places links and files may lead to (https://host[:port]); the token never goes there.
        proxies: pattern of httpx -> address of a proxy, or None for no proxy.
        transport: answers instead of the network.
        surroundings: sleep, chance and clocks.
        timeout_seconds: for connecting, and for each silence in an answer.
        max_body_mb: largest answer held in memory.
        requests_per_second: over all threads.
        told: hears of every request (see `Client`).

    Raises:
        DefinitionError: the address is not one of a FHIR server, or would carry a secret unencrypted.
        SourceError: the server does not let us in.
    """
    base = _base(url, has_secret=credential is not no_credential)
    allowed = frozenset(_allowed(one, base) for one in allowed_origins)
    wire, routes = (transport, {}) if transport else _wires(_trusted(ca_file), proxies or {})
    pace = Pace(requests_per_second, clock=surroundings.clock, sleep=surroundings.sleep)
    with httpx.Client(
        headers={"Accept": _FHIR, "Accept-Encoding": "gzip"}, timeout=timeout_seconds, transport=wire, mounts=routes,
        follow_redirects=False, trust_env=False,
    ) as http:  # fmt: skip
        stranger = Client(
            base, http, no_credential, surroundings, pace, max_body_mb * MEGABYTE, _TIMEOUTS_AN_ANSWER * timeout_seconds,
            allowed, told,
        )  # fmt: skip
        yield replace(stranger, credential=credential.sign_in(stranger, resource_types))


def origin(url: httpx.URL) -> Origin:
    """Scheme, host and port as parsed, never as text: a base URL can hide in the userinfo or query of another host."""
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def is_sealed(url: httpx.URL) -> bool:
    """Whether nobody on the way can read what is sent there: TLS, or this machine."""
    return url.scheme == "https" or (url.scheme == "http" and url.raw_host.decode() in _LOOPBACK)


def _base(url: str, *, has_secret: bool) -> httpx.URL:
    try:
        base = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise DefinitionError("the server's address is not a URL; it should look like https://host/fhir") from error
    if base.scheme not in {"http", "https"} or not base.raw_host or base.userinfo or base.query or base.fragment:
        raise DefinitionError("the server's address should be https://host/path, without user, query or fragment")
    if has_secret and not is_sealed(base):
        raise DefinitionError("a token is never sent unencrypted: the server's address should begin with https://")
    return base


def _allowed(text: str, base: httpx.URL) -> Origin:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    is_origin = url.raw_host and not url.userinfo and not url.query and not url.fragment and url.path in {"", "/"}
    if not is_origin or not is_sealed(url) or (base.scheme == "https" and url.scheme == "http"):
        raise DefinitionError("an allowed origin should be https://host or https://host:port, and nothing more")
    return origin(url)


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates, and a hospital's own authority beside them. Nothing turns the check off."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except (OSError, ssl.SSLError) as error:
            raise DefinitionError(f"{ca_file}: not a file of certificates; it should be in PEM form") from error
    return context


def _wires(trusted: ssl.SSLContext, proxies: Mapping[str, str | None]) -> tuple[httpx.BaseTransport, _Routes]:
    """The direct way, and one per proxy. This machine itself is never asked through a proxy."""
    here = {f"all://{'[::1]' if host == '::1' else host}": None for host in _LOOPBACK}
    routes: _Routes = {
        pattern: httpx.HTTPTransport(verify=trusted, proxy=proxy, trust_env=False) if proxy else None
        for pattern, proxy in {**proxies, **here}.items()
    }
    return httpx.HTTPTransport(verify=trusted, trust_env=False), routes


_FAULTS = {
    400: "F15", 401: "F18", 403: "F19", 404: "F24", 408: "F21", 410: "F17", 413: "F13", 414: "F13", 429: "F20", 431: "F13",
}  # fmt: skip


def _no_answer(error: BaseException | None) -> str:
    """What went wrong below HTTP; a certificate that is not trusted is named, for no setting turns the check off."""
    reason = f"no whole answer ({type(error).__name__})"
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
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
    if response.status_code != httpx.codes.OK or kind not in _JSON_TYPES:
        raise FaultError("F22", "an answer that is not FHIR JSON (not_a_bundle)", status=response.status_code)


def _codec(response: httpx.Response) -> Literal["gzip"] | None:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return "gzip"
    if encoding not in {"", "identity"}:
        raise FaultError("F22", "an answer packed in a way that was not asked for", status=response.status_code)
    return None


def _without(record: Record, header: str) -> Record:
    """The record, should the server have repeated our own header in its words."""
    secret = header.partition(" ")[2]
    return record | {"text": record["text"].replace(secret, "...")} if secret else record


def _digest(url: httpx.URL) -> str:
    return sha256(str(url).encode()).hexdigest()


class _Arriving:
    """A body still on its way, as the file that pyarrow unpacks from."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest, self._n_bytes = chunks, b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        block = self._rest or next(self._chunks, b"")
        block, self._rest = block[:size], block[size:]
        self._n_bytes += len(block)
        return block

    def tell(self) -> int:
        return self._n_bytes

    def close(self) -> None:
        """Its response is closed by who opened it."""


def _poured(response: httpx.Response, sink: Callable[[bytes], object], record: Record) -> Download:
    n_bytes, total = 0, sha256()
    arriving = pa.PythonFile(_Arriving(response.iter_raw()), mode="r")
    try:
        for block in blocks(arriving, _codec(response), _LARGEST_FILE):
            n_bytes += len(block)
            total.update(block)
            sink(block)
    except (httpx.HTTPError, UnpackError) as error:
        reason = f"a file, {error}" if isinstance(error, UnpackError) else _no_answer(error)
        raise FaultError("F39", f"{reason}, after {n_bytes} bytes", status=response.status_code) from error
    record |= {"n_bytes": n_bytes, "sha256": total.hexdigest()}
    return Download(n_bytes, total.hexdigest())
