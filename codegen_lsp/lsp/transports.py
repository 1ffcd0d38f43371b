"""Writing to a WebSocket without blocking the event loop, and stdin and stdout for the protocol alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from codegen_lsp.inference.rpc.stdio import MAX_UNREAD_BYTES

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds for writing what is queued when a writer is closed."""


class SocketWriter:
    """Writes to a client on a socket; disconnects one that leaves too much unread."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    def write(self, data: bytes) -> None:
        """Send data, unless the client has disconnected."""
        transport = self.writer.transport
        if transport.is_closing():
            return
        self.writer.write(data)
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            logger.warning("A client does not read its messages and is disconnected")
            transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


class WebSocketWriter:
    """Sends one text frame for each message, in order. Disconnects a client that leaves too much unread."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._unread = 0
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(socket))

    def write(self, data: bytes) -> None:
        """Queue data to be sent."""
        self._unread += len(data)
        if self._unread <= MAX_UNREAD_BYTES:
            self._queue.put_nowait(data)
        elif not self._socket.transport.is_closing():
            logger.warning("A client does not read its messages and is disconnected")
            self._socket.transport.abort()

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
                self._unread -= len(data)


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
