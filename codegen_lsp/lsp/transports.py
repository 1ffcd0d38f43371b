"""Streams of bytes to messages and back: stdio, TCP, WebSocket.

pygls has loops of its own for this. They are replaced because they lose the exit code, keep the process alive in a
thread that waits on stdin, ask for header fields in one exact spelling, never find back after a wrong length, and stop
the event loop while an editor doesn't read.
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

_CHUNK = 64 * 1024


class StdinThread:
    """Feeds a stream from a file descriptor, in a thread that the end of the process doesn't wait for.

    The stream reader pauses it while more is buffered than it likes, as it does with an asyncio transport. Never is
    more than one chunk on its way from the thread to the loop, however slow that is.
    """

    def __init__(self, descriptor: int) -> None:
        self.reader = asyncio.StreamReader(limit=_CHUNK)
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
                    data = os.read(self._descriptor, _CHUNK)
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
    """Writes to a file descriptor in a thread, so that an editor that doesn't read can't stop the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Put data in the queue."""
        self._queue.put(data)

    def close(self) -> None:
        """Write what is left, for at most two seconds."""
        self._queue.put(None)
        self._thread.join(2.0)

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
    """One text frame for each message, in order."""

    def __init__(self, socket: ServerConnection) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(socket))

    def write(self, data: bytes) -> None:
        """Put data in the queue."""
        self._queue.put_nowait(data)

    async def aclose(self) -> None:
        """Send what is left, for at most two seconds."""
        self._queue.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, 2.0)

    async def _run(self, socket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while (data := await self._queue.get()) is not None:
                await socket.send(data.decode())


def claim_stdio() -> tuple[int, int]:
    """Descriptors of stdin and stdout for the protocol alone.

    From here on `print` and C libraries write to stderr, and children inherit neither stream, so that nothing can get
    between the messages and no child can keep the editor's pipe open.
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
