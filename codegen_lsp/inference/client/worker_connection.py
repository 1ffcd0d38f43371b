"""JSON-RPC with one worker process, from the handshake to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import cattrs

from codegen_lsp.errors import WorkerError
from codegen_lsp.inference.client.launch import WorkerProcess
from codegen_lsp.inference.client.shared_worker import digest_of
from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.endpoint import Endpoint, SharingError
from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.messages import LoadParams, LoadProgress, StreamedText
from codegen_lsp.inference.rpc.peer import JsonRpcPeer
from codegen_lsp.inference.rpc.shared_messages import ClientCount, HandshakeParams, HandshakeResult

logger = logging.getLogger(__name__)

T = TypeVar("T")

HANDSHAKE_TIMEOUT = 30.0
"""Seconds, which may include the start of the worker."""
JOIN_TIMEOUT = 15.0
"""Seconds for the handshake with a worker that another server started; it may be starting still."""
PING_INTERVAL = 2.0
"""Seconds between pings while a request is open."""
TICK = 1.0
"""Seconds. Ticks are counted instead of time, since this process may have been suspended meanwhile."""
TICKS, LOADING_TICKS = 10, 120
"""Ticks without an answer to a ping after which a worker hangs, and while it starts or loads a model. Its event loop
turns whatever it computes, but reading a model from a slow disk may keep the interpreter's lock."""
MAX_CALLS = rpc.MAX_REQUESTS - 16
"""Requests that are open at once; more wait here. The rest is room for pings."""
EXIT_TIMEOUT = 4.0
"""Seconds until a worker without other clients is killed."""


class WorkerConnection:
    """JSON-RPC with one worker process. Made inside the event loop."""

    def __init__(
        self,
        worker: WorkerProcess,
        on_progress: Callable[[LoadProgress], None],
        on_end: Callable[[WorkerConnection], None],
    ) -> None:
        self.worker = worker
        self.peer = JsonRpcPeer(worker.writer)
        self.endpoint: Endpoint | None = None
        """Endpoint of a shared worker; None for a private one."""
        self.socket_inode = 0
        self.may_be_shared = False
        self.clients = 1
        """Number of servers that are connected to the worker."""
        self.ended = asyncio.Event()
        self.exit_code: int | None = None
        self.expected_to_end = False
        self.hung = False
        """True if the worker was killed because it hung."""
        self._on_end = on_end
        self._calls: list[str] = []
        """Methods of the open requests."""
        self._free_calls = asyncio.Semaphore(MAX_CALLS)
        self._heard = False
        """True once the worker has answered anything."""
        self._watching: asyncio.Task[None] | None = None
        self.peer.notifications |= {
            rpc.PROGRESS: lambda raw: on_progress(cattrs.structure(raw, LoadProgress)),
            rpc.CLIENTS: self._set_clients,
            rpc.TEXT: self._take_text,
        }
        self.streams: dict[str, Callable[[StreamedText], None]] = {}
        """What the streamed text of open requests goes to, by the key of the stream."""
        self._receiving = asyncio.ensure_future(self._receive())

    async def shake_hands(self, endpoint: Endpoint) -> None:
        """Do the handshake with a shared worker.

        Raises WorkerError when the worker ends meanwhile, SharingError when the peer is not a worker with this digest.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT if self.worker.is_child else JOIN_TIMEOUT):
                result = await self.call(rpc.HANDSHAKE, HandshakeParams(endpoint.digest), HandshakeResult)
        except WorkerError:
            raise
        except TimeoutError:
            self.hung = True
            raise SharingError(f"The worker at {endpoint.socket} does not answer.", "End that process.") from None
        except Exception as error:
            raise SharingError(
                f"The process at {endpoint.socket} is not a worker that can be shared: {error}"
            ) from error
        self.endpoint, self.socket_inode = endpoint, result.socket_inode
        self.worker.pid, self.clients = result.pid, result.clients

    def can_load(self, params: LoadParams) -> bool:
        """Return whether this worker may load that build. A private worker may load any."""
        if self.endpoint is not None:
            return params.shared and digest_of(params) == self.endpoint.digest
        return params.shared == self.may_be_shared

    async def call(self, method: str, params: object, result_type: type[T]) -> T:
        """Send a request and return its result. Cancelling the caller cancels the request in the worker.

        Raises WorkerError when the worker ends before it answers; ModelError, SupersededError or WorkerError when it
        answers with a failure.
        """
        self._check_open()
        await self._free_calls.acquire()
        try:
            self._check_open()
            id, future = self.peer.request(method, cattrs.unstructure(params))
        except BaseException:
            self._free_calls.release()
            raise
        # Not sooner: a cancelled request is open until the worker has answered it.
        future.add_done_callback(lambda _: self._free_calls.release())
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        ended = asyncio.ensure_future(self.ended.wait())
        self._calls.append(method)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait({future, ended}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._cancel(id)
            raise
        finally:
            ended.cancel()
            self._calls.remove(method)
            self.worker.read_stderr()
        self._heard = True
        if not future.done() or future.exception() is not None:
            raise WorkerError("The inference worker ended before it answered.")
        return rpc.result_of(future.result(), result_type)

    async def settle(self) -> None:
        """Wait for the end of a worker whose stream is closed, so that its cause is known; `EXIT_TIMEOUT` at most."""
        if self._is_closed and not self.expected_to_end:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), EXIT_TIMEOUT)

    async def end(self) -> None:
        """Disconnect. A worker without other clients exits, and is killed after `EXIT_TIMEOUT`."""
        self.expected_to_end = True
        if not self.worker.writer.is_closing():  # uvloop's streams raise RuntimeError then, asyncio's do not
            with contextlib.suppress(OSError):
                if self.worker.writer.can_write_eof():
                    self.worker.writer.write_eof()
                else:
                    self.worker.writer.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._receiving), EXIT_TIMEOUT)
        except TimeoutError:
            if self.clients == 1:
                self.worker.kill()
            self.worker.writer.transport.abort()
            await self._receiving

    async def _watch(self) -> None:
        """Kill the worker if it hangs while a request is open: then the stream ends, and it is replaced."""
        while True:
            await asyncio.sleep(PING_INTERVAL)
            if not self._calls or self._is_closed:
                return
            _, pong = self.peer.request(rpc.PING, None)
            pong.add_done_callback(lambda done: done.cancelled() or done.exception())
            ticks = 0
            while not pong.done():
                await asyncio.wait({pong}, timeout=TICK)
                ticks += 1
                patient = not self._heard or rpc.LOAD in self._calls
                if self._is_closed:
                    return
                if not pong.done() and ticks >= (LOADING_TICKS if patient else TICKS):
                    logger.error("The inference worker hangs and is killed")
                    self.hung = True
                    self.worker.kill()
                    return
            self._heard = True

    def _check_open(self) -> None:
        """Raise WorkerError if nothing can be sent to the worker any more."""
        if self._is_closed:
            raise WorkerError("The inference worker is not running.")

    def _cancel(self, id: str) -> None:
        if not self._is_closed:
            self.peer.cancel(id)

    @property
    def _is_closed(self) -> bool:
        """True if nothing can be sent to the worker any more."""
        return self.expected_to_end or self.ended.is_set() or self.worker.writer.is_closing()

    def _set_clients(self, raw: Any) -> None:
        self.clients = cattrs.structure(raw, ClientCount).clients

    def _take_text(self, raw: Any) -> None:
        text = cattrs.structure(raw, StreamedText)
        if take := self.streams.get(text.stream):
            take(text)

    async def _receive(self) -> None:
        """Read until the worker closes the stream, at the latest when it exits."""
        try:
            await self.peer.receive(self.worker.reader)
        except (OSError, FramingError) as error:
            logger.info("The stream from the worker broke: %s", error)
        if self._watching is not None:
            self._watching.cancel()
        self.worker.writer.close()
        self.exit_code = await self.worker.exit_code()
        self.ended.set()
        self._free_calls.release()  # each call that waits fails, and so lets the next one fail
        self._on_end(self)
