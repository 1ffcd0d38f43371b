"""A suggestion traced: the request that an editor would send, and what the model says of each of its tokens.

The suggestion service makes the request and shapes the answer, as for an editor; a model that records both stands
between it and the client.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from attrs import define, frozen

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    ModelDescription,
    OriginParams,
    OriginResult,
    WarmParams,
)
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.request import CompletionModel, SuggestionResult
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.suggest.workspace_indexing import WorkspaceIndexer
from codegen_lsp.workspace.uris import path_of

ALTERNATIVES = 5
"""Runners-up of each token."""
ATTEMPTS, PAUSE = 40, 0.5
"""Times that the model is asked, and the seconds between: any request of an editor that shares it has priority."""


class TraceError(CodegenError):
    """There is nothing to trace, or the trace can't be written."""


class TracedModel(CompletionModel, Protocol):
    """The part of `InferenceClient` that a trace needs."""

    async def attribute(self, params: AttributionParams) -> AttributionResult:
        """See `InferenceClient.attribute`."""
        ...


@define(eq=False)
class RecordingModel:
    """A `CompletionModel` that keeps the last request for a suggestion and its answer."""

    client: TracedModel
    request: GenerateParams | None = None
    answer: GenerateResult | None = None

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `CompletionModel.generate`."""
        self.request, self.answer = params, None
        self.answer = await self.client.generate(params)
        return self.answer

    async def warm(self, params: WarmParams) -> None:
        """See `CompletionModel.warm`."""
        await self.client.warm(params)

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """See `CompletionModel.index_state`."""
        return await self.client.index_state(params)

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """See `CompletionModel.update_index`."""
        return await self.client.update_index(params)

    async def origin(self, params: OriginParams) -> OriginResult:
        """See `CompletionModel.origin`."""
        return await self.client.origin(params)


@frozen
class Trace:
    """A suggestion at a place of a document, and what the model says of it."""

    file: str
    line: int
    """Of the cursor, from 1."""
    column: int
    """Of the cursor in code points, from 1."""
    language: str
    model: ModelDescription
    suggestion: str
    """From the cursor on. The model's answer where it is not shown; empty where there is none."""
    shown: bool
    """False if an editor would show nothing."""
    reason: str
    """Why nothing is shown; empty if something is."""
    attribution: AttributionResult


async def trace(
    snapshot: Snapshot, options: Options, client: TracedModel, model: ModelDescription, indexer: WorkspaceIndexer
) -> Trace:
    """Trace the suggestion that an editor would show at the cursor.

    Raises: TraceError when the model is not asked at this place, WorkerError, and ModelError when it can't tell what it
    attends to.
    """
    recorded = RecordingModel(client)
    result = await SuggestionService(indexer=indexer).complete(snapshot, options, recorded)
    suggestion = next(iter(result.suggestions), None)
    text = text_of(snapshot, suggestion) if suggestion is not None else _unshown(recorded)
    attribution = await attribute(snapshot, recorded, text, result, prompt=True, attention=True)
    before = snapshot.text[: snapshot.offset]
    return Trace(
        file=path_of(snapshot.uri) or snapshot.uri,
        line=with_lf(before).count("\n") + 1,
        column=snapshot.offset - snapshot.line_start + 1,
        language=snapshot.language,
        model=model,
        suggestion=text,
        shown=suggestion is not None,
        reason="" if suggestion is not None else _reason(result),
        attribution=attribution,
    )


async def attribute(
    snapshot: Snapshot,
    recorded: RecordingModel,
    text: str,
    result: SuggestionResult,
    *,
    prompt: bool = False,
    attention: bool = False,
) -> AttributionResult:
    """Return the tokens of a text that was suggested at the cursor.

    Raises: TraceError when the model was not asked or is busy all the time, WorkerError and ModelError.
    """
    if recorded.request is None:
        raise TraceError(f"There is nothing to trace: {_reason(result)}", "Choose another place.")
    document, offset = snapshot.text[snapshot.prelude :], snapshot.offset - snapshot.prelude
    before, after = with_lf(document[:offset]), with_lf(document[offset:])
    params = AttributionParams(recorded.request, text, before, after, ALTERNATIVES, prompt, attention)
    for _ in range(ATTEMPTS):
        try:
            return await recorded.client.attribute(params)
        except SupersededError:
            await asyncio.sleep(PAUSE)
    raise TraceError("An editor keeps the model busy.", "Try again when nobody types.")


def text_of(snapshot: Snapshot, suggestion: Suggestion) -> str:
    """Return the part of a suggestion that comes after the cursor."""
    return suggestion.insert[snapshot.offset - suggestion.start :]


def name_of(trace: Trace) -> str:
    """Return the name of the traced file, without its folder."""
    return Path(trace.file).name


def _unshown(recorded: RecordingModel) -> str:
    candidates = recorded.answer.candidates if recorded.answer is not None else []
    return candidates[0].text if candidates else ""


def _reason(result: SuggestionResult) -> str:
    return result.refusal.reason if result.refusal else "The model had nothing to say."
