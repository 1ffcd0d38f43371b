"""Reading stdin and writing stdout or a WebSocket without blocking the event loop.

They replace pygls' own loops, which lose the exit code, keep the process alive in a thread that waits on stdin, require
one exact spelling of the header fields, never resynchronize after a wrong length, and block the event loop while an
editor doesn't read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
"""Read at once from stdin."""
CLOSE_TIMEOUT = 2.0
"""Seconds for writing what is queued when a writer is closed."""


class StdinThread:
    """Feeds a stream from a file descriptor, in a daemon thread.

    The stream reader pauses it while its buffer is full, as it does with an asyncio transport. At most one chunk is on
    its way from the thread to the event loop, however slow the loop is.
    """

    def __init__(self, descriptor: int) -> None:
        self.reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        self.reader.set_transport(self)  # type: ignore[arg-type]
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._wanted = threading.Event()
        self._wanted.set()
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def pause_reading(self) -> None:
        """Called by the stream reader."""
        self._paused = True

    def resume_reading(self) -> None:
        """Called by the stream reader."""
        self._paused = False
        self._wanted.set()

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the session is over
            while True:
                self._wanted.wait()
                self._wanted.clear()
                try:
                    data = os.read(self._descriptor, CHUNK_BYTES)
                except OSError:
                    data = b""
                self._loop.call_soon_threadsafe(self._feed, data)
                if not data:
                    return

    def _feed(self, data: bytes) -> None:
        if not data:
            self.reader.feed_eof()
            return
        self.reader.feed_data(data)
        if not self._paused:
            self._wanted.set()


class StdoutThread:
    """Writes to a file descriptor in a thread, so that an editor that doesn't read can't block the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue data to be written."""
        self._queue.put(data)

    @property
    def queued(self) -> int:
        """Number of messages that wait to be written."""
        return self._queue.qsize()

    @property
    def closed(self) -> bool:
        """True after everything was written and `close` was called, or after writing failed."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Write what is queued, for at most `CLOSE_TIMEOUT` seconds."""
        self._queue.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                # The end of the input, which follows, ends the session.
                logger.info("The editor no longer reads: %s", error)
                return


class WebSocketWriter:
    """Sends one text frame for each message, in order."""

    def __init__(self, socket: ServerConnection) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(socket))

    def write(self, data: bytes) -> None:
        """Queue data to be sent."""
        self._queue.put_nowait(data)

    async def aclose(self) -> None:
        """Send what is queued, for at most `CLOSE_TIMEOUT` seconds."""
        self._queue.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, CLOSE_TIMEOUT)

    async def _run(self, socket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while (data := await self._queue.get()) is not None:
                await socket.send(data.decode())


def claim_stdio() -> tuple[int, int]:
    """Return descriptors of stdin and stdout that only the protocol uses.

    Afterwards, `print` and C libraries write to stderr, and child processes inherit neither stream: nothing is written
    between the messages, and no child process keeps the editor's pipe open.
    """
    stdin, stdout = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (stdin, stdout):
            msvcrt.setmode(descriptor, os.O_BINARY)
    return stdin, stdout
