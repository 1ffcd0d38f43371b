"""Requests to one HTTP server over connections that are kept open (HTTP/1.1, keep-alive).

h11 reads and writes the protocol, asyncio the bytes. Cancelling the caller closes the connection of its request, by
which the server knows at once that nobody waits; a new connection is opened meanwhile, so that the next request need
not wait for the TLS handshake. Redirects are not followed and proxies of the environment are not used: text goes to the
address that was named, or nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl

import h11
from attrs import frozen

from codegen_lsp.errors import WorkerError
from codegen_lsp.inference.client.remote_server import RemoteServer
from codegen_lsp.version import __version__

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection, with name resolution and TLS handshake."""
MAX_ANSWER_BYTES = 2**20
"""Size limit of an answer's body. The longest right ones, 8 candidates of 1,024 tokens, have about 300 kB."""
MAX_HEADER_BYTES = 16 * 2**10
MAX_IDLE = 4
"""Connections that are kept open without a request."""
READ_BYTES = 64 * 2**10


class RemoteError(WorkerError):
    """A server that should run the model can't be reached, or answers wrongly.

    `reason` continues the sentence "the local model is used, because …".
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        sentence = reason if reason.startswith("http") else reason[:1].upper() + reason[1:]
        super().__init__(f"{sentence}.", advice)
        self.reason = reason


class _StaleConnectionError(Exception):
    """The server had closed a kept connection before the request arrived."""


@frozen
class HttpAnswer:
    """An HTTP response."""

    status: int
    body: bytes


class _HttpConnection:
    """One connection, which carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.used = False
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)

    @property
    def reusable(self) -> bool:
        """True if another request can be sent."""
        return self._http.our_state is h11.IDLE and not self._reader.at_eof() and not self._writer.is_closing()

    async def exchange(self, request: h11.Request, body: bytes) -> HttpAnswer:
        """Send a request and return the response. Raises OSError, h11.ProtocolError and _StaleConnectionError."""
        reused, self.used = self.used, True
        sent = [self._http.send(request), self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage())]
        self._writer.write(b"".join(part for part in sent if part))
        status, received, parts = 0, 0, []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self._reader.read(READ_BYTES)
                except ConnectionError:
                    data = b""
                if not data and reused and not status:
                    raise _StaleConnectionError
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                received += len(event.data)
                if received > MAX_ANSWER_BYTES:
                    raise h11.RemoteProtocolError("the answer is too long")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("the connection ended before the answer")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return HttpAnswer(status, b"".join(parts))

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


class HttpConnections:
    """The connections to one server. All methods belong to one event loop."""

    def __init__(self, server: RemoteServer) -> None:
        self._server = server
        self._tls: ssl.SSLContext | None = None
        self._idle: list[_HttpConnection] = []
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    async def post(self, path: str, body: bytes) -> HttpAnswer:
        """Send JSON and return the response, whatever its status. Cancelling the caller closes the connection.

        Raises RemoteError when there is no response.
        """
        request = self._request(path, body)
        try:
            try:
                return await self._exchange(await self._take(), request, body)
            except _StaleConnectionError:
                self.drop_idle()
                return await self._exchange(await self._open(), request, body)
        except asyncio.CancelledError:
            self._open_spare()
            raise
        except h11.ProtocolError as error:
            raise RemoteError(f"{self._server.name} does not answer in HTTP ({error})") from error
        except OSError as error:
            raise _connection_error(self._server, error) from error

    def drop_idle(self) -> None:
        """Close the connections that carry no request."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def close(self) -> None:
        """Close the connections. Those that carry a request end with it, by cancelling its caller."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        self.drop_idle()

    def _request(self, path: str, body: bytes) -> h11.Request:
        server = self._server
        headers = [
            ("Host", server.authority),
            ("User-Agent", f"codegen-lsp/{__version__}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ]
        if server.key:
            headers.append(("Authorization", f"Bearer {server.key}"))
        return h11.Request(method="POST", target=server.path + path, headers=headers)

    async def _exchange(self, connection: _HttpConnection, request: h11.Request, body: bytes) -> HttpAnswer:
        try:
            answer = await connection.exchange(request, body)
        except BaseException:
            connection.abort()
            raise
        self._keep(connection)
        return answer

    def _keep(self, connection: _HttpConnection) -> None:
        if connection.reusable and len(self._idle) < MAX_IDLE and not self._closed:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _take(self) -> _HttpConnection:
        """Return a connection that is kept open, the one used last, or open one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.abort()
        return await self._open()

    async def _open(self) -> _HttpConnection:
        """Open a connection, and check that it leads where it may. Raises OSError and RemoteError."""
        server = self._server
        if server.encrypted and self._tls is None:
            self._tls = await asyncio.to_thread(_tls_context, server)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(server.host, server.port, ssl=self._tls)
        except TimeoutError:
            raise RemoteError(f"{server.name} does not answer") from None
        connection = _HttpConnection(reader, writer)
        if not server.encrypted and not server.allow_http and not _is_loopback(writer.get_extra_info("peername")):
            connection.abort()
            raise RemoteError(
                f"{server.host} is another machine, and http is not encrypted", "Use https, or set `remote.allow_http`."
            )
        return connection

    def _open_spare(self) -> None:
        """Open a connection for the next request, in place of one that was closed by cancelling."""
        if self._closed or self._idle or (self._opening is not None and not self._opening.done()):
            return

        async def work() -> None:
            with contextlib.suppress(OSError, RemoteError):
                connection = await self._open()
                self._keep(connection)

        self._opening = asyncio.create_task(work())


def _tls_context(server: RemoteServer) -> ssl.SSLContext:
    """Return the rules by which the server's certificate is checked. Raises RemoteError for an unusable CA file."""
    if not server.ca_file:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=server.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise RemoteError(
            f"the certificates in {server.ca_file} can't be read ({error.strerror or error})",
            "`remote.ca_file` names a file of certificates in PEM form.",
        ) from error


def _connection_error(server: RemoteServer, error: OSError) -> RemoteError:
    """Return the error for a connection that could not be made, or broke."""
    match error:
        case ssl.SSLCertVerificationError():
            return RemoteError(
                f"the certificate of {server.name} is not valid ({error.verify_message})",
                "If the server's certificate is your organisation's own, name its CA file in `remote.ca_file`.",
            )
        case ssl.SSLError():
            return RemoteError(
                f"no encrypted connection to {server.name} can be made ({error.reason or error})", "Is it https?"
            )
        case socket.gaierror():
            return RemoteError(f"the name {server.host} is unknown ({error.strerror})")
        case ConnectionRefusedError():
            return RemoteError(f"{server.name} refuses connections")
        case _:
            return RemoteError(f"{server.name} can't be reached ({error.strerror or error})")


def _is_loopback(peer: object) -> bool:
    """Return whether an address, as a socket names it, is one of this machine."""
    return isinstance(peer, tuple) and ipaddress.ip_address(str(peer[0]).partition("%")[0]).is_loopback
