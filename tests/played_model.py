"""An inference client that answers from a script: for servers in tests, in this process or in an editor's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from codegen_lsp.errors import CodegenError, WorkerError
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    GenerationStats,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    ModelDescription,
    OriginParams,
    OriginResult,
    Score,
    ScoreParams,
    ScoreResult,
    WarmParams,
)

Answer = Callable[[GenerateParams], list[str]]


@define
class PlayedModel:
    """An inference client that answers from a script, and keeps the requests that it received."""

    on_state: Callable[[WorkerState], None]
    on_progress: Callable[[LoadProgress], None]
    answer: Answer = lambda params: []
    certainty: float | None = None
    """Probability that the model gives each answer; None for none."""
    likelihood: Callable[[str], float] = lambda text: -1.0
    gate: asyncio.Event = field(factory=asyncio.Event)
    """Generation waits here."""
    loading: asyncio.Event = field(factory=asyncio.Event)
    """Loading waits here."""
    broken: dict[str, CodegenError] = field(factory=dict)
    """Errors of loading, by the name of the build."""
    generate_error: Exception | None = None
    loads: list[LoadParams] = field(factory=list)
    generated: list[GenerateParams] = field(factory=list)
    warmed: list[WarmParams] = field(factory=list)
    scored: list[ScoreParams] = field(factory=list)
    cancelled: list[GenerateParams] = field(factory=list)
    indexed: dict[str, dict[str, tuple[int, int]]] = field(factory=dict)
    index_updates: list[IndexUpdate] = field(factory=list)
    origins_asked: list[OriginParams] = field(factory=list)
    origin_result: OriginResult = field(factory=OriginResult)
    restarts: int = 0
    closed: int = 0
    model: ModelDescription | None = None

    def __attrs_post_init__(self) -> None:
        self.gate.set()
        self.loading.set()

    async def load(self, params: LoadParams) -> ModelDescription:
        self.loads.append(params)
        self.on_state(WorkerState("starting", "Starting."))
        self.on_state(WorkerState("loading", "Loading.", pid=1))
        self.on_progress(LoadProgress("Reading", 0.5))
        await self.loading.wait()
        if error := self.broken.get(Path(params.build).name):
            self.on_state(WorkerState("failed", error.message, error.advice))
            raise error
        self.model = describe(Path(params.build).name)
        self.on_state(WorkerState("ready", "Ready.", model=self.model, pid=1))
        return self.model

    async def generate(self, params: GenerateParams) -> GenerateResult:
        self.generated.append(params)
        if self.generate_error is not None:
            raise self.generate_error
        if self.model is None:
            raise WorkerError("No model is loaded.")
        self.on_state(WorkerState("busy", "Ready.", model=self.model, pid=1))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(params)
            raise
        finally:
            self.on_state(WorkerState("ready", "Ready.", model=self.model, pid=1))
        candidates = [
            Candidate(text, 5, -0.1 * at, "stop", [(len(text), math.log(self.certainty))] if self.certainty else [])
            for at, text in enumerate(self.answer(params), 1)
        ]
        return GenerateResult(candidates, GenerationStats(100, 60, 12, 0.0, 0.01, 0.02))

    async def score(self, params: ScoreParams) -> ScoreResult:
        self.scored.append(params)
        return ScoreResult([Score(self.likelihood(one.text), 3) for one in params.texts])

    async def warm(self, params: WarmParams) -> None:
        self.warmed.append(params)

    async def index_state(self, params: IndexStateParams) -> IndexState:
        known = self.indexed.get(params.workspace, {})
        named = list(known.items())[params.first : params.first + 2]
        return IndexState(
            files={path: list(version) for path, version in named}, tokens=sum(size for _, size in known.values())
        )

    async def update_index(self, params: IndexUpdate) -> IndexState:
        self.index_updates.append(params)
        files = self.indexed.setdefault(params.workspace, {})
        files.update({file.path: (file.modified, file.size) for file in params.files})
        for path in params.removed:
            files.pop(path, None)
        return IndexState()

    async def origin(self, params: OriginParams) -> OriginResult:
        self.origins_asked.append(params)
        return self.origin_result

    async def restart(self) -> None:
        self.restarts += 1
        self.on_state(WorkerState("starting", "Restarting."))
        self.on_state(WorkerState("ready", "Ready.", model=self.model, pid=2))

    async def close(self) -> None:
        self.closed += 1
        self.on_state(WorkerState("stopped"))


def describe(name: str) -> ModelDescription:
    """Return a model with a context of 2048 tokens; it infills, or has the native engine, if its name says so."""
    native = "native" in name
    return ModelDescription(
        name,
        "codegen",
        "native" if native else "ct2",
        "cpu",
        "int8",
        2,
        2048,
        "infill" in name,
        ["python"],
        3.5,
        0.1,
        ngrams=native,
    )
