"""The server's side of the worker: starts or joins it, talks to it, and starts it again when it dies.

All methods belong to one event loop. Nothing here blocks it, and nothing raises for a dead worker but `WorkerError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import attrs
import cattrs
from attrs import field, frozen
from pygls.client import JsonRPCClient

from codegen_lsp.errors import CodegenError, ModelError, WorkerError
from codegen_lsp.inference.client import shared_worker as sharing
from codegen_lsp.inference.client.launch import Link, start_private
from codegen_lsp.inference.client.shared_worker import NoSocketsError, Place, SharingError
from codegen_lsp.inference.rpc import connection as wire
from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.messages import (
    Clients,
    GenerateParams,
    GenerateResult,
    Hello,
    LoadParams,
    LoadProgress,
    ModelDescription,
    Rates,
    ScoreParams,
    ScoreResult,
    WarmParams,
    Welcome,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
Phase = Literal["stopped", "starting", "loading", "ready", "busy", "failed"]

HELLO_SECONDS = 30.0
"""Within which a shared worker has to introduce itself, its start included."""
JOINS, JOIN_SECONDS = 5, 0.05
"""Attempts to join a shared worker, and the time between them: it may be about to leave, its last client having
gone."""
ENDING_SECONDS = 4.0
"""Within which a worker that nobody else uses ends, before it is killed."""
CRASHES = 5
CRASH_WINDOW_SECONDS = 60.0
"""This many deaths within this time, and the worker stays down until it is restarted by hand (as Tabby does)."""
BACKOFF_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Wait before the first, second, … start after a death within the window."""


class _DiedError(WorkerError):
    """A worker ended as soon as it was started. It will be started again."""


class SupersededError(CodegenError):
    """A newer request of the same document took this one's place."""

    def __init__(self) -> None:
        super().__init__("A newer request took this one's place.")


@frozen
class WorkerState:
    """What the worker is doing."""

    phase: Phase
    message: str = ""
    advice: str = ""
    model: ModelDescription | None = None
    pid: int | None = None


class _Connection(JsonRPCClient):
    """JSON-RPC with one worker process."""

    def __init__(
        self, link: Link, on_progress: Callable[[LoadProgress], None], on_end: Callable[[_Connection], None]
    ) -> None:
        super().__init__(wire.WorkerProtocol, wire.converter)
        self.link = link
        self.place: Place | None = None
        """Where it was met, if others may use it, too."""
        self.socket = 0
        self.may_be_shared = False
        self.clients = 1
        """Servers that are connected to the worker."""
        self.exited = asyncio.Event()
        self.exit_code: int | None = None
        self.expected_to_end = False
        self._on_end = on_end
        self._ids = itertools.count(1)
        self.feature(wire.PROGRESS)(lambda raw: on_progress(cattrs.structure(raw, LoadProgress)))
        self.feature(wire.CLIENTS)(lambda raw: self._count_clients(raw))
        self.protocol.set_writer(link.writer)
        self._running = asyncio.ensure_future(self._run())

    async def greet(self, place: Place) -> None:
        """Introduce ourselves to a shared worker. Raises WorkerError when it ends, SharingError when it is no match."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                welcome = await self.call(wire.HELLO, Hello(place.digest), Welcome)
        except WorkerError:
            raise
        except TimeoutError:
            raise SharingError(f"The worker at {place.socket} does not answer.", "End that process.") from None
        except Exception as error:
            raise SharingError(f"The process at {place.socket} is no worker for this: {error}") from error
        self.place, self.link.pid, self.clients, self.socket = place, welcome.pid, welcome.clients, welcome.socket

    def serves(self, params: LoadParams) -> bool:
        """Whether this worker may load that: one of our own may load anything."""
        if self.place is not None:
            return params.shared and sharing.digest_of(params) == self.place.digest
        return params.shared == self.may_be_shared

    async def call(self, method: str, params: object, answer: type[T]) -> T:
        """Send a request and give its value. Cancelling the caller cancels the request in the worker.

        Raises WorkerError when the worker ends before it answers, ModelError and SupersededError as it says.
        """
        if self.expected_to_end or self.exited.is_set():
            raise WorkerError("The inference worker is not running.")
        id = str(next(self._ids))
        future: asyncio.Future[Any] = self.protocol.send_request_async(method, cattrs.unstructure(params), msg_id=id)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        ended = asyncio.ensure_future(self.exited.wait())
        try:
            await asyncio.wait({future, ended}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.cancel(id)
            raise
        finally:
            ended.cancel()
            self.link.read_lines()
        if not future.done() or future.exception() is not None:
            raise WorkerError("The inference worker ended before it answered.")
        return _value(future.result(), answer)

    def cancel(self, id: str) -> None:
        """Tell the worker that an answer is no longer wanted."""
        if not self.expected_to_end and not self.exited.is_set():
            self.protocol.notify(wire.CANCEL, {"id": id})

    async def end(self) -> None:
        """Leave the worker, which ends if nobody else is connected; kill it if it does not."""
        self.expected_to_end = True
        with contextlib.suppress(OSError):
            if self.link.writer.can_write_eof():
                self.link.writer.write_eof()
            else:
                self.link.writer.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._running), ENDING_SECONDS)
        except TimeoutError:
            if self.clients == 1:
                self.link.kill()
            self.link.writer.transport.abort()
            await self._running

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log what pygls could not handle."""
        logger.error("worker: %s: %s", source, error)

    def _count_clients(self, raw: Any) -> None:
        self.clients = cattrs.structure(raw, Clients).clients

    async def _run(self) -> None:
        """Read until the worker closes the stream, which it does with its end at the latest."""
        try:
            await wire.receive(self.link.reader, self.protocol)
        except (OSError, FramingError) as error:
            logger.info("The stream from the worker broke: %s", error)
        self.link.writer.close()
        self.exit_code = await self.link.exit_code()
        self.exited.set()
        self._on_end(self)


@attrs.define
class _Deaths:
    """When the worker died of itself, lately."""

    times: deque[float] = field(factory=lambda: deque(maxlen=CRASHES))

    def note(self) -> int:
        """Count one more; gives how many there were within the window."""
        now = time.monotonic()
        self.times.append(now)
        return sum(now - at < CRASH_WINDOW_SECONDS for at in self.times)


class InferenceClient:
    """Starts, supervises and talks to one worker.

    `on_state` is called at each change of `state`, `on_progress` while a model loads.
    """

    def __init__(
        self,
        *,
        on_state: Callable[[WorkerState], None] | None = None,
        on_progress: Callable[[LoadProgress], None] | None = None,
    ) -> None:
        self.state = WorkerState("stopped")
        self._on_state = on_state or (lambda _: None)
        self._on_progress = on_progress or (lambda _: None)
        self._connection: _Connection | None = None
        self._load: LoadParams | None = None
        self._lock = asyncio.Lock()
        self._deaths = _Deaths()
        self._restarting: asyncio.Task[None] | None = None
        self._open_requests = 0
        self._closed = False

    async def load(self, params: LoadParams) -> ModelDescription:
        """Load a build, starting the worker if need be. It is loaded again whenever the worker is restarted.

        Raises ModelError when the build can't be loaded, WorkerError when the worker can't be run.
        """
        self._load = params
        async with self._lock:
            if self._closed:
                raise WorkerError("The inference worker was closed.")
            return await self._start_and_load(params)

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """Continue a text.

        Raises WorkerError when no worker is ready or it ends meanwhile (it is restarted by itself), SupersededError
        when a newer request of the same document arrives, or any other one while this runs in the background,
        ModelError when the model fails. Cancelling the awaiting task ends the generation within one token.
        """
        connection = self._ready()
        if params.background:
            return await connection.call(wire.GENERATE, params, GenerateResult)
        self._open_requests += 1
        self._show_load()
        try:
            return await connection.call(wire.GENERATE, params, GenerateResult)
        finally:
            self._open_requests -= 1
            self._show_load()

    async def warm(self, params: WarmParams) -> None:
        """Prepare for a text while idle. Silently nothing when there is no ready worker."""
        if self.state.phase not in ("ready", "busy"):
            return
        with contextlib.suppress(WorkerError, SupersededError):
            await self._ready().call(wire.WARM, params, int)

    async def score(self, params: ScoreParams) -> ScoreResult:
        """How likely the model finds texts.

        Raises what `generate` raises. Cancelling the awaiting task ends the work within a layer of the model, or, with
        an engine that can't be interrupted, after the text that is being read.
        """
        return await self._ready().call(wire.SCORE, params, ScoreResult)

    async def measure(self) -> Rates:
        """Measure the speed of the loaded model. Raises WorkerError and ModelError."""
        return await self._ready().call(wire.MEASURE, None, Rates)

    async def restart(self) -> None:
        """Start a new worker with the same model, whatever state the old one is in. Raises WorkerError, ModelError.

        Others that use the old one keep it.
        """
        async with self._lock:
            self._deaths = _Deaths()
            connection = self._connection
            if connection is not None and connection.place is not None:
                with contextlib.suppress(SharingError):
                    await sharing.retire(connection.place, connection.socket)
            await self._end_connection()
            if self._load is not None:
                await self._start_and_load(self._load)

    async def close(self) -> None:
        """End the worker for good."""
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
        await self._end_connection()
        self._set(WorkerState("stopped"))

    @property
    def stderr(self) -> list[str]:
        """The last lines that the worker wrote to its standard error."""
        if self._connection is None:
            return []
        self._connection.link.read_lines()
        return list(self._connection.link.lines)

    async def _start_and_load(self, params: LoadParams) -> ModelDescription:
        connection = self._connection
        if params.shared:
            params = sharing.resolved(params)
        if connection is None or connection.exited.is_set() or not connection.serves(params):
            connection = await self._start(params)
        pid = connection.link.pid
        self._set(WorkerState("loading", f"Loading {params.build}.", pid=pid))
        try:
            model = await connection.call(wire.LOAD, params, ModelDescription)
        except ModelError as error:
            self._set(WorkerState("failed", error.message, error.advice, pid=pid))
            raise
        self._set(WorkerState("ready", f"{model.name} is ready.", model=model, pid=pid))
        return model

    async def _start(self, params: LoadParams) -> _Connection:
        """A new connection, in place of the one there is. Raises WorkerError."""
        await self._end_connection()
        self._set(WorkerState("starting", "Starting the inference worker."))
        try:
            connection = await self._open(params)
        except _DiedError:
            raise
        except WorkerError as error:
            self._set(WorkerState("failed", error.message, error.advice))
            raise
        if self._closed:
            await connection.end()
            raise WorkerError("The inference worker was closed.")
        connection.may_be_shared = params.shared
        self._connection = connection
        return connection

    async def _open(self, params: LoadParams) -> _Connection:
        """A worker that others may use too, if the parameters allow and it can be had, else one of our own."""
        if params.shared:
            try:
                return await self._join(sharing.place_for(params))
            except NoSocketsError:
                pass
            except SharingError as error:
                logger.warning("This server has a worker of its own. %s", error)
        return _Connection(await start_private(), self._on_progress, self._on_worker_end)

    async def _join(self, place: Place) -> _Connection:
        """Raises SharingError, and WorkerError when a worker that was started here ends at once."""
        for _ in range(JOINS):
            connection = _Connection(await sharing.open_shared(place), self._on_progress, self._on_worker_end)
            try:
                await connection.greet(place)
            except WorkerError:
                if not connection.link.is_child:  # it was about to leave
                    await asyncio.sleep(JOIN_SECONDS)
                    continue
                await connection.end()
                raise _DiedError(self._note_death(connection)) from None
            except BaseException:
                await connection.end()
                raise
            return connection
        raise SharingError(f"The worker at {place.socket} ends again and again.")

    async def _end_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()

    def _ready(self) -> _Connection:
        if self._connection is None or self.state.phase not in ("ready", "busy"):
            raise WorkerError(self.state.message or "No model is loaded.", self.state.advice)
        return self._connection

    def _on_worker_end(self, connection: _Connection) -> None:
        if not connection.expected_to_end and not self._closed and connection is self._connection:
            self._note_death(connection)

    def _note_death(self, connection: _Connection) -> str:
        """Start the worker again after a while, unless it died too often; says what happened."""
        deaths = self._deaths.note()
        cause = f"The inference worker ended{_exit_text(connection.exit_code)}."
        lines = connection.link.lines
        last = next((line for line in reversed(lines) if line.strip()), "")
        logger.error("%s Its last output: %s", cause, "\n".join(lines) or "none")
        message = f"{cause} {last}".strip()
        if deaths >= CRASHES:
            advice = "It died too often to be started again by itself: see the log, then restart the worker."
            self._set(WorkerState("failed", message, advice))
            return message
        self._set(WorkerState("starting", message, "It is being restarted."))
        self._restarting = asyncio.ensure_future(self._restart_after(BACKOFF_SECONDS[min(deaths, 4) - 1]))
        return message

    async def _restart_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._lock:
            if self._load is None or self._closed:
                return
            with contextlib.suppress(CodegenError):
                await self._start_and_load(self._load)

    def _show_load(self) -> None:
        if self.state.phase in ("ready", "busy"):
            self._set(attrs.evolve(self.state, phase="busy" if self._open_requests else "ready"))

    def _set(self, state: WorkerState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


def _value(reply: dict[str, Any], answer: type[T]) -> T:
    """The value of a reply, or its failure as the error it stands for."""
    if "failure" not in reply:
        return cattrs.structure(reply["value"], answer)
    failure = cattrs.structure(reply["failure"], wire.Failure)
    if failure.kind == "replaced":
        raise SupersededError
    if failure.kind == "model":
        raise ModelError(failure.message, failure.advice)
    raise WorkerError(failure.message, failure.advice)


def _exit_text(code: int | None) -> str:
    if code is None:  # another server started it
        return ""
    if code < 0:
        hint = " (killed, perhaps for lack of memory)" if code == -9 else ""
        return f" by signal {-code}{hint}"
    return f" with exit code {code}"
