"""From a function that answers requests to a transport for httpx, an ASGI app, and a listener on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from email.utils import format_datetime, formatdate
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from faulty_server.answers import BASE, JSON_TYPE, Answer

if TYPE_CHECKING:
    import ssl
    from datetime import datetime

Answering = Callable[[httpx.Request, str], Answer]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_BLOCK = 65_536


class _Body(httpx.SyncByteStream):
    def __init__(self, given: Answer) -> None:
        self.given = given

    def __iter__(self) -> Iterator[bytes]:
        yield from self.given.chunks()
        if self.given.is_cut:
            raise httpx.RemoteProtocolError("the connection died before the end")


def transport(answer: Answering, now: Callable[[], datetime]) -> httpx.MockTransport:
    """Answers without a network, dated by the server's own clock, and as base URL `BASE`."""

    def respond(request: httpx.Request) -> httpx.Response:
        given = answer(request, BASE)
        patience = request.extensions.get("timeout", {}).get("read")
        if patience is not None and given.seconds > patience:
            raise httpx.ReadTimeout("too slow", request=request)
        headers = {"content-type": JSON_TYPE, "date": format_datetime(now(), usegmt=True), **given.headers}
        return httpx.Response(given.status, headers=headers, stream=_Body(given))

    return httpx.MockTransport(respond)


def asgi(answer: Answering) -> Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]:
    """A plain ASGI application; its base URL is /r4 of whatever host it was asked by."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = await _request(scope, receive)
        base = str(request.url.copy_with(path="/r4", query=None))
        given = await asyncio.to_thread(answer, request, base)
        await asyncio.sleep(given.seconds)
        await send({"type": "http.response.start", "status": given.status, "headers": _headers(given)})
        async for block in _blocks(given):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        if not given.is_cut:  # else it ends without an end, and the server closes the connection
            await send({"type": "http.response.body", "body": b""})

    return app


async def _request(scope: MutableMapping[str, Any], receive: Receive) -> httpx.Request:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    host = httpx.Headers(headers).get("host", "127.0.0.1")
    query = scope["query_string"].decode("ascii")
    path = scope.get("raw_path", scope["path"].encode()).decode("ascii").split("?")[0]
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    address = f"{scope['scheme']}://{host}{path}{'?' if query else ''}{query}"
    return httpx.Request(scope["method"], address, headers=headers, content=body)


def _headers(given: Answer) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": JSON_TYPE, "date": formatdate(usegmt=True)}
    if not callable(given.body):
        missing = 1000 if given.is_cut else 0
        headers["content-length"] = str(len(given.content) + missing)
    return [(name.encode(), value.encode()) for name, value in {**headers, **given.headers}.items()]


async def _blocks(given: Answer) -> AsyncIterator[bytes]:
    """Lines gathered to blocks, so that a long file costs few messages and little memory."""
    gathered: list[bytes] = []
    n_bytes = 0
    for chunk in given.chunks():
        gathered.append(chunk)
        n_bytes += len(chunk)
        if n_bytes >= _BLOCK:
            yield b"".join(gathered)
            gathered, n_bytes = [], 0
    yield b"".join(gathered)


class _Server(uvicorn.Server):
    """Stops at once: uvicorn itself looks ten times a second whether it should."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)


@contextmanager
def listening(answer: Answering, context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
    """Anything that answers requests, on a free port of 127.0.0.1 (with TLS, if a context is given); the base URL."""
    config = uvicorn.Config(
        asgi(answer), log_config=None, log_level=60, access_log=False, lifespan="off", ws="none",
        server_header=False, date_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    config.load()
    config.ssl = context
    server = _Server(config)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.002)
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}/r4"
        finally:
            server.should_exit = True
            thread.join()
