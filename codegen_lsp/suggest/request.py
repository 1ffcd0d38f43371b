"""Requests for suggestions, their results, and the model that answers them."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from attrs import frozen

from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    GenerationStats,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    ModelDescription,
    OriginParams,
    OriginResult,
    WarmParams,
)
from codegen_lsp.settings import Settings

AnswerSource = Literal["cache", "flight", "model", "none"]


class CompletionModel(Protocol):
    """The part of `InferenceClient` that suggestions need."""

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `InferenceClient.generate`."""
        ...

    async def warm(self, params: WarmParams) -> None:
        """See `InferenceClient.warm`."""
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


@frozen
class ModelHandle:
    """A model at one instant."""

    client: CompletionModel
    description: ModelDescription | None = None
    """None if no model is loaded; the client's answer to a request is then an error that says why."""


class ModelSource(Protocol):
    """The model of a connection, which may still be loading."""

    @property
    def current(self) -> ModelHandle:
        """The model as it is now."""
        ...

    async def wait(self) -> ModelHandle | None:
        """Wait while a model loads, and return the model as it is then; None if that takes too long."""
        ...


@frozen
class SuggestionResult:
    """The answer to a request: suggestions, or the rule that refused them."""

    suggestions: list[Suggestion]
    source: AnswerSource
    """Where the suggestions came from: `cache` (typed through, or prefetched), `flight` (a generation in flight for an
    earlier request), `model`, or `none` if the model was not asked."""
    refusal: Refusal | None = None
    stats: GenerationStats | None = None
    seconds: float = 0.0
    """From the arrival of the request to its answer."""
    numbers: range = range(0)
    """Of the suggestions, for `SuggestionService.accepted`."""


def refused(rule: str, reason: str, *, since: float | None = None) -> SuggestionResult:
    """Return a result without suggestions for a request that arrived at `since`, by `time.perf_counter`."""
    seconds = 0.0 if since is None else time.perf_counter() - since
    return SuggestionResult([], "none", Refusal(rule, reason), seconds=seconds)


@frozen
class SuggestionRequest:
    """A request of an editor."""

    snapshot: Snapshot
    settings: Settings
    models: ModelSource
    received: float
    """Arrival of the request, by `time.perf_counter`."""
    refusal: Refusal | None = None
    """A reason to suggest nothing that the caller knows."""
