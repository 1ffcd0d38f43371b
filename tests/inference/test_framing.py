"""Content-Length framing: well-formed, unusual and malformed input, lenient and strict."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_lsp.inference.rpc import framing
from codegen_lsp.inference.rpc.framing import FramingError, read_messages

LINE_LIMIT = 64 * 1024
"""Bytes of the longest header line that the stream reader takes."""


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def messages_of(data: bytes, piece: int = 0, *, strict: bool = False) -> list[bytes]:
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    for at in range(0, len(data), piece or len(data) or 1):
        reader.feed_data(data[at : at + (piece or len(data))])
    reader.feed_eof()
    return [body async for body in read_messages(reader, strict=strict)]


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
        # a length that no message has: what follows is not swallowed
        (b"Content-Length: 1000000000000000\r\n\r\n" + framed(b"{}"), [b"", b"{}"]),
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
    monkeypatch.setattr(framing, "MAX_MESSAGE_BYTES", 1_000)
    assert await messages_of(framed(b"x" * 200_000) + framed(b"{}")) == [b"", b"{}"]


async def test_the_first_message_may_have_a_lower_limit() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(framed(b"x" * 100) + framed(b"x" * 101))
    reader.feed_eof()
    messages = read_messages(reader, strict=True, first_limit=100)
    assert [len(body) async for body in messages] == [100, 101]
    reader = asyncio.StreamReader()
    reader.feed_data(framed(b"x" * 101))
    with pytest.raises(FramingError):
        await anext(read_messages(reader, strict=True, first_limit=100))


@pytest.mark.parametrize(
    ("data", "bodies"),
    [
        (b"", []),
        (framed(b"{}") + framed(b"[1]"), [b"{}", b"[1]"]),
        (b"Content-Type: x\r\nContent-Length: 2\r\n\r\n{}", [b"{}"]),
        (b"Content-Length: 9\r\n\r\n{}", []),
        (framed(b"{}") * 20, [b"{}"] * 20),
    ],
)
async def test_strict_framing_reads_what_is_well_formed(data: bytes, bodies: list[bytes]) -> None:
    assert await messages_of(data, strict=True) == bodies


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n",
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -2\r\n\r\n",
        b"Content-Length: 2\n\n{}",
        b"Content-Length: 300000000\r\n\r\n",
        b"X: y\r\n" + framed(b"{}"),
        b"Content-Type: x\r\n" * 9 + framed(b"{}"),
        b"Referer: http://evil.example/?content-length:2\r\n\r\n{}",
        b"Content-Type: x content-length: 2\r\n\r\n{}",
        b"X: " + b"y" * 300 + b"\r\n" + framed(b"{}"),
        b"X: " + b"y" * 300_000 + b"\r\n" + framed(b"{}"),
    ],
)
async def test_strict_framing_refuses_what_is_malformed(data: bytes) -> None:
    with pytest.raises(FramingError):
        await messages_of(data, strict=True)
