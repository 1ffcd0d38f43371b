"""One end of a JSON-RPC 2.0 connection between two processes of this package, with LSP's `$/cancelRequest`.

pygls has such an end, too, but imports the types of the whole Language Server Protocol for it, which takes longer than
all else that a worker does until it is ready (`docs/lab.md`). Both ends read strictly: whatever is not a message ends
the connection.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from codegen_lsp.inference.rpc.framing import ByteReader, FramingError, read_messages

logger = logging.getLogger(__name__)

VERSION = "2.0"
CANCEL = "$/cancelRequest"
METHOD_NOT_FOUND, INTERNAL_ERROR, REQUEST_CANCELLED = -32601, -32603, -32800
"""Error codes of JSON-RPC, and that of the Language Server Protocol for a cancelled request."""

Id = str | int
Handler = Callable[[Any], Awaitable[object]]
"""Answers a request: from its params, plain JSON, to its result, plain JSON."""
Listener = Callable[[Any], None]
"""Takes the params of a notification."""


class ByteWriter(Protocol):
    """Takes the bytes of messages, in order, without blocking."""

    def write(self, data: bytes) -> None:
        """Send data."""


class ErrorReplyError(Exception):
    """The other end answered a request with an error."""


class JsonRpcPeer:
    """One end of a connection: its open requests in both directions. Belongs to one event loop."""

    def __init__(self, writer: ByteWriter, *, max_requests: int | None = None) -> None:
        """`max_requests` is the number of requests that the other end may have open; more end the connection."""
        self.requests: dict[str, Handler] = {}
        self.notifications: dict[str, Listener] = {}
        self._writer = writer
        self._max_requests = max_requests
        self._running: dict[Id, asyncio.Future[object]] = {}
        """Requests of the other end."""
        self._awaited: dict[Id, asyncio.Future[Any]] = {}
        """Own requests."""
        self._ids = map(str, itertools.count(1))

    async def receive(self, reader: ByteReader) -> None:
        """Handle messages until the stream ends.

        Raises FramingError for anything that is not a JSON-RPC message, and OSError when the stream breaks.
        """
        async for body in read_messages(reader, strict=True):
            self.handle(body)

    def handle(self, body: bytes) -> None:
        """Handle one message. Raises FramingError when it is none."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FramingError(f"a body is not JSON ({type(error).__name__})") from error
        match message:
            case {"jsonrpc": "2.0", "id": str() | int() as id, "method": str(method)}:
                self._answer(id, method, message.get("params"))
            case {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": str() | int() as id}}:
                if running := self._running.get(id):
                    running.cancel()
            case {"jsonrpc": "2.0", "method": str(method)} if "id" not in message:
                self._take(method, message.get("params"))
            case {"jsonrpc": "2.0", "id": str() | int() as id, "result": result}:
                if awaited := self._settled(id):
                    awaited.set_result(result)
            case {"jsonrpc": "2.0", "id": str() | int() as id, "error": {"message": str(reason)}}:
                if awaited := self._settled(id):
                    awaited.set_exception(ErrorReplyError(reason))
            case _:
                raise FramingError("a body is not a JSON-RPC message")

    def request(self, method: str, params: object) -> tuple[str, asyncio.Future[Any]]:
        """Send a request; return its id and the future of its result, or of an ErrorReplyError."""
        id = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited[id] = future
        self._send({"id": id, "method": method, "params": params})
        return id, future

    def notify(self, method: str, params: object) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def cancel(self, id: str) -> None:
        """Ask the other end to cancel an own request. It answers in any case."""
        self.notify(CANCEL, {"id": id})

    @property
    def open_requests(self) -> int:
        """Number of requests that wait for an answer, in both directions."""
        return len(self._running) + len(self._awaited)

    async def cancel_all(self) -> None:
        """Cancel all requests of the other end and wait until they have ended."""
        running = list(self._running.values())
        for request in running:
            request.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _answer(self, id: Id, method: str, params: Any) -> None:
        if id in self._running:
            raise FramingError(f"two open requests have the id {id}")
        if self._max_requests is not None and len(self._running) >= self._max_requests:
            raise FramingError("too many requests")
        handler = self.requests.get(method)
        if handler is None:
            self._send_error(id, METHOD_NOT_FOUND, f"There is no method {method}.")
            return
        running = asyncio.ensure_future(handler(params))
        self._running[id] = running
        running.add_done_callback(partial(self._reply, id))

    def _reply(self, id: Id, done: asyncio.Future[object]) -> None:
        del self._running[id]
        if done.cancelled():
            self._send_error(id, REQUEST_CANCELLED, "The request was cancelled.")
        elif error := done.exception():
            logger.error("A request failed", exc_info=error)
            self._send_error(id, INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._send({"id": id, "result": done.result()})

    def _take(self, method: str, params: Any) -> None:
        listener = self.notifications.get(method)
        if listener is None:
            logger.debug("Ignored the notification %s", method)
            return
        try:
            listener(params)
        except Exception:
            logger.exception("The notification %s failed", method)

    def _settled(self, id: Id) -> asyncio.Future[Any] | None:
        """Return the future of an own request that was answered; None if nobody waits for it."""
        awaited = self._awaited.pop(id, None)
        return None if awaited is None or awaited.done() else awaited

    def _send_error(self, id: Id, code: int, message: str) -> None:
        self._send({"id": id, "error": {"code": code, "message": message}})

    def _send(self, message: dict[str, object]) -> None:
        body = json.dumps({"jsonrpc": VERSION, **message}).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
