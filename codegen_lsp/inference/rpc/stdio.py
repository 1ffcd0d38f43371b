"""Reading and writing file descriptors in threads, without blocking the event loop: stdin and stdout of both processes.

asyncio's own pipes would do, but not for the standard streams of a process on Windows. pygls' loops lose the exit code,
keep the process alive in a thread that waits on stdin, and block the event loop while the other end doesn't read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
"""Read at once."""
CLOSE_TIMEOUT = 2.0
"""Seconds for writing what is queued when a writer is closed."""
MAX_UNREAD_BYTES = 64 * 2**20
"""Size of the messages that the other end may leave unread."""


class StdinThread:
    """Feeds a stream from a file descriptor, in a daemon thread.

    The stream reader pauses it while its buffer is full, as it does with an asyncio transport. At most one chunk is on
    its way from the thread to the event loop, however slow the loop is.
    """

    def __init__(self, descriptor: int, on_end: Callable[[], object] = lambda: None) -> None:
        """`on_end` is called in the thread when the input has ended, whatever the event loop does."""
        self.reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        self._on_end = on_end
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
                if not data:
                    self._on_end()
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
    """Writes to a file descriptor in a thread, so that a peer that doesn't read can't block the event loop."""

    def __init__(self, descriptor: int, on_unread: Callable[[], object] = lambda: None) -> None:
        """`on_unread` is called when more than `MAX_UNREAD_BYTES` wait; what follows is dropped."""
        self._descriptor = descriptor
        self._on_unread = on_unread
        self.unread = 0
        """Bytes that wait, about: counted by two threads."""
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue data to be written."""
        if self.unread > MAX_UNREAD_BYTES:
            logger.warning("The other end doesn't read its messages")
            self._on_unread()
            return
        self.unread += len(data)
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
                self.unread -= len(data)
            except OSError as error:
                # The end of the input, which follows, ends the session.
                logger.info("The other end no longer reads: %s", error)
                return
