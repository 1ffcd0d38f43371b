"""The server for clients that connect to it, over TCP or WebSocket.

Each connection has a server of its own, with its own documents and settings, and the process ends at a signal. A client
must show the token (`access`) before anything that it sends reaches a server. Even then it chooses among installed
models only, and has no say in where the log is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from codegen_lsp.access import is_loopback, is_own_host, is_token
from codegen_lsp.errors import AddressError
from codegen_lsp.inference.rpc.framing import MAX_MESSAGE_BYTES, FramingError, read_messages
from codegen_lsp.lsp.access import (
    FIRST_MESSAGE_BYTES,
    OPTION,
    ClientRefusedError,
    first_message,
    new_token,
    token_of_file,
    token_of_request,
)
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.lsp.models import find_installed_build
from codegen_lsp.lsp.serve import MakeServer, run_to_end, serve_messages, stop_at_signals
from codegen_lsp.lsp.server import CodegenServer, create_server
from codegen_lsp.lsp.transports import SocketWriter, WebSocketWriter
from codegen_lsp.lsp.watchdog import guarded_event_loop
from codegen_lsp.settings import LogSettings

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds for what is still to be sent when a connection ends."""


def serve_tcp(address: str, token_file: Path | None = None, make_server: MakeServer | None = None) -> int:
    """Serve editors that connect to `HOST:PORT` until a signal; return the exit code.

    Raises: AddressError, TokenError.
    """
    host, port = parse_address(address)
    token = token_of_file(token_file) if token_file else new_token()
    make_server = make_server or _create_server
    configure_logging(LogSettings())

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = read_messages(reader, strict=True, first_limit=FIRST_MESSAGE_BYTES)
        try:
            first = await first_message(messages, token)
            server = make_server()
            server.protocol.set_writer(SocketWriter(writer))
            await serve_messages(server, _chained(first, messages))
        except ClientRefusedError as refused:
            logger.warning("A client was refused: %s.", refused.reason)
            if refused.answer is not None:
                body = json.dumps(refused.answer).encode()
                writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        except FramingError as error:
            logger.warning("A client was refused: what it sent is no message (%s).", error)
        except ConnectionError as error:
            logger.info("The connection broke: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await writer.wait_closed()

    async def run() -> int:
        try:
            listening = await asyncio.start_server(connection, host, port)
        except OSError as error:
            raise _address_error(address, error) from error
        signals = _signals()
        async with listening, guarded_event_loop():
            _announce("tcp", listening.sockets[0].getsockname(), token, token_file)
            return 128 + await signals.get()

    return run_to_end(run())


def serve_ws(
    address: str,
    token_file: Path | None = None,
    origins: Iterable[str] = (),
    make_server: MakeServer | None = None,
) -> int:
    """Serve WebSocket clients at `HOST:PORT` until a signal; return the exit code.

    Web pages are refused but for those of `origins`, each of which needs the token as well.

    Raises: AddressError, TokenError.
    """
    host, port = parse_address(address)
    token = token_of_file(token_file) if token_file else new_token()
    make_server = make_server or _create_server
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
            listening = await serve(
                connection,
                host,
                port,
                origins=[None, *origins],  # type: ignore[list-item]
                process_request=partial(_refusal, host=host, token=token),
                max_size=MAX_MESSAGE_BYTES,
            )
        except OSError as error:
            raise _address_error(address, error) from error
        signals = _signals()
        async with listening, guarded_event_loop():
            _announce("ws", next(iter(listening.sockets)).getsockname(), token, token_file)
            return 128 + await signals.get()

    return run_to_end(run())


def parse_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`; the host is 127.0.0.1 if there is none.

    Raises: AddressError.
    """
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise AddressError(f"{address!r} is no address.", "Write it as HOST:PORT, for example 127.0.0.1:2087.")
    return host.strip("[]") or "127.0.0.1", int(port)


def _create_server() -> CodegenServer:
    """Return a server for a client that connected, which may be less trusted than the user's own editor."""
    server = create_server(find_build=find_installed_build)
    server.session.configuration.may_name_log_file = False
    server.session.configuration.may_name_remote = False
    return server


def _refusal(connection: ServerConnection, request: Request, *, host: str, token: str) -> Response | None:
    """Return the answer that refuses a WebSocket client; None if it may connect, as far as its origin may."""
    hosts, authorizations = request.headers.get_all("Host"), request.headers.get_all("Authorization")
    if len(hosts) != 1 or not is_own_host(hosts[0], host):
        return connection.respond(HTTPStatus.FORBIDDEN, "This server has another name.\n")
    if not is_token(token_of_request(request.path, authorizations[0] if authorizations else None), token):
        logger.warning("A client was refused: it did not give the token.")
        text = f"This server admits clients that give its token: ws://HOST:PORT/?{OPTION}=TOKEN\n"
        return connection.respond(HTTPStatus.UNAUTHORIZED, text)
    return None


def _announce(scheme: str, address: tuple[str, int], token: str, token_file: Path | None) -> None:
    """Print on stderr where the server listens and the token; with port 0 there is no other way to know."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    lines = [f"codegen-lsp listens on {scheme}://{host}:{address[1]}"]
    lines.append(f"Token: in {token_file}" if token_file else f"Token: {token}")
    if not is_loopback(address[0]):
        lines += [
            "WARNING: other machines can reach this address. The connection is not encrypted: whoever can read the",
            "network's traffic reads your code and the token. Listen on 127.0.0.1 and use an SSH tunnel instead.",
        ]
    print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201


def _address_error(address: str, error: OSError) -> AddressError:
    return AddressError(f"Can't listen on {address}: {error.strerror or error}.", "Choose another port.")


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes | str]:
    yield first
    async for body in rest:
        yield body


async def _frames(socket: ServerConnection) -> AsyncIterator[bytes | str]:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        async for frame in socket:
            yield frame


def _signals() -> asyncio.Queue[int]:
    """Return a queue that receives the number of each SIGINT and SIGTERM."""
    received: asyncio.Queue[int] = asyncio.Queue()
    stop_at_signals(received.put_nowait)
    return received
