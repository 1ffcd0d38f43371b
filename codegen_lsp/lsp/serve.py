"""The server on stdio, TCP or WebSocket; the entry points of the command line.

On stdio there is one connection, and the process ends with it. On a socket each connection has a server of its own,
with its own documents and settings, and the process ends at a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from codegen_lsp.errors import AddressError
from codegen_lsp.inference.rpc.framing import MAX_MESSAGE_BYTES, read_messages
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.lsp.server import CodegenServer, create_server
from codegen_lsp.lsp.transports import StdinThread, StdoutThread, WebSocketWriter, claim_stdio
from codegen_lsp.settings import LogSettings

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

logger = logging.getLogger(__name__)

LOCAL_PAGES = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
"""Origins of web pages that may connect. Otherwise any page that the user visits could talk to the server."""

MakeServer = Callable[[], CodegenServer]


def serve_stdio(make_server: MakeServer = create_server) -> int:
    """Serve the editor that started this process; return the exit code."""
    configure_logging(LogSettings())
    stdin, stdout = claim_stdio()

    async def run() -> int:
        server = make_server()
        server.session.watches_editor = True
        _stop_at_signals(lambda number: server.session.stop(128 + number))
        writer = StdoutThread(stdout)
        server.protocol.set_writer(writer)
        code = await serve_messages(server, read_messages(StdinThread(stdin).reader))
        writer.close()
        return code

    return asyncio.run(run())


def serve_tcp(address: str, make_server: MakeServer = create_server) -> int:
    """Serve editors that connect to `HOST:PORT` until a signal; return the exit code. Raises: AddressError."""
    host, port = parse_address(address)
    configure_logging(LogSettings())

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = make_server()
        server.protocol.set_writer(writer)
        try:
            await serve_messages(server, read_messages(reader))
        except ConnectionError as error:
            logger.info("The connection broke: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await writer.wait_closed()

    async def run() -> int:
        try:
            listening = await asyncio.start_server(connection, host, port)
        except OSError as error:
            raise AddressError(
                f"Can't listen on {address}: {error.strerror or error}.", "Choose another port."
            ) from error
        async with listening:
            announce("tcp", listening.sockets[0].getsockname())
            return await _signal()

    return asyncio.run(run())


def serve_ws(address: str, make_server: MakeServer = create_server) -> int:
    """Serve WebSocket clients at `HOST:PORT` until a signal; return the exit code. Raises: AddressError.

    Web pages of other hosts are refused.
    """
    host, port = parse_address(address)
    configure_logging(LogSettings())

    async def connection(socket: ServerConnection) -> None:
        server = make_server()
        writer = WebSocketWriter(socket)
        server.protocol.set_writer(writer, include_headers=False)  # type: ignore[arg-type]
        try:
            await serve_messages(server, _frames(socket))
        finally:
            await writer.aclose()

    async def run() -> int:
        from websockets.asyncio.server import serve

        try:
            listening = await serve(connection, host, port, origins=[None, LOCAL_PAGES], max_size=MAX_MESSAGE_BYTES)
        except OSError as error:
            raise AddressError(
                f"Can't listen on {address}: {error.strerror or error}.", "Choose another port."
            ) from error
        async with listening:
            announce("ws", next(iter(listening.sockets)).getsockname())
            return await _signal()

    return asyncio.run(run())


async def serve_messages(server: CodegenServer, messages: AsyncIterator[bytes | str]) -> int:
    """Handle messages until `exit` or the end of the input, then end the worker; return the exit code."""
    reading = asyncio.create_task(_receive_all(server, messages))
    stopped = asyncio.create_task(server.session.stopped.wait())
    try:
        await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and (error := reading.exception()) is not None:
            logger.info("The connection ended: %s", error)
    finally:
        for task in (reading, stopped):
            task.cancel()
        server.session.stop(server.protocol.exit_code)
        await server.session.close()
    assert server.session.exit_code is not None
    return server.session.exit_code


async def _receive_all(server: CodegenServer, messages: AsyncIterator[bytes | str]) -> None:
    async for body in messages:
        server.protocol.receive(body)
        # Each handler starts, and takes its snapshot, before the next message changes the document.
        await asyncio.sleep(0)


async def _frames(socket: ServerConnection) -> AsyncIterator[bytes | str]:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        async for frame in socket:
            yield frame


def parse_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`; the host is 127.0.0.1 if there is none.

    Raises: AddressError.
    """
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise AddressError(f"{address!r} is no address.", "Write it as HOST:PORT, for example 127.0.0.1:2087.")
    return host.strip("[]") or "127.0.0.1", int(port)


def announce(scheme: str, address: tuple[str, int]) -> None:
    """Print on stderr where the server listens; with port 0 there is no other way to know."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    print(f"codegen-lsp listens on {scheme}://{host}:{address[1]}", file=sys.stderr, flush=True)  # noqa: T201


async def _signal() -> int:
    """Wait for SIGINT or SIGTERM; return the exit code that shells report for it."""
    received: asyncio.Queue[int] = asyncio.Queue()
    _stop_at_signals(received.put_nowait)
    return 128 + await received.get()


def _stop_at_signals(stop: Callable[[int], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # The event loop of Windows has no signal handlers; the process ends there.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop, int(number))
