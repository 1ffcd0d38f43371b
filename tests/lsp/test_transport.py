"""Transports of the server: stdin and stdout in threads, addresses, origins of WebSocket pages."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from codegen_lsp.errors import AddressError
from codegen_lsp.inference.rpc.framing import read_messages
from codegen_lsp.lsp import transports as transport
from codegen_lsp.lsp.serve import LOCAL_PAGES, parse_address
from codegen_lsp.lsp.transports import StdinThread, StdoutThread


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_large_message_comes_through_a_pipe() -> None:
    read, write = os.pipe()
    body = bytes(range(256)) * 20_000
    writer = StdoutThread(write)
    messages = read_messages(StdinThread(read).reader)
    writer.write(framed(body))
    writer.write(framed(b"{}"))
    assert await anext(messages) == body
    assert await anext(messages) == b"{}"
    writer.close()
    os.close(write)
    with pytest.raises(StopAsyncIteration):
        await anext(messages)
    os.close(read)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_flood_is_held_back(slow: bool) -> None:
    read, write = os.pipe()
    source = StdinThread(read)
    os.set_blocking(write, False)
    written = 0
    for _ in range(60):
        try:
            written += os.write(write, b"x" * 65536)
        except BlockingIOError:
            # A loop that is busy, or one that is not.
            time.sleep(0.005) if slow else await asyncio.sleep(0.005)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    buffered = len(source.reader._buffer)  # type: ignore[attr-defined]
    assert 0 < buffered <= 3 * transport._CHUNK
    os.close(write)
    rest = await source.reader.read(-1)
    assert len(rest) == written
    os.close(read)


async def test_an_editor_that_does_not_read_stops_nothing() -> None:
    read, write = os.pipe()
    writer = StdoutThread(write)
    for _ in range(100):
        writer.write(b"x" * 65536)
    os.close(read)
    writer.close()
    os.close(write)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("localhost:2087", "localhost", 2087),
        ("2087", "127.0.0.1", 2087),
        (":2087", "127.0.0.1", 2087),
        ("[::1]:2087", "::1", 2087),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert parse_address(address) == (host, port)


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "localhost:http", "x:99999", "x:-1", "x:²"])
def test_no_addresses(address: str) -> None:
    with pytest.raises(AddressError, match="HOST:PORT"):
        parse_address(address)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://127.0.0.1", True),
        ("http://localhost.evil.example", False),
        ("https://evil.example", False),
        ("http://evil.example/localhost", False),
    ],
)
def test_pages_that_may_connect(origin: str, allowed: bool) -> None:
    assert (LOCAL_PAGES.fullmatch(origin) is not None) is allowed
