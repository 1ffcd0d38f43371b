"""Writing to a WebSocket without blocking the event loop, and stdin and stdout for the protocol alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

CLOSE_TIMEOUT = 2.0
"""Seconds for writing what is queued when a writer is closed."""


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
