"""A model on another server, with the local model in its place whenever that server is away or late.

Both are kept: the local one is loaded as without a server, so it can answer at once. A request goes to the server
first. When its answer is late (`answer_times`), the local model is asked as well, and the first answer counts ("hedged
requests", Dean and Barroso, The Tail at Scale, 2013). When that is the local one, the server counts as away until a
probe of it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs

from codegen_lsp.errors import CodegenError, ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.client.remote_client import RemoteClient
from codegen_lsp.inference.client.remote_server import RemoteServer
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
    ScoreParams,
    ScoreResult,
    WarmParams,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOCAL_TIMEOUT = 10.0
"""Seconds that a request waits for the local model while that is loaded."""


class LocalClient(Protocol):
    """The part of `InferenceClient` that is needed of the local model."""

    async def load(self, params: LoadParams) -> ModelDescription:
        """See `InferenceClient.load`."""
        ...

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `InferenceClient.generate`."""
        ...

    async def warm(self, params: WarmParams) -> None:
        """See `InferenceClient.warm`."""
        ...

    async def score(self, params: ScoreParams) -> ScoreResult:
        """See `InferenceClient.score`."""
        ...

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """See `InferenceClient.index_state`."""
        ...

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """See `InferenceClient.update_index`."""
        ...

    async def origin(self, params: OriginParams) -> OriginResult:
        """See `InferenceClient.origin`."""
        ...

    async def restart(self) -> None:
        """See `InferenceClient.restart`."""
        ...

    async def close(self) -> None:
        """See `InferenceClient.close`."""
        ...


class MakeLocalClient(Protocol):
    """Makes the client of the local model. The class `InferenceClient` is one."""

    def __call__(
        self, *, on_state: Callable[[WorkerState], None], on_progress: Callable[[LoadProgress], None]
    ) -> LocalClient:
        """Return a client that reports its states and the progress of loads."""
        ...


class FallbackClient:
    """The model of a server, or the local one. All methods belong to one event loop.

    `on_state` is called at each change of `state`, which is that of the model that answers.
    """

    def __init__(
        self,
        server: RemoteServer,
        make_local: MakeLocalClient,
        *,
        on_state: Callable[[WorkerState], None],
        on_progress: Callable[[LoadProgress], None],
        make_remote: Callable[..., RemoteClient] = RemoteClient,
    ) -> None:
        self.state = WorkerState("stopped")
        self._on_state = on_state
        self._local_state = WorkerState("stopped")
        self._local_settled = asyncio.Event()
        """Set unless the local model is starting or loading."""
        self._local_settled.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.remote = make_remote(server, on_state=lambda _: self._update())
        self.local = make_local(on_state=self._local_changed, on_progress=on_progress)

    async def load(self, params: LoadParams) -> ModelDescription:
        """Load the local model, and connect to the server. Returns the description of the local model.

        If that can't be loaded, returns the server's. Raises ModelError or WorkerError when there is neither.
        """
        connecting = None if self.remote.ready else self._start(self.remote.load())
        try:
            return await self.local.load(params)
        except CodegenError:
            if connecting is not None:
                await asyncio.wait({connecting})
            if self.remote.ready and self.remote.state.model is not None:
                return self.remote.state.model
            raise
        finally:
            self._update()

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """Continue a text. Cancelling the awaiting task ends the generations within one token.

        Raises SupersededError, WorkerError and ModelError as `InferenceClient.generate` does.
        """
        if not self.remote.ready:
            return await self._ask_local(params)
        if params.background:  # nobody waits: if it fails, a request that somebody waits for asks again
            return await self.remote.generate(params)
        started = asyncio.get_running_loop().time()
        asked = self._start(self.remote.generate(params))
        try:
            await asyncio.wait({asked}, timeout=self.remote.patience(params))
            if not asked.done():
                return await self._first_of(asked, params, started)
            return asked.result()
        except SupersededError:
            raise
        except (WorkerError, ModelError) as error:
            logger.info("The local model answers: %s", error)
            return await self._ask_local(params)
        finally:
            asked.cancel()

    async def warm(self, params: WarmParams) -> None:
        """Prefill the KV caches of both models in the background, since either may answer next."""
        await asyncio.gather(self.remote.warm(params), self.local.warm(params))

    async def score(self, params: ScoreParams) -> ScoreResult:
        """Return the log-likelihood of texts. Raises the errors of `generate`."""
        if self.remote.ready:
            try:
                return await self.remote.score(params)
            except (WorkerError, ModelError) as error:
                logger.info("The local model answers: %s", error)
        return await self.local.score(params)

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """Return the state of the local model's index of a workspace. Raises WorkerError and ModelError."""
        return await self.local.index_state(params)

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """Send files of a workspace to the local model's index, nowhere else. Raises WorkerError and ModelError."""
        return await self.local.update_index(params)

    async def origin(self, params: OriginParams) -> OriginResult:
        """Return where a suggestion comes from, by the local index. Raises WorkerError and ModelError."""
        return await self.local.origin(params)

    async def restart(self) -> None:
        """Connect to the server anew, and start a new local worker. Raises WorkerError and ModelError."""
        self._start(self.remote.restart())
        await self.local.restart()

    async def close(self) -> None:
        """End both for good."""
        for task in list(self._tasks):
            task.cancel()
        await self.remote.close()
        await self.local.close()

    async def _first_of(
        self, asked: asyncio.Task[GenerateResult], params: GenerateParams, started: float
    ) -> GenerateResult:
        """Ask the local model, too, and return the first answer. Raises what the last one to fail raises.

        `started` is the time at which the server was asked.
        """
        hedge = self._start(self._ask_local(params))
        try:
            await asyncio.wait({asked, hedge}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and asked.exception() is None:
                return asked.result()
            if hedge.done() and hedge.exception() is not None:
                return await asked
            result = await hedge
            waited = asyncio.get_running_loop().time() - started
            if not asked.done() and waited > self.remote.limit(params):
                self.remote.was_late(params, waited)
            return result
        finally:
            hedge.cancel()

    async def _ask_local(self, params: GenerateParams) -> GenerateResult:
        """Have the local model answer, after waiting while it is loaded. Raises the errors of `generate`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOCAL_TIMEOUT):
                await self._local_settled.wait()
        return await self.local.generate(params)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return a task whose exception is retrieved, so that asyncio does not log one that nothing waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()

    def _local_changed(self, state: WorkerState) -> None:
        self._local_state = state
        if state.phase in ("starting", "loading"):
            self._local_settled.clear()
        else:
            self._local_settled.set()
        self._update()

    def _update(self) -> None:
        """Report the state of the model that answers, and why it is that one."""
        state = self._combined()
        if state != self.state:
            self.state = state
            self._on_state(state)

    def _combined(self) -> WorkerState:
        remote, local = self.remote.state, self._local_state
        if self.remote.ready:
            busy = "busy" in (remote.phase, local.phase)
            return attrs.evolve(remote, phase="busy" if busy else "ready", pid=local.pid)
        if remote.phase == "stopped" or local.phase == "stopped":
            return local
        if local.phase in ("ready", "busy") and local.model is not None:
            name, reason = local.model.name, remote.message[:1].lower() + remote.message[1:]
            message = f"Using the local model {name}, because {reason}"
            if remote.phase == "starting":
                message = f"Using the local model {name}. {remote.message}"
            return attrs.evolve(local, message=message, advice=remote.advice)
        if local.phase == "failed":
            if remote.phase == "starting":
                return attrs.evolve(remote, pid=local.pid)
            return attrs.evolve(local, message=f"{remote.message} {local.message}")
        return local
