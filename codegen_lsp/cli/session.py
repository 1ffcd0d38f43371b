"""A worker with a model, for one command of the command line.

It may be the one that an editor's windows use, so that `complete` need not load what is loaded already. What measures
must not: `alone`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import evolve, frozen

from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import LoadProgress, ModelDescription
from codegen_lsp.settings import Settings, WorkerSettings
from codegen_lsp.suggest.options import load_params
from codegen_lsp.suggest.service import Completer, Outcome, options_for


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
        options = options_for(self.settings, snapshot.language, self.model)
        return await Completer().suggest(snapshot, options, self.client)

    async def read_ahead(self, snapshot: Snapshot) -> float:
        """Let the model read the text up to the cursor, as an editor does when a file is opened; gives the seconds."""
        started = time.perf_counter()
        await Completer().warm(snapshot, options_for(self.settings, snapshot.language, self.model), self.client)
        return time.perf_counter() - started


@asynccontextmanager
async def open_session(
    build: InstalledBuild, settings: Settings, on_progress: Callable[[LoadProgress], None] | None = None
) -> AsyncIterator[Session]:
    """Start a worker with this build, or join one; left at the end of the block. Raises ModelError and WorkerError."""
    client = InferenceClient(on_progress=on_progress)
    started = time.perf_counter()
    try:
        model = await client.load(load_params(settings, build.path))
        yield Session(client, model, settings, time.perf_counter() - started)
    finally:
        await client.close()


def alone(settings: Settings) -> Settings:
    """The same with a worker of one's own, as times and memory are measured."""
    return evolve(settings, worker=WorkerSettings(shared=False))
