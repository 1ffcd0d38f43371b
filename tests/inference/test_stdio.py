"""Pipes that are read and written in threads."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
import time

import pytest

from codegen_lsp.inference.rpc import stdio
from codegen_lsp.inference.rpc.framing import read_messages
from codegen_lsp.inference.rpc.stdio import CHUNK_BYTES, StdinThread, StdoutThread


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
    written = full = 0
    while full < 20 or written == bytes_in(read):  # the thread has read nothing yet
        try:
            written += os.write(write, b"x" * CHUNK_BYTES)
            full = 0
        except BlockingIOError:
            full += 1
            # An event loop that is blocked, or one that is not.
            time.sleep(0.005) if slow else await asyncio.sleep(0.005)  # noqa: ASYNC251
        assert written <= 100 * CHUNK_BYTES, "nothing holds the flood back"
    assert 0 < written - bytes_in(read) <= 3 * CHUNK_BYTES
    os.close(write)
    assert len(await source.reader.read(-1)) == written
    os.close(read)


def bytes_in(pipe: int) -> int:
    """The number of bytes that can be read from a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_a_peer_that_does_not_read_stops_nothing() -> None:
    read, write = os.pipe()
    writer = StdoutThread(write)
    for _ in range(100):
        writer.write(b"x" * CHUNK_BYTES)
    assert writer.queued > 90  # a pipe holds one chunk, or little more
    assert not writer.closed
    os.close(read)
    writer.close()
    assert writer.closed
    os.close(write)


async def test_what_nobody_reads_is_not_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_UNREAD_BYTES", 1_000_000)
    read, write = os.pipe()
    told: list[int] = []
    writer = StdoutThread(write, lambda: told.append(1))
    for _ in range(200):
        writer.write(b"x" * CHUNK_BYTES)
    assert told
    assert writer.queued < 20
    os.close(read)
    writer.close()
    os.close(write)


async def test_what_is_read_may_be_any_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_UNREAD_BYTES", 1_000_000)
    read, write = os.pipe()
    writer = StdoutThread(write, lambda: pytest.fail("everything is read"))
    for _ in range(40):
        writer.write(b"x" * CHUNK_BYTES)
        left = CHUNK_BYTES
        while left:
            left -= len(os.read(read, left))
        while writer.unread:  # noqa: ASYNC110 - a thread writes
            await asyncio.sleep(0)
    writer.close()
    os.close(read)
    os.close(write)
