"""A real FHIR server (SEKMET) for the demonstration and the tests: in a child process, on loopback, with our cohort.

The child lives no longer than the block, nor than this process: it holds the other end of a pipe and stops when the
pipe closes, however this process ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec
import uvicorn

from crps_outcomes.errors import SourceError
from crps_outcomes.fhir.files import lines_in, ndjson_in
from crps_outcomes.fhir.source import FHIR_ID, JSON_ERRORS
from crps_outcomes.home import private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crps_outcomes.progress import Tell

_HOST = "127.0.0.1"
_RESOURCES_AT_ONCE = 500
_CONNECTIONS = 2  # one request is read and answered while the other is stored
_START_SECONDS = 60
_STARTS = 3  # another program may take the free port before the server does


@dataclass(frozen=True)
class SmartClient:
    """Who may sign in: its public key as a JWKS (one key: SEKMET tries no second, F49) and what it may read."""

    client_id: str
    jwks: Mapping[str, Any]
    scopes: str = "system/*.rs"


@dataclass(frozen=True)
class SmartMode:
    """A server that answers only these clients.

    With ``enforce_scopes`` a client with rights to single types may search and start a Group export, but not ask how
    it goes nor fetch its files: SEKMET wants rights to every type for those.
    """

    clients: tuple[SmartClient, ...]
    token_lifetime_seconds: int = 300
    enforce_scopes: bool = True


class _Resource(NamedTuple):
    resource_type: str
    id: str
    raw: bytes

    @property
    def entry(self) -> bytes:
        address = f"{self.resource_type}/{self.id}".encode()
        return b'{"resource":%s,"request":{"method":"PUT","url":"%s"}}' % (self.raw, address)


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    resource_type: str
    id: str


def _say_nothing(sentence: str) -> None:
    """For callers who do not watch."""


@contextmanager
def serve(
    ndjson_folder: Path, data_dir: Path, *, progress: Tell = _say_nothing, smart: SmartMode | None = None
) -> Iterator[str]:
    """A FHIR R4 server that holds the resources of a folder; gives its base URL.

    Every line is stored in file order, so that an older version comes before a newer one. Lines that are no resource
    are left out: no server could hold them. When ``data_dir`` holds this very cohort already, nothing is loaded.
    The server's own words go to ``data_dir``/server.log. With ``smart`` it answers only who signs in.

    Raises:
        SourceError: the server is not installed, does not start, or refuses resources.
    """
    if importlib.util.find_spec("sekmet") is None:
        raise SourceError('the demo server is not installed; it comes with: pip install "crps-outcomes[demo]"')
    marker, digest = private_folder(data_dir) / "loaded.json", _digest(ndjson_folder)
    is_loaded = marker.is_file() and marker.read_text(encoding="utf-8") == digest
    if not is_loaded:
        marker.unlink(missing_ok=True)
        shutil.rmtree(data_dir / "store", ignore_errors=True)
    own_token = secrets.token_urlsafe(32) if smart else ""  # with which the cohort is loaded
    with _started(data_dir, _server_auth(smart, own_token)) as base_url:
        if not is_loaded:
            _load(ndjson_folder, base_url, progress, own_token)
            marker.write_text(digest, encoding="utf-8")
        yield base_url


# --- the child process ----------------------------------------------------------------------------------------------


@contextmanager
def _started(data_dir: Path, auth: dict[str, Any]) -> Iterator[str]:
    for _ in range(_STARTS):
        port = _free_port()
        process = _start(data_dir, port, auth)
        try:
            if _answers(process, f"http://{_HOST}:{port}/fhir"):
                yield f"http://{_HOST}:{port}/fhir"
                return
        finally:
            _stop(process)
    raise SourceError("the demo server does not start; why stands in server.log of its folder")


def _start(data_dir: Path, port: int, auth: dict[str, Any]) -> subprocess.Popen[bytes]:
    settings = data_dir / "settings.json"
    settings.write_text(json.dumps(_settings(data_dir, port, auth)), encoding="utf-8")
    # Nothing of our own environment: a variable meant for another server would change this one.
    environment = {"SEKMET_CONFIG": str(settings), "PYTHONUTF8": "1"}
    with (data_dir / "server.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [sys.executable, "-m", "crps_outcomes.demo_server", str(port)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, cwd=data_dir,
        )  # fmt: skip


def _settings(data_dir: Path, port: int, auth: dict[str, Any]) -> dict[str, Any]:
    """SEKMET's settings: JSON, which is YAML too."""
    return {
        "base_url": f"http://{_HOST}:{port}/fhir",
        "data_dir": str(data_dir / "store"),
        "host": _HOST,
        "port": port,
        "log_inbound": False,
        "simulator": {"enabled": False},
        "validation": {"inbound": "off"},
        "server_auth": auth,
    }


def _server_auth(smart: SmartMode | None, own_token: str) -> dict[str, Any]:
    if smart is None:
        return {"types": ["none"]}
    return {
        "types": ["bearer", "smart"], "tokens": [own_token], "smart_clients": [asdict(one) for one in smart.clients],
        "token_lifetime": smart.token_lifetime_seconds, "enforce_scopes": smart.enforce_scopes,
    }  # fmt: skip


def _answers(process: subprocess.Popen[bytes], base_url: str) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.get(f"{base_url}/metadata").is_success:
                    return True
            except httpx.HTTPError:
                time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((_HOST, 0))
        port: int = one.getsockname()[1]
        return port


def _stop_with_parent() -> None:
    """The pipe from the parent ends when the parent does, even if it was killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def _run_child(port: int) -> None:
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    uvicorn.run(
        "sekmet.main:app_factory", factory=True, host=_HOST, port=port, log_level="warning", access_log=False
    )  # fmt: skip


# --- loading --------------------------------------------------------------------------------------------------------


def _digest(folder: Path) -> str:
    """SHA-256 over names and bytes of the NDJSON files."""
    total = sha256()
    for path in ndjson_in(folder):
        total.update(path.name.encode() + b"\0" + sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _load(folder: Path, base_url: str, progress: Tell, token: str) -> None:
    rounds = _rounds(_resources(folder))
    done, total = 0, sum(len(one) for one in rounds)
    progress(f"Loading the demo server: {total:,} resources")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(trust_env=False, timeout=300, headers=headers) as http, ThreadPoolExecutor(_CONNECTIONS) as pool:
        for one in rounds:
            slices = [one[start : start + _RESOURCES_AT_ONCE] for start in range(0, len(one), _RESOURCES_AT_ONCE)]
            for n_stored in pool.map(_storer(http, base_url), slices):
                done += n_stored
                progress(f"Loading the demo server: {done:,} of {total:,} resources")


def _resources(folder: Path) -> Iterator[_Resource]:
    for path in ndjson_in(folder):
        for line in lines_in(path):
            try:
                head = msgspec.json.decode(line.text, type=_Head)
            except JSON_ERRORS:
                continue
            if FHIR_ID.fullmatch(head.id) and head.resource_type.isalpha():
                yield _Resource(head.resource_type, head.id, line.text.strip())


def _rounds(resources: Iterator[_Resource]) -> list[list[_Resource]]:
    """The n-th version of each resource in the n-th round: rounds follow each other, slices of one may overlap."""
    seen: dict[tuple[str, str], int] = {}
    rounds: list[list[_Resource]] = []
    for one in resources:
        number = seen.get((one.resource_type, one.id), 0)
        seen[one.resource_type, one.id] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(one)
    return rounds


def _storer(http: httpx.Client, base_url: str) -> Callable[[Sequence[_Resource]], int]:
    def store(some: Sequence[_Resource]) -> int:
        """One transaction; if the server refuses it, the same as a batch, to see which resource it cannot take."""
        if not _sent(http, base_url, "transaction", some).is_success:
            reply = _sent(http, base_url, "batch", some)
            answers = reply.json().get("entry", []) if reply.is_success else []
            n_stored = sum(str(answer["response"]["status"]).startswith("2") for answer in answers)
            if n_stored != len(some):
                raise SourceError(f"the demo server refused {len(some) - n_stored} of {len(some)} resources")
        return len(some)

    return store


def _sent(http: httpx.Client, base_url: str, kind: str, some: Sequence[_Resource]) -> httpx.Response:
    entries = b",".join(one.entry for one in some)
    body = b'{"resourceType":"Bundle","type":"%s","entry":[%s]}' % (kind.encode(), entries)
    headers = {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
    return http.post(base_url, content=body, headers=headers)


if __name__ == "__main__":
    _run_child(int(sys.argv[1]))
