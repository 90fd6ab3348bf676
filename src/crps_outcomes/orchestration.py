"""The one door to Prefect outside ``flows/``: a private server for one command, and the flow loaded by its file.

Prefect is imported inside functions only, so that every other command starts at once. Why a server of our own: the
one Prefect would start imports the whole server into this process first and doubles the wait (docs/adr/0007).
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crps_outcomes.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from pathlib import Path

    from crps_outcomes.params import CommonParams

_START_SECONDS = 120
_STOP_SECONDS = 10
# The server holds one end of a pipe and stops when the other closes, however this process ends.
_UNTIL_WE_END = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
import uvicorn
uvicorn.main()
"""
_CREDENTIALS = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")


def settings(prefect_home: Path, *, is_verbose: bool) -> dict[str, str]:
    """Prefect's settings for a run from the command line; to be set before Prefect is imported."""
    return {
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(_START_SECONDS),
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        # Errors are told once, by the command itself.
        "PREFECT_LOGGING_LEVEL": "INFO" if is_verbose else "CRITICAL",
    }


@contextmanager
def server(environment: MutableMapping[str, str], prefect_home: Path) -> Iterator[Callable[[], None]]:
    """A Prefect server on loopback for the length of the block; it starts while the caller does other things.

    Gives a function that returns when the server answers. Where ``PREFECT_API_URL`` is set already, that server is
    used and none is started.
    """
    if environment.get("PREFECT_API_URL"):
        yield lambda: _wait(environment["PREFECT_API_URL"], lambda: True)
        return
    port, credential = _free_port(), f"run:{secrets.token_urlsafe(24)}"
    address = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_API_URL": address, **dict.fromkeys(_CREDENTIALS, credential)}
    environment.update(own)
    process = _start(environment, port, prefect_home / "server.log")
    try:
        yield lambda: _wait(address, lambda: process.poll() is None)
    finally:
        _stop(process)
        for name in own:
            del environment[name]


def run_flow(file: Path, function: str, params: CommonParams, ready: Callable[[], None]) -> Any:
    """What the flow returns; an error raised in it comes out as itself. File and function are those of prefect.yaml."""
    from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415 - see the docstring of this module

    flow: Any = load_flow_from_entrypoint(f"{file}:{function}", use_placeholder_flow=False)
    ready()
    return flow(params)


def _wait(api_url: str, is_alive: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while not answers(f"{api_url}/health"):
        if not is_alive():
            raise PipelineError("the local Prefect server stopped while starting; why stands in prefect/server.log")
        if time.monotonic() > give_up_at:
            raise PipelineError(
                f"no Prefect server at {api_url} after {_START_SECONDS} s; it should answer within 30 s"
            )
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a server on this machine answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - the address of our own server
            return bool(reply.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(environment: Mapping[str, str], port: int, log: Path) -> subprocess.Popen[bytes]:
    where = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    command = [sys.executable, "-c", _UNTIL_WE_END, "--factory", "prefect.server.api.server:create_app", *where]
    # What Prefect sets for the server it would start itself: no web interface, settings final.
    private = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, env={**environment, **private}, stdin=subprocess.PIPE, stdout=out, stderr=out
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    with process:  # closes the pipe
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
