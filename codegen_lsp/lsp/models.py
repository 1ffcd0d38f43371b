"""Which model runs, and what the editor is told about it.

The client keeps one worker alive; here is decided which build it loads, when, and what its states mean to a user. One
load at a time: settings arrive in bursts, and only the last of them counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codegen_lsp.errors import CodegenError, SettingsError, WorkerError
from codegen_lsp.inference.client.client import Phase, WorkerState
from codegen_lsp.inference.rpc.messages import LoadParams, LoadProgress, ModelDescription, ScoreParams, ScoreResult
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.lsp.status import State, Status
from codegen_lsp.suggest.options import load_params
from codegen_lsp.suggest.service import Model

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

_STATES: dict[Phase, State] = {
    "starting": "starting",
    "loading": "loading",
    "ready": "ready",
    "busy": "busy",
    "failed": "error",
}
_CLOSING_SECONDS = 5.0


class Client(Model, Protocol):
    """What is needed of an inference client. `InferenceClient` is one."""

    async def load(self, params: LoadParams) -> ModelDescription:
        """See `InferenceClient.load`."""
        ...

    async def score(self, params: ScoreParams) -> ScoreResult:
        """See `InferenceClient.score`."""
        ...

    async def restart(self) -> None:
        """See `InferenceClient.restart`."""
        ...

    async def close(self) -> None:
        """See `InferenceClient.close`."""
        ...


class ClientFactory(Protocol):
    """Makes an inference client. The class `InferenceClient` is one."""

    def __call__(
        self, *, on_state: Callable[[WorkerState], None], on_progress: Callable[[LoadProgress], None]
    ) -> Client:
        """A client that reports its states and the progress of loads."""
        ...


FindBuild = Callable[[str], Path]
"""From what the setting `model` says to the folder of a build. Raises ModelError."""


class Models:
    """The model of one server."""

    def __init__(self, server: CodegenServer, make_client: ClientFactory, find_build: FindBuild) -> None:
        self._server = server
        self._make_client = make_client
        self._find_build = find_build
        self._lock = asyncio.Lock()
        self._loaded: LoadParams | None = None
        self._chosen: str | None = None
        """A model chosen by command, which goes before the setting."""
        self._progress: WorkProgress | None = None
        self._settled = asyncio.Event()
        """Set unless a model is about to be ready."""
        self._closed = False
        self.client = self._new_client()

    async def apply(self) -> None:
        """Bring what runs in line with the settings. What goes wrong becomes the status."""
        async with self._lock:
            if not self._server.settings.enabled:
                await self._stop()
                self._show(Status("disabled", "Suggestions are turned off in the settings."))
                return
            try:
                build = self._find_build(self._chosen or self._server.settings.model)
            except CodegenError as error:
                await self._stop()
                self._show(Status("error", error.message, error.advice))
                return
            with contextlib.suppress(CodegenError):
                await self._load(build)

    async def switch(self, name: str) -> ModelDescription:
        """Run this model from now on. Raises ModelError and WorkerError; then what ran before runs on."""
        if not self._server.settings.enabled:
            raise SettingsError("Suggestions are turned off.", "Turn the setting `enabled` on first.")
        build = self._find_build(name)
        try:
            async with self._lock:
                description = await self._load(build)
        except CodegenError:
            await self.apply()
            raise
        self._chosen = name
        return description

    def follow_settings(self) -> None:
        """Drop a choice made by command: the setting was changed since."""
        self._chosen = None

    async def restart(self) -> None:
        """Start a new worker. Raises ModelError and WorkerError."""
        if self._loaded is None:
            await self.apply()
        else:
            await self.client.restart()

    async def wait(self, seconds: float) -> bool:
        """Wait while a model loads. False when it still does after this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End the worker for good."""
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self.client.close()
        except Exception:
            # Whatever went wrong: the worker ends by itself when its input does.
            logger.exception("The worker was not ended in order")

    async def _load(self, build: Path) -> ModelDescription:
        if self._closed:
            raise WorkerError("The server is being shut down.")
        params = load_params(self._server.settings, build)
        current = self._server.status.current
        if params == self._loaded and current.model is not None:
            return current.model
        self._server.completer.forget()
        self._loaded = params
        try:
            return await self.client.load(params)
        except CodegenError as error:
            # A worker that dies is started again by the client, whose state says so.
            if self._server.status.current.state not in ("error", "starting"):
                self._show(Status("error", error.message, error.advice))
            raise

    async def _stop(self) -> None:
        if self._loaded is None:
            return
        self._loaded = None
        client, self.client = self.client, self._new_client()
        self._server.completer.forget()
        await client.close()

    def _new_client(self) -> Client:
        """A client whose reports count as long as it is the one in use."""

        def on_state(state: WorkerState) -> None:
            if self.client is client:
                self._on_state(state)

        def on_progress(progress: LoadProgress) -> None:
            if self.client is client and self._progress is not None:
                self._progress.report(progress)

        client = self._make_client(on_state=on_state, on_progress=on_progress)
        return client

    def _on_state(self, state: WorkerState) -> None:
        if state.phase == "stopped":
            return
        if state.phase == "loading" and self._progress is None:
            self._progress = WorkProgress(self._server, "Loading the code model")
        elif state.phase != "loading" and self._progress is not None:
            self._progress.end(state.message)
            self._progress = None
        self._show(Status(_STATES[state.phase], state.message, state.advice, state.model, state.pid))

    def _show(self, status: Status) -> None:
        if status.state in ("starting", "loading"):
            self._settled.clear()
        else:
            self._settled.set()
        self._server.status.show(status)
