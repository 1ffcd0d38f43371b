"""The server's side of the worker: starts it, talks to it, and starts it again when it dies.

All methods belong to one event loop. Nothing here blocks it, and nothing raises for a dead worker but `WorkerError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import attrs
import cattrs
from attrs import field, frozen
from pygls.client import JsonRPCClient

from codegen_lsp.errors import CodegenError, ModelError, WorkerError
from codegen_lsp.inference import wire
from codegen_lsp.inference.messages import (
    GenerateParams,
    GenerateResult,
    LoadParams,
    LoadProgress,
    ModelDescription,
    Rates,
    ScoreParams,
    ScoreResult,
    WarmParams,
)
from codegen_lsp.inference.process import worker_command, worker_environment

logger = logging.getLogger(__name__)

T = TypeVar("T")
Phase = Literal["stopped", "starting", "loading", "ready", "busy", "failed"]

KEPT_LINES = 100
"""Lines of the worker's standard error kept for the message when it dies."""
CRASHES = 5
CRASH_WINDOW_SECONDS = 60.0
"""This many deaths within this time, and the worker stays down until it is restarted by hand (as Tabby does)."""
BACKOFF_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Wait before the first, second, … start after a death within the window."""


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

    def __init__(self, on_progress: Callable[[LoadProgress], None], on_exit: Callable[[_Connection], None]) -> None:
        super().__init__(wire.WorkerProtocol, wire.converter)
        self.exited = asyncio.Event()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.expected_to_end = False
        self._on_exit = on_exit
        self._ids = itertools.count(1)
        self._stderr: asyncio.Task[None] | None = None
        self.feature(wire.PROGRESS)(lambda raw: on_progress(cattrs.structure(raw, LoadProgress)))

    @property
    def process(self) -> Process:
        """The worker."""
        assert self._server is not None
        return self._server

    async def start(self) -> None:
        """Start a worker. Raises WorkerError."""
        try:
            await self.start_io(*worker_command(), env=worker_environment())
        except OSError as error:
            raise WorkerError(f"The inference worker can't be started: {error}.", "Reinstall codegen-lsp.") from error
        self._stderr = asyncio.ensure_future(self._read_stderr())

    async def call(self, method: str, params: object, answer: type[T]) -> T:
        """Send a request and give its value. Cancelling the caller cancels the request in the worker.

        Raises WorkerError when the worker ends before it answers, ModelError and SupersededError as it says.
        """
        if self.exited.is_set():
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
        if not future.done() or future.exception() is not None:
            raise WorkerError("The inference worker ended before it answered.")
        return _value(future.result(), answer)

    def cancel(self, id: str) -> None:
        """Tell the worker that an answer is no longer wanted."""
        if not self.exited.is_set():
            self.protocol.notify(wire.CANCEL, {"id": id})

    async def end(self) -> None:
        """Close the worker's input, upon which it ends; kill it if it does not."""
        self.expected_to_end = True
        if self._server is None:
            return
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.exited.wait(), timeout=2)
        except TimeoutError:
            self.kill()
            await self.exited.wait()
        with contextlib.suppress(Exception):
            await self.stop()  # type: ignore[no-untyped-call]
        if self._stderr is not None:
            await self._stderr

    def kill(self) -> None:
        """End the worker now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def server_exit(self, server: Process) -> None:
        """Called by pygls when the process has ended."""
        self.exited.set()
        self._on_exit(self)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log what pygls could not handle."""
        logger.error("worker: %s: %s", source, error)

    async def _read_stderr(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the reader's limit
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            self.lines.append(text)
            logger.info("worker: %s", text)


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
        """Start a new worker with the same model, whatever state the old one is in. Raises WorkerError, ModelError."""
        async with self._lock:
            self._deaths = _Deaths()
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
        return list(self._connection.lines) if self._connection else []

    async def _start_and_load(self, params: LoadParams) -> ModelDescription:
        if self._connection is None or self._connection.exited.is_set():
            self._set(WorkerState("starting", "Starting the inference worker."))
            starting = self._connection = _Connection(self._on_progress, self._on_worker_exit)
            try:
                await starting.start()
            except WorkerError as error:
                self._connection = None
                self._set(WorkerState("failed", error.message, error.advice))
                raise
            if self._closed:
                await starting.end()
                raise WorkerError("The inference worker was closed.")
        connection = self._connection
        pid = connection.process.pid
        self._set(WorkerState("loading", f"Loading {params.build}.", pid=pid))
        try:
            model = await connection.call(wire.LOAD, params, ModelDescription)
        except ModelError as error:
            self._set(WorkerState("failed", error.message, error.advice, pid=pid))
            raise
        self._set(WorkerState("ready", f"{model.name} is ready.", model=model, pid=pid))
        return model

    async def _end_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()

    def _ready(self) -> _Connection:
        if self._connection is None or self.state.phase not in ("ready", "busy"):
            raise WorkerError(self.state.message or "No model is loaded.", self.state.advice)
        return self._connection

    def _on_worker_exit(self, connection: _Connection) -> None:
        if connection.expected_to_end or self._closed or connection is not self._connection:
            return
        code = connection.process.returncode
        deaths = self._deaths.note()
        cause = f"The inference worker ended {_exit_text(code)}."
        last = next((line for line in reversed(connection.lines) if line.strip()), "")
        logger.error("%s Its last output: %s", cause, "\n".join(connection.lines) or "none")
        if deaths >= CRASHES:
            advice = "It died too often to be started again by itself: see the log, then restart the worker."
            self._set(WorkerState("failed", f"{cause} {last}".strip(), advice))
            return
        self._set(WorkerState("starting", f"{cause} {last}".strip(), "It is being restarted."))
        self._restarting = asyncio.ensure_future(self._restart_after(BACKOFF_SECONDS[min(deaths, 4) - 1]))

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
    if code is not None and code < 0:
        hint = " (killed, perhaps for lack of memory)" if code == -9 else ""
        return f"by signal {-code}{hint}"
    return f"with exit code {code}"
