"""What the server does with bytes that are no HTTP, with clients that do not read, and with too many of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

import uvicorn

from codegen_lsp.http.connections import protocol_class

LARGE = b"a" * 50_000_000
"""More than the buffers of a connection hold."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with 1 byte, or with a large body at `/large`."""
    while scope["path"] != "/unread" and (await receive()).get("more_body"):
        pass
    body = LARGE if scope["path"] == "/large" else b"1"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@contextlib.asynccontextmanager
async def _listening(protocol: Any) -> AsyncIterator[tuple[str, int]]:
    config = uvicorn.Config(_app, http=protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = uvicorn.Server(config).server_state

    def make() -> Any:
        return protocol(config=config, server_state=state, app_state={})

    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[:2]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_refused_in_json(sent: bytes) -> None:
    async with _listening(protocol_class(60.0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        writer.close()


async def test_garbage_behind_a_request_ends_the_connection_without_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with _listening(protocol_class(60.0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x00\r\n\r\n")
        answers = await reader.read()
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.count(b"HTTP/1.1 ") == 2
        writer.close()
    assert "Traceback" not in caplog.text


async def test_a_wrong_chunk_that_comes_with_its_headers_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    """Also if the handler answers without the body."""
    async with _listening(protocol_class(60.0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        answers = await reader.read()
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert answers.count(b"HTTP/1.1 ") == 1
        writer.close()
    assert "Exception" not in caplog.text


async def test_a_client_that_does_not_read_is_ended() -> None:
    ended = asyncio.Event()

    class Watched(protocol_class(60.0, answer_seconds=0.05)):  # type: ignore[misc]
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            ended.set()

    async with _listening(Watched) as address:
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await ended.wait()


async def test_a_client_that_reads_slowly_gets_all() -> None:
    async with _listening(protocol_class(60.0, answer_seconds=20.0)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        size = 0
        while part := await reader.read(1_000_000):
            size += len(part)
            await asyncio.sleep(0)
        assert size > len(LARGE)
        writer.close()


async def test_connections_are_limited_in_number_when_they_are_made() -> None:
    """Also if no request is sent on them."""
    async with _listening(protocol_class(60.0, max_connections=2)) as address:
        first = [await asyncio.open_connection(*address) for _ in range(2)]
        for _, writer in first:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for reader, _ in first:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        reader, writer = await asyncio.open_connection(*address)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        for _, one in [*first, (reader, writer)]:
            one.close()
