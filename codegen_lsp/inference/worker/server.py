"""The worker's transports: one client on the standard streams, or several on a socket.

The process exits when its standard input ends or its last client disconnects, so no worker outlives its servers,
however those ended.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
from typing import NoReturn

import cattrs

from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.endpoint import Endpoint, is_same_user, remove_socket_unless_locked
from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.shared_messages import ClientCount, HandshakeParams, HandshakeResult
from codegen_lsp.inference.rpc.stdio import StdinThread, StdoutThread
from codegen_lsp.inference.worker.client_connection import ClientConnection, handler
from codegen_lsp.inference.worker.service import InferenceService, OtherBuildError

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds until a connection without a handshake is closed, and until a worker without clients exits."""
MAX_CLIENTS = 64
MAX_UNREAD_BYTES = 16 * 2**20
"""Size of the answers that a client may leave unread."""
MAX_LOG_BYTES = 4 * 2**20
LOG_CHECK_INTERVAL = 60.0
"""Seconds between checks whether the log exceeds `MAX_LOG_BYTES`; it is truncated then."""


class BoundedWriter:
    """Writes to a client on a socket; disconnects one that leaves too much unread."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Send data, unless the client has disconnected."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(data)
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            logger.warning("A client does not read its answers and is disconnected")
            transport.abort()


class SocketServer:
    """Serves the clients of a shared worker; the process exits with the last of them. Made inside the event loop."""

    def __init__(self, listening: socket.socket, endpoint: Endpoint) -> None:
        self._listening = listening
        self._endpoint = endpoint
        self._inode = endpoint.socket.lstat().st_ino
        self._service = InferenceService()
        self._connections = 0
        self._names = map(str, itertools.count(1))
        self._clients: set[ClientConnection] = set()
        """Connections that have done the handshake."""

    async def serve(self) -> None:
        """Accept connections, until the last client has disconnected."""
        async with await asyncio.start_unix_server(self._serve_connection, sock=self._listening):
            await asyncio.sleep(HANDSHAKE_TIMEOUT)
            if not self._connections:
                self._exit()
            while True:
                if os.fstat(2).st_size > MAX_LOG_BYTES:
                    os.ftruncate(2, 0)
                await asyncio.sleep(LOG_CHECK_INTERVAL)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        client = ClientConnection(self._service, next(self._names), BoundedWriter(writer), self._service.load_once)
        client.peer.requests[rpc.HANDSHAKE] = handler(HandshakeParams, lambda params: self._shake_hands(client, params))
        deadline = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self._abort_stranger, client, writer)
        try:
            if self._connections <= MAX_CLIENTS and is_same_user(writer.get_extra_info("socket")):
                await client.peer.receive(reader)
        except (OSError, FramingError) as error:
            logger.warning("A client is disconnected: %s", error)
        finally:
            deadline.cancel()
            writer.close()
            await client.peer.cancel_all()
            self._service.forget(client.name)
            self._connections -= 1
            if client in self._clients:
                self._clients.remove(client)
                self._notify_count()
            if not self._connections:
                self._exit()

    async def _shake_hands(self, client: ClientConnection, params: HandshakeParams) -> HandshakeResult:
        """Accept a client. Raises OtherBuildError when its digest is another one."""
        if params.digest != self._endpoint.digest:
            raise OtherBuildError
        self._clients.add(client)
        self._notify_count()
        return HandshakeResult(os.getpid(), len(self._clients), self._inode)

    def _abort_stranger(self, client: ClientConnection, writer: asyncio.StreamWriter) -> None:
        if client not in self._clients:
            writer.transport.abort()

    def _notify_count(self) -> None:
        body = cattrs.unstructure(ClientCount(len(self._clients)))
        for client in self._clients:
            client.peer.notify(rpc.CLIENTS, body)

    def _exit(self) -> NoReturn:
        remove_socket_unless_locked(self._endpoint, self._inode)
        self._listening.close()  # pending connections end now, not when the process's memory is freed
        exit_process()


async def serve_socket(listening: socket.socket, endpoint: Endpoint) -> None:
    """Serve all clients that connect, until the last has disconnected."""
    await SocketServer(listening, endpoint).serve()


async def serve_stdio(messages: int) -> None:
    """Serve the parent process, until standard input ends. `messages` is the descriptor to write to."""
    service = InferenceService()
    client = ClientConnection(service, "", StdoutThread(messages), service.load)
    try:
        await client.peer.receive(StdinThread(0).reader)
    except (OSError, FramingError) as error:
        logger.error("The stream from the server broke: %s", error)
    finally:
        exit_process()


def claim_stdout() -> int:
    """Return a descriptor of standard output for messages alone; whatever else is printed goes to standard error."""
    messages = os.dup(1)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, messages):
            msvcrt.setmode(descriptor, os.O_BINARY)
    return messages


def exit_process() -> NoReturn:
    """Exit at once, in the middle of a computation too: there is no state to save."""
    sys.stderr.flush()
    os._exit(0)
