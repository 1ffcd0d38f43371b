"""A worker with a model, for one command of the command line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import frozen

from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.editor.completer import Completer, Outcome, options_for
from codegen_lsp.inference.client import InferenceClient
from codegen_lsp.inference.messages import LoadProgress, ModelDescription
from codegen_lsp.settings import Settings, load_params


@frozen
class Session:
    """A loaded model."""

    client: InferenceClient
    model: ModelDescription
    settings: Settings
    start_seconds: float
    """From nothing to the model being ready, the start of the worker process included."""

    async def complete(self, snapshot: Snapshot) -> Outcome:
        """What an editor would show at this cursor."""
        settings = self.settings
        return await Completer().suggest(
            snapshot, options_for(settings, snapshot.language, self.model), self.client, top_p=settings.top_p
        )


@asynccontextmanager
async def open_session(
    build: InstalledBuild, settings: Settings, on_progress: Callable[[LoadProgress], None] | None = None
) -> AsyncIterator[Session]:
    """Start a worker with this build; it ends with the block. Raises ModelError and WorkerError."""
    client = InferenceClient(on_progress=on_progress)
    started = time.perf_counter()
    try:
        model = await client.load(load_params(settings, build.path))
        yield Session(client, model, settings, time.perf_counter() - started)
    finally:
        await client.close()
