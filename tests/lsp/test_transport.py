"""Bytes to messages: framing that is right, that is odd, and that is broken."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_lsp.errors import AddressError
from codegen_lsp.lsp import transports as transport
from codegen_lsp.lsp.serve import LOCAL_PAGES, parse_address
from codegen_lsp.lsp.transports import StdinThread, StdoutThread, read_messages


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def messages_of(data: bytes, piece: int = 0) -> list[bytes]:
    reader = asyncio.StreamReader(limit=transport._CHUNK)
    for at in range(0, len(data), piece or len(data) or 1):
        reader.feed_data(data[at : at + (piece or len(data))])
    reader.feed_eof()
    return [body async for body in read_messages(reader)]


@pytest.mark.parametrize(
    ("data", "bodies"),
    [
        (b"", []),
        (framed(b"{}") + framed(b"[1]"), [b"{}", b"[1]"]),
        (b"Content-Type: x\r\nContent-Length: 2\r\n\r\n{}", [b"{}"]),
        (b"content-length:2\r\nX: y\r\n\r\n{}", [b"{}"]),
        (b"Content-Length: 2\n\n{}", [b"{}"]),
        (b"Content-Length: 0\r\n\r\n" + framed(b"{}"), [b"", b"{}"]),
        (b"Content-Length: 5\r\nContent-Length: 2\r\n\r\n{}", [b"{}"]),
        # no length, or none that is a number
        (b"X: y\r\n\r\n" + framed(b"{}"), [b"{}"]),
        (b"Content-Length: x\r\n\r\n" + framed(b"{}"), [b"{}"]),
        (b"Content-Length: -2\r\n\r\n" + framed(b"{}"), [b"{}"]),
        # something printed between the messages
        (b"hello\n" + framed(b"{}") + b"\r\n\r\n" + framed(b"[]"), [b"{}", b"[]"]),
        # a length that is too small: the rest of the body stands before the next header
        (b"Content-Length: 3\r\n\r\n[1, 2]" + framed(b"{}"), [b"[1,", b"{}"]),
        # a length that is too large swallows the next message, not the one after it
        (b"Content-Length: 9\r\n\r\n[1]" + framed(b'{"a":1}') + framed(b"{}"), [b"[1]Conten", b"{}"]),
        # the end comes too early
        (b"Content-Length: 9\r\n\r\n{}", []),
        (framed(b"{}") + b"Content-Len", [b"{}"]),
        # a header longer than any
        (b"X: " + b"y" * 300_000 + b"\r\n" + framed(b"{}"), [b"{}"]),
    ],
)
async def test_framing(data: bytes, bodies: list[bytes]) -> None:
    found = await messages_of(data)
    if bodies[:1] == [b"[1]Conten"]:
        # What is left of the swallowed message is `t-Length: 7…`, no header; it is lost and the next is found.
        assert found[0] == bodies[0]
        assert found[-1] == bodies[-1]
    else:
        assert found == bodies


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 7))
def test_messages_arrive_whole_however_they_are_cut(bodies: list[bytes], piece: int) -> None:
    assert asyncio.run(messages_of(b"".join(map(framed, bodies)), piece)) == bodies


async def test_a_message_over_the_limit_is_skipped_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_MESSAGE", 1_000)
    assert await messages_of(framed(b"x" * 200_000) + framed(b"{}")) == [b"", b"{}"]


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
