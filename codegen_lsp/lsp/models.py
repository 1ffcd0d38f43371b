"""Which model runs, and what the editor is told about it.

The inference client keeps one worker alive; `Models` decides which build it loads and when, and translates its states
for the user. One load at a time: settings arrive in bursts, and only the last of them counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from codegen_lsp.checkpoints.store import BuildVersion, version_of
from codegen_lsp.errors import CodegenError, ModelError, SettingsError, WorkerError
from codegen_lsp.inference.client.client import Phase, WorkerState
from codegen_lsp.inference.client.remote_server import RemoteServer
from codegen_lsp.inference.rpc.messages import LoadParams, LoadProgress, ModelDescription, ScoreParams, ScoreResult
from codegen_lsp.lsp.extensions import State, Status
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.lsp.remote import UnconfirmedServerError, wanted_server
from codegen_lsp.lsp.status import StatusLine
from codegen_lsp.settings import RemoteSettings, Settings
from codegen_lsp.suggest.options import load_params
from codegen_lsp.suggest.request import CompletionModel, ModelHandle

logger = logging.getLogger(__name__)

MODEL_TIMEOUT = 10.0
"""Seconds that a request waits for a model that is loading."""
_CLOSE_TIMEOUT = 5.0
_STATES: dict[Phase, State] = {
    "starting": "starting",
    "loading": "loading",
    "ready": "ready",
    "busy": "busy",
    "failed": "error",
}


class ModelClient(CompletionModel, Protocol):
    """The part of `InferenceClient` that the server needs."""

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
    ) -> ModelClient:
        """Return a client that reports its states and the progress of loads."""
        ...


FindBuild = Callable[[str], Path]
"""From the setting `model` to the folder of a build. Raises: ModelError."""


class Models:
    """The model of one connection.

    `settings` returns those in force, `wanted` the name of the model that is to run; `start_progress` begins a progress
    with a title, and `on_change` is called when another model is about to answer.
    """

    def __init__(
        self,
        make_client: ClientFactory,
        find_build: FindBuild,
        *,
        settings: Callable[[], Settings],
        wanted: Callable[[], str],
        status: StatusLine,
        start_progress: Callable[[str], WorkProgress],
        on_change: Callable[[], None],
    ) -> None:
        self._make_client = make_client
        self._find_build = find_build
        self._settings = settings
        self._wanted = wanted
        self._status = status
        self._start_progress = start_progress
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._loaded: LoadParams | None = None
        self._version: BuildVersion | None = None
        """Version of the build that was loaded."""
        self._remote: RemoteServer | None = None
        self._remote_problem = ""
        """Why the server of the settings is not used, as sentences."""
        self.unconfirmed: RemoteSettings | None = None
        """Settings of a server that is not used because the user has not confirmed it."""
        self._chosen: str | None = None
        """A model chosen by command, which takes precedence over the setting."""
        self._progress: WorkProgress | None = None
        self._settled = asyncio.Event()
        """Set unless a model is starting or loading."""
        self._closed = False
        self.client = self._new_client()

    @property
    def current(self) -> ModelHandle:
        """The model as it is now."""
        return ModelHandle(self.client, self._status.current.model)

    async def apply(self) -> None:
        """Load the model that the settings name. Errors become the status."""
        async with self._lock:
            await self._choose_server()
            if not self._settings().enabled:
                await self._stop()
                self._show(Status("disabled", "Suggestions are turned off in the settings."))
                return
            try:
                build = self._wanted_build()
            except CodegenError as error:
                await self._stop()
                self._show(Status("error", error.message, error.advice))
                return
            with contextlib.suppress(CodegenError):
                await self._load(build)

    async def switch(self, name: str) -> ModelDescription:
        """Load another model in place of that of the settings.

        Raises: ModelError and WorkerError; the model before is loaded again then.
        """
        if not self._settings().enabled:
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
        """Drop a choice made by command, because the setting was changed since."""
        self._chosen = None

    async def follow_store(self) -> str:
        """Follow a change of the installed models; return what the user should be told, empty if nothing.

        A build that was replaced, as by `adapt --refresh`, is loaded again. In place of one that was removed, that of
        the settings is loaded.
        """
        before, described = self._loaded, self._status.current.model
        version = None if before is None else version_of(Path(before.build))
        same = version == self._version
        await self.apply()
        if same or described is None:
            return ""
        if version is not None:
            logger.info("%s was replaced in the store and is loaded again", described.name)
            return ""
        now = self._status.current.model
        return f"{described.name} was removed." + (f" {now.name} is used in its place." if now else "")

    async def restart(self) -> None:
        """Start a new worker. Raises: ModelError and WorkerError."""
        client, loaded = self.client, self._loaded
        if loaded is None or self._remote_problem:  # the problem may be solved by now
            await self.apply()
        if loaded is not None and self.client is client:
            await client.restart()

    async def wait(self) -> ModelHandle | None:
        """Wait while a model loads, and return the model as it is then; None after `MODEL_TIMEOUT` seconds."""
        try:
            async with asyncio.timeout(MODEL_TIMEOUT):
                await self._settled.wait()
        except TimeoutError:
            return None
        return self.current

    async def close(self) -> None:
        """End the worker for good."""
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.client.close()
        except Exception:
            # In any case the worker ends by itself when its input does.
            logger.exception("The worker was not ended in order")

    async def _choose_server(self) -> None:
        """Replace the client if the settings name another server to run the model, or none any longer."""
        server, self._remote_problem, self.unconfirmed = None, "", None
        try:
            server = wanted_server(self._settings().remote)
        except CodegenError as error:
            reason = error.message[:1].lower() + error.message[1:]
            self._remote_problem = f"Using the local model, because {reason} {error.advice}".strip()
            if isinstance(error, UnconfirmedServerError):
                self.unconfirmed = self._settings().remote
        if server != self._remote:
            self._remote = server
            await self._replace_client()

    async def _load(self, build: Path) -> ModelDescription:
        if self._closed:
            raise WorkerError("The server is being shut down.")
        params, version = load_params(self._settings(), build), version_of(build)
        current = self._status.current
        if params == self._loaded and version == self._version and current.model is not None:
            return current.model
        if params == self._loaded and version != self._version:
            await self._replace_client()  # a worker that has loaded a path does not load it again
        self._on_change()
        self._loaded, self._version = params, version
        try:
            return await self.client.load(params)
        except CodegenError as error:
            # The client starts a worker that died again, and reports that itself.
            if self._status.current.state not in ("error", "starting"):
                self._show(Status("error", error.message, error.advice))
            raise

    def _wanted_build(self) -> Path:
        """Return the build of the model chosen by command or, where that was removed, of the settings."""
        if self._chosen is not None:
            try:
                return self._find_build(self._chosen)
            except ModelError as error:
                logger.warning("The model of the settings is loaded: %s", error)
                self._chosen = None
        return self._find_build(self._wanted())

    async def _stop(self) -> None:
        if self._loaded is not None:
            await self._replace_client()

    async def _replace_client(self) -> None:
        self._loaded = None
        client, self.client = self.client, self._new_client()
        self._on_change()
        await client.close()

    def _new_client(self) -> ModelClient:
        """Return a client whose reports count as long as it is the one in use."""

        def on_state(state: WorkerState) -> None:
            if self.client is client:
                self._on_state(state)

        def on_progress(progress: LoadProgress) -> None:
            if self.client is client and self._progress is not None:
                self._progress.report(progress.message, progress.fraction)

        client: ModelClient
        if self._remote is None:
            client = self._make_client(on_state=on_state, on_progress=on_progress)
        else:
            # Not at the top: most sessions need no HTTP.
            from codegen_lsp.inference.client.fallback_client import FallbackClient

            client = FallbackClient(self._remote, self._make_client, on_state=on_state, on_progress=on_progress)
        return client

    def _on_state(self, state: WorkerState) -> None:
        if state.phase == "stopped":
            return
        if state.phase == "loading" and self._progress is None:
            self._progress = self._start_progress("Loading the code model")
        elif state.phase != "loading" and self._progress is not None:
            self._progress.end(state.message)
            self._progress = None
        message = f"{state.message} {self._remote_problem}".strip() if state.model else state.message
        self._show(Status(_STATES[state.phase], message, state.advice, state.model, state.pid))

    def _show(self, status: Status) -> None:
        if status.state in ("starting", "loading"):
            self._settled.clear()
        else:
            self._settled.set()
        self._status.show(status)


def find_build(name: str) -> Path:
    """Return the folder of an installed model. Raises: ModelError."""
    from codegen_lsp.checkpoints.store import find

    return find(name).path


def find_installed_build(name: str) -> Path:
    """Return the folder of a model in the store or of a bundled one, never another folder. Raises: ModelError."""
    from codegen_lsp.checkpoints.store import bundled_directory, find, store_directory

    build = find(name).path
    if build.parent not in (store_directory(), bundled_directory()):
        raise ModelError(
            "A client that connects to a socket can't choose a folder as its model.",
            "Name an installed one; see `codegen-lsp models list`.",
        )
    return build
