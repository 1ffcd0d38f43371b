"""A worker with a loaded model, for one command.

The worker may be the one that the editor's windows share, so that `complete` does not load a model twice. Commands that
measure take a private one (`private_worker`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import evolve, frozen

from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.attribution import TokenAttribution
from codegen_lsp.inference.rpc.messages import IndexStateParams, ModelDescription
from codegen_lsp.settings import Settings, WorkerSettings
from codegen_lsp.suggest.options import load_params, options_for
from codegen_lsp.suggest.origins import SuggestionOrigin, find_origin
from codegen_lsp.suggest.request import SuggestionResult
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.suggest.workspace_indexing import RefreshRequest, WorkspaceIndexer
from codegen_lsp.trace.tracing import RecordingModel, Trace, attribute, text_of, trace
from codegen_lsp.workspace.files import FileAccess

POLL_SECONDS = 0.05


@frozen
class ModelSession:
    """A loaded model."""

    client: InferenceClient
    model: ModelDescription
    settings: Settings
    start_seconds: float
    """Time until the model was ready, the start of the worker process included."""

    async def complete(self, snapshot: Snapshot, indexer: WorkspaceIndexer | None = None) -> SuggestionResult:
        """Return the suggestions that an editor would show at this cursor."""
        return (await self.complete_recorded(snapshot, indexer))[0]

    async def complete_recorded(
        self, snapshot: Snapshot, indexer: WorkspaceIndexer | None = None
    ) -> tuple[SuggestionResult, RecordingModel]:
        """Return the suggestions that an editor would show at this cursor, and the request to the model."""
        options, recorded = options_for(self.settings, snapshot.language, self.model), RecordingModel(self.client)
        return await SuggestionService(indexer=indexer).complete(snapshot, options, recorded), recorded

    async def index(self, snapshot: Snapshot, access: FileAccess, indexer: WorkspaceIndexer) -> None:
        """Index the workspace of a document, and wait until that is done. Nothing is kept on disk.

        Raises: WorkerError and ModelError.
        """
        request = RefreshRequest(
            snapshot.uri,
            snapshot.language,
            access,
            self.client,
            busy=lambda: False,
            max_tokens=self.settings.index.max_tokens,
            kept=False,
        )
        await indexer.refresh(request)
        if (workspace := indexer.workspace_of(snapshot.uri)) is not None:
            state = IndexStateParams(workspace.key, kept=False)
            while (await self.client.index_state(state)).pending:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(POLL_SECONDS)

    async def trace(self, snapshot: Snapshot, indexer: WorkspaceIndexer) -> Trace:
        """Trace the suggestion that an editor would show at this cursor. Raises what `tracing.trace` raises."""
        options = options_for(self.settings, snapshot.language, self.model)
        return await trace(snapshot, options, self.client, self.model, indexer)

    async def origins(
        self, snapshot: Snapshot, result: SuggestionResult, indexer: WorkspaceIndexer
    ) -> list[SuggestionOrigin | None]:
        """Return the place that each suggestion comes from. Raises: WorkerError and ModelError."""
        workspace = indexer.workspace_of(snapshot.uri)
        return [await find_origin(snapshot, one, self.client, workspace) for one in result.suggestions]

    async def attributions(
        self, snapshot: Snapshot, result: SuggestionResult, recorded: RecordingModel
    ) -> list[list[TokenAttribution]]:
        """Return the tokens of each suggestion and their sources. Raises what `tracing.attribute` raises."""
        texts = [text_of(snapshot, one) for one in result.suggestions]
        return [(await attribute(snapshot, recorded, text, result)).tokens for text in texts]

    async def prefill(self, snapshot: Snapshot) -> float:
        """Prefill the text up to the cursor, as the server does when a file is opened; return the seconds it took."""
        started = time.perf_counter()
        await SuggestionService().warm(snapshot, options_for(self.settings, snapshot.language, self.model), self.client)
        return time.perf_counter() - started


@asynccontextmanager
async def open_session(build: InstalledBuild, settings: Settings) -> AsyncIterator[ModelSession]:
    """Start a worker with a build, or join one, for the length of a block. Raises: ModelError and WorkerError."""
    client = InferenceClient()
    started = time.perf_counter()
    try:
        model = await client.load(load_params(settings, build.path))
        yield ModelSession(client, model, settings, time.perf_counter() - started)
    finally:
        await client.close()


def private_worker(settings: Settings) -> Settings:
    """Return the settings with a worker that no editor shares, so that times and memory can be measured."""
    return evolve(settings, worker=WorkerSettings(shared=False))
