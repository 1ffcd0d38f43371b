"""The language server's side of the worker: starts or joins it, sends it requests, and restarts it when it dies.

All methods belong to one event loop. None blocks it, and a dead worker raises only `WorkerError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Literal

import attrs
from attrs import frozen

from codegen_lsp import python_path
from codegen_lsp.errors import CodegenError, ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client import shared_worker
from codegen_lsp.inference.client.launch import start_private_worker
from codegen_lsp.inference.client.restarts import Restarts
from codegen_lsp.inference.client.worker_connection import WorkerConnection
from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.endpoint import Endpoint, NoSocketsError, SharingError
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    ModelDescription,
    OriginParams,
    OriginResult,
    Rates,
    ScoreParams,
    ScoreResult,
    StreamedText,
    WarmParams,
)
from codegen_lsp.inference.rpc.token_messages import (
    DetokenizedText,
    DetokenizeParams,
    TokenizedText,
    TokenizeParams,
)

logger = logging.getLogger(__name__)

Phase = Literal["stopped", "starting", "loading", "ready", "busy", "failed"]

JOIN_ATTEMPTS, JOIN_INTERVAL = 5, 0.05
"""Attempts to join a shared worker, and seconds between them: it may be exiting because its last client left."""


class _DiedAtStartError(WorkerError):
    """A worker exited as soon as it was started. A restart is scheduled."""


@frozen
class WorkerState:
    """State of the worker."""

    phase: Phase
    message: str = ""
    advice: str = ""
    model: ModelDescription | None = None
    pid: int | None = None


class InferenceClient:
    """Starts, supervises and calls one worker.

    `on_state` is called at each change of `state`, `on_progress` while a model loads.
    """

    def __init__(
        self,
        *,
        on_state: Callable[[WorkerState], None] | None = None,
        on_progress: Callable[[LoadProgress], None] | None = None,
        unattended: bool = False,
    ) -> None:
        """With `unattended`, a worker that can't be started or dies again and again is tried for ever, less often."""
        self.state = WorkerState("stopped")
        self._on_state = on_state or (lambda _: None)
        self._on_progress = on_progress or (lambda _: None)
        self._connection: WorkerConnection | None = None
        self._load: LoadParams | None = None
        self._lock = asyncio.Lock()
        self._restarts = Restarts(unattended)
        self._restarting: asyncio.Task[None] | None = None
        self._restart_at: float | None = None
        self._open_requests = 0
        self._stream_numbers = itertools.count(1)
        self._closed = False

    async def load(self, params: LoadParams) -> ModelDescription:
        """Load a build, starting the worker if necessary. A restarted worker loads it again.

        Raises ModelError when the build can't be loaded, WorkerError when the worker can't be run.
        """
        self._load = params
        async with self._lock:
            if self._closed:
                raise WorkerError("The inference worker was closed.")
            return await self._start_and_load(params)

    async def stream(self, params: GenerateParams, on_text: Callable[[StreamedText], None]) -> GenerateResult:
        """Continue a text as `generate` does; `on_text` gets its parts as they are generated.

        Of the candidates of a request with `distinct` False, the result has those with the numbers of the parts.
        """
        connection, key = self._ready(), f"{next(self._stream_numbers)}"
        connection.streams[key] = on_text
        try:
            return await self.generate(attrs.evolve(params, stream=key))
        finally:
            del connection.streams[key]

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """Continue a text. Cancelling the awaiting task ends the generation within one token.

        Raises WorkerError when no worker is ready or it dies meanwhile (it is restarted automatically), SupersededError
        when a newer request for the same document arrives or, for a background request, any other request, ModelError
        when the model fails.
        """
        connection = self._ready()
        if params.background:
            return await connection.call(rpc.GENERATE, params, GenerateResult)
        self._open_requests += 1
        self._show_load()
        try:
            return await connection.call(rpc.GENERATE, params, GenerateResult)
        finally:
            self._open_requests -= 1
            self._show_load()

    async def warm(self, params: WarmParams) -> None:
        """Prefill the KV cache with a text in the background. Does nothing when no worker is ready."""
        if self.state.phase not in ("ready", "busy"):
            return
        with contextlib.suppress(WorkerError, SupersededError):
            await self._ready().call(rpc.WARM, params, int)

    async def score(self, params: ScoreParams) -> ScoreResult:
        """Return the log-likelihood of texts.

        Raises the errors of `generate`. Cancelling the awaiting task ends the work within a layer of the model or, with
        an engine that can't be interrupted, after the text that is being read.
        """
        return await self._ready().call(rpc.SCORE, params, ScoreResult)

    async def measure(self) -> Rates:
        """Measure the speed of the loaded model. Raises WorkerError and ModelError."""
        return await self._ready().call(rpc.MEASURE, None, Rates)

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """Return which files of a workspace the worker has indexed. Raises WorkerError and ModelError."""
        return await self._ready().call(rpc.INDEX_STATE, params, IndexState)

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """Send files of a workspace, to be indexed in the background. Raises WorkerError and ModelError."""
        return await self._ready().call(rpc.INDEX_UPDATE, params, IndexState)

    async def origin(self, params: OriginParams) -> OriginResult:
        """Return where a suggestion comes from. Raises WorkerError and ModelError."""
        return await self._ready().call(rpc.ORIGIN, params, OriginResult)

    async def tokenize(self, params: TokenizeParams) -> TokenizedText:
        """Return the tokens of a text. Raises WorkerError."""
        return await self._ready().call(rpc.TOKENIZE, params, TokenizedText)

    async def detokenize(self, params: DetokenizeParams) -> DetokenizedText:
        """Return the text of tokens. Raises WorkerError."""
        return await self._ready().call(rpc.DETOKENIZE, params, DetokenizedText)

    async def attribute(self, params: AttributionParams) -> AttributionResult:
        """Return the probability and the sources of each token of a suggestion, in the background.

        Raises WorkerError and ModelError, and SupersededError when any other request arrives.
        """
        return await self._ready().call(rpc.ATTRIBUTE, params, AttributionResult)

    async def restart(self) -> None:
        """Start a new worker with the same model, in whatever state the old one is. Raises WorkerError, ModelError.

        Other servers keep the old worker.
        """
        async with self._lock:
            self._restarts = Restarts(self._restarts.unattended)
            connection = self._connection
            if connection is not None and connection.endpoint is not None:
                with contextlib.suppress(SharingError):
                    await shared_worker.retire(connection.endpoint, connection.socket_inode)
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
    def restart_seconds(self) -> float | None:
        """Seconds until the worker is started again; None if that is not planned or has begun."""
        at = self._restart_at
        return None if at is None else max(0.0, at - asyncio.get_running_loop().time())

    @property
    def stderr(self) -> list[str]:
        """The last lines that the worker wrote to its standard error."""
        if self._connection is None:
            return []
        self._connection.worker.read_stderr()
        return list(self._connection.worker.stderr_tail)

    async def _start_and_load(self, params: LoadParams) -> ModelDescription:
        connection, self._restart_at = self._connection, None
        if params.shared:
            params = shared_worker.resolved(params)
        if connection is None or connection.ended.is_set() or not connection.can_load(params):
            connection = await self._start(params)
        pid = connection.worker.pid
        self._set(WorkerState("loading", f"Loading {params.build}.", pid=pid))
        try:
            model = await connection.call(rpc.LOAD, params, ModelDescription)
        except ModelError as error:
            self._note_failed_start(error, pid)
            raise
        except WorkerError:
            await connection.settle()
            if connection.ended.is_set() and connection is self._connection and not self._closed:
                raise WorkerError(self.state.message, self.state.advice) from None  # with the cause of its end
            raise
        self._restarts.ready()
        self._set(WorkerState("ready", f"{model.name} is ready.", model=model, pid=pid))
        return model

    async def _start(self, params: LoadParams) -> WorkerConnection:
        """Replace the connection by a new one. Raises WorkerError."""
        await self._end_connection()
        self._set(WorkerState("starting", "Starting the inference worker."))
        try:
            connection = await self._open(params)
        except _DiedAtStartError:
            raise
        except WorkerError as error:
            self._note_failed_start(error)
            raise
        if self._closed:
            await connection.end()
            raise WorkerError("The inference worker was closed.")
        connection.may_be_shared = params.shared
        self._connection = connection
        return connection

    async def _open(self, params: LoadParams) -> WorkerConnection:
        """Connect to a shared worker if the parameters and the system allow it, else start a private one."""
        if params.shared:
            try:
                return await self._join(shared_worker.endpoint_for(params))
            except NoSocketsError:
                pass
            except SharingError as error:
                logger.warning("This server has a worker of its own. %s", error)
        return WorkerConnection(await start_private_worker(), self._on_progress, self._on_worker_end)

    async def _join(self, endpoint: Endpoint) -> WorkerConnection:
        """Connect to a shared worker. Raises SharingError, and WorkerError when a worker started here dies at once."""
        for _ in range(JOIN_ATTEMPTS):
            worker = await shared_worker.join_or_start(endpoint)
            inode = shared_worker.inode_of(endpoint)
            connection = WorkerConnection(worker, self._on_progress, self._on_worker_end)
            try:
                await connection.shake_hands(endpoint)
            except WorkerError:
                if not worker.is_child:  # it was exiting
                    await asyncio.sleep(JOIN_INTERVAL)
                    continue
                await connection.end()
                raise _DiedAtStartError(self._note_death(connection)) from None
            except SharingError:
                await connection.end()
                if not connection.hung or worker.is_child:
                    raise
                # Its servers end it, if it has any. This one, and later ones, start another.
                logger.warning("The worker at %s does not answer; another one is started", endpoint.socket)
                await shared_worker.retire(endpoint, inode)
                continue
            except BaseException:
                await connection.end()
                raise
            return connection
        raise SharingError(f"The worker at {endpoint.socket} ends again and again.")

    async def _end_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.end()

    def _ready(self) -> WorkerConnection:
        if self._connection is None or self.state.phase not in ("ready", "busy"):
            raise WorkerError(self.state.message or "No model is loaded.", self.state.advice, self.restart_seconds)
        return self._connection

    def _on_worker_end(self, connection: WorkerConnection) -> None:
        if not connection.expected_to_end and not self._closed and connection is self._connection:
            self._note_death(connection)

    def _note_death(self, connection: WorkerConnection) -> str:
        """Schedule a restart, unless the worker died too often; return a message with the cause."""
        cause = f"The inference worker ended{_exit_text(connection.exit_code)}."
        if connection.hung:
            cause = "The inference worker no longer answered and was ended."
        lines = connection.worker.stderr_tail
        last = next((line for line in reversed(lines) if line.strip()), "")
        logger.error("%s Its last output: %s", cause, "\n".join(lines) or "none")
        message = f"{cause} {last}".strip()
        hint = python_path.hint(lines)
        delay = self._restarts.failed()
        if delay is None:
            advice = "It died too often to be started again by itself: see the log, then restart the worker."
            self._set(WorkerState("failed", message, hint or advice))
            return message
        self._set(WorkerState("starting", message, hint or _restart_text(delay)))
        self._plan_restart(delay)
        return message

    def _note_failed_start(self, error: CodegenError, pid: int | None = None) -> None:
        """Show that the worker could not be started or can't load the model; try again if nobody else would."""
        advice = error.advice
        if self._restarts.unattended and not self._closed and (delay := self._restarts.failed()) is not None:
            advice = f"{advice} {_restart_text(delay)}".strip()
            self._plan_restart(delay)
        self._set(WorkerState("failed", error.message, advice, pid=pid))

    def _plan_restart(self, seconds: float) -> None:
        self._restart_at = asyncio.get_running_loop().time() + seconds
        self._restarting = asyncio.ensure_future(self._restart_after(seconds))

    async def _restart_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._lock:
            if self._load is None or self._closed:
                return
            try:
                await self._start_and_load(self._load)
            except CodegenError:
                pass  # shown by the state
            except Exception:
                logger.exception("The inference worker could not be restarted")
                error = WorkerError("The inference worker could not be restarted.", "See the log.")
                if not self._restarts.unattended:
                    error.advice = "See the log, then restart the worker."
                self._note_failed_start(error)

    def _show_load(self) -> None:
        if self.state.phase in ("ready", "busy"):
            self._set(attrs.evolve(self.state, phase="busy" if self._open_requests else "ready"))

    def _set(self, state: WorkerState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


def _restart_text(seconds: float) -> str:
    return "It is being restarted." if seconds < 10 else f"It is started again in {seconds:.0f} s."


def _exit_text(code: int | None) -> str:
    if code is None:  # started by another server
        return ""
    if code < 0:
        hint = " (killed, perhaps for lack of memory)" if code == -9 else ""
        return f" by signal {-code}{hint}"
    return f" with exit code {code}"
