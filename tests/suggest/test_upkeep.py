"""The workspace's context from the first keystroke on: real files, a real scan, and a played model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.settings import IndexSettings, Settings
from codegen_lsp.suggest import workspace_context
from codegen_lsp.suggest.service import SuggestionService
from tests.played_model import PlayedModel
from tests.suggest.conftest import PlayedHost, ask

SIMILAR = "connection = open_connection(host, port)\nreply = connection.send(request)\nconnection.close()\n"
MAIN = "connection = open_connection(host, port)\nreply = connection."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "similar.py").write_text("import socket\n" + SIMILAR)
    return tmp_path


@pytest.fixture
async def opened(service: SuggestionService, host: PlayedHost, root: Path) -> AsyncIterator[Snapshot]:
    """A document of the workspace that was opened just now. There is no index, and no pause comes."""
    snapshot = Snapshot((root / "main.py").as_uri(), 1, "python", MAIN, len(MAIN))
    host.settings, host.root, host.document = Settings(index=IndexSettings(enabled=False)), root, snapshot
    service.pause_timer.seconds = 1e6
    service.opened(snapshot.uri, 1, len(MAIN))
    yield snapshot
    service.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Scans wait here."""
    gate = threading.Event()
    list_files = workspace_context.list_files

    def gated(*arguments: Any) -> list[str]:
        gate.wait(60)
        return list_files(*arguments)

    monkeypatch.setattr(workspace_context, "list_files", gated)
    return gate


async def scanned(service: SuggestionService, uri: str) -> None:
    """Wait until the scans that were started are done."""
    for _ in range(5):
        await asyncio.sleep(0)
        await service.scanner.finished(uri)


def has_similar(model: PlayedModel) -> list[bool]:
    """Tell for each request of the model whether it had the similar file."""
    return [any(SIMILAR in text for text in params.snippets) for params in model.generated if not params.background]


async def test_the_first_request_has_what_was_found_at_opening(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, opened: Snapshot
) -> None:
    await scanned(service, opened.uri)
    await ask(service, host, opened)
    assert has_similar(model) == [True]


async def test_a_document_is_compared_while_the_model_loads(
    service: SuggestionService, host: PlayedHost, opened: Snapshot
) -> None:
    host.handle = evolve(host.handle, description=None)
    service.closed(opened.uri)
    service.opened(opened.uri, 1, len(MAIN))
    await scanned(service, opened.uri)
    assert service.scanner.context(opened.uri).snippets


async def test_the_first_request_does_not_wait_for_the_scan_and_the_second_does(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, gate: threading.Event, opened: Snapshot
) -> None:
    service.upkeep.first_scan_seconds = 60.0
    await ask(service, host, opened)
    assert has_similar(model) == [False]
    second = asyncio.create_task(ask(service, host, evolve(opened, text=MAIN + "x", offset=len(MAIN) + 1)))
    await asyncio.sleep(0)
    gate.set()
    await second
    assert has_similar(model) == [False, True]


async def test_no_request_waits_when_the_time_for_it_is_spent(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, gate: threading.Event, opened: Snapshot
) -> None:
    service.upkeep.first_scan_seconds = 0.001
    for text in (MAIN, MAIN + "x", MAIN + "y"):
        await ask(service, host, evolve(opened, text=text, offset=len(text)))
    assert has_similar(model) == [False] * 3
    gate.set()


@pytest.mark.parametrize("answer", [["send(request)"], []])
async def test_a_request_starts_the_scan_for_its_cursor(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, opened: Snapshot, answer: list[str]
) -> None:
    model.answer = lambda params: answer
    text = "x = 1\n" * 2_000 + MAIN
    host.document = evolve(opened, text=text, offset=len(text))
    service.closed(opened.uri)
    service.opened(opened.uri, 1, len(text))
    await scanned(service, opened.uri)
    assert not service.scanner.context(opened.uri).snippets  # the start of the document is in no other file
    await ask(service, host, host.document)
    await scanned(service, opened.uri)
    assert [snippet.path for snippet in service.scanner.context(opened.uri).snippets] == ["similar.py"]
    service.changed(opened.uri, 2, text + "x", len(text) + 1, "x")
    await ask(service, host, evolve(host.document, text=text + "x", offset=len(text) + 1, version=2))
    assert has_similar(model)[1:] == [True]  # the first one may have it, too: the scan runs beside it


async def test_a_saved_file_counts_at_the_next_request(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, root: Path, opened: Snapshot
) -> None:
    (root / "similar.py").unlink()
    service.closed(opened.uri)
    service.opened(opened.uri, 1, len(MAIN))
    await scanned(service, opened.uri)
    (root / "new.py").write_text("import socket\n" + SIMILAR)
    service.files_changed()
    await ask(service, host, opened)
    await scanned(service, opened.uri)
    await ask(service, host, evolve(opened, text=MAIN + "x", offset=len(MAIN) + 1))
    assert has_similar(model)[1:] == [True]  # the first one may have it, too: the scan runs beside it


async def test_the_index_is_refreshed_at_opening_and_takes_the_place_of_similar_text(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, root: Path
) -> None:
    snapshot = Snapshot((root / "main.py").as_uri(), 1, "python", MAIN, len(MAIN))
    host.root, host.document = root, snapshot
    service.opened(snapshot.uri, 1, len(MAIN))
    while service.indexer.workspace_of(snapshot.uri) is None:  # noqa: ASYNC110 - set in a task without an event
        await asyncio.sleep(0.001)
    await ask(service, host, snapshot)
    (params,) = [params for params in model.generated if not params.background]
    assert params.workspace
    assert params.excluded_files == ["main.py"]
    assert not any(SIMILAR in text for text in params.related)  # and the model leaves out `snippets` then
    service.close()


async def test_documents_in_which_nothing_is_suggested_are_not_compared(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, opened: Snapshot
) -> None:
    host.settings = Settings(languages={"python": False})
    service.closed(opened.uri)
    service.opened(opened.uri, 1, len(MAIN))
    await scanned(service, opened.uri)
    assert not service.scanner.has_context(opened.uri)
    assert model.index_updates == []
