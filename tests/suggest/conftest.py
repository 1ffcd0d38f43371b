"""A suggestion service without an editor: a document, a played model, and a host that says what is allowed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from codegen_lsp.completion.snapshot import Refusal, Snapshot
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.request import ModelHandle, SuggestionRequest, SuggestionResult
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.workspace.files import FileAccess
from tests.played_model import PlayedModel

URI = "file:///project/main.py"
CODE = "def add(a, b):\n    retu"
HOUR = 3_600.0


def let_no_time_pass(service: SuggestionService) -> None:
    """Have pauses come when a test fires their timers, however slow the machine is."""
    service.pause_timer.seconds = service.prefetch_timer.seconds = HOUR


@define
class PlayedHost:
    """An application with one document."""

    handle: ModelHandle
    settings: Settings = field(factory=Settings)
    busy: bool = False
    ready: bool = True
    document: Snapshot | None = None
    root: Path | None = None

    def snapshot(self, uri: str, offset: int) -> Snapshot | None:
        return self.document and evolve(self.document, offset=min(offset, len(self.document.text)))

    def file_access(self, uri: str) -> FileAccess | None:
        return FileAccess(self.root, (self.root.as_uri(),)) if self.root else None

    @property
    def current_model(self) -> ModelHandle:
        return self.handle

    async def idle_model(self) -> ModelHandle | None:
        return self.handle


@pytest.fixture
async def model() -> PlayedModel:
    """A model that is loaded."""
    played = PlayedModel(on_state=lambda state: None, on_progress=lambda progress: None)
    await played.load(LoadParams("/models/native"))
    played.answer = lambda params: ["rn a + b"]
    return played


@pytest.fixture
def host(model: PlayedModel) -> PlayedHost:
    return PlayedHost(ModelHandle(model, model.model))


@pytest.fixture
def service(host: PlayedHost) -> SuggestionService:
    made = SuggestionService(host)
    let_no_time_pass(made)
    return made


def at(text: str, version: int = 1, **changed: Any) -> Snapshot:
    return Snapshot(URI, version, "python", text, len(text), **changed)


@define
class PlayedModels:
    """The model of a connection."""

    current: ModelHandle
    ready: bool = True

    async def wait(self) -> ModelHandle | None:
        return self.current if self.ready else None


async def ask(
    service: SuggestionService, host: PlayedHost, snapshot: Snapshot, refusal: Refusal | None = None
) -> SuggestionResult:
    request = SuggestionRequest(
        snapshot, host.settings, PlayedModels(host.handle, host.ready), time.perf_counter(), refusal=refusal
    )
    return await service.suggest(request)
