"""Scans of a real workspace on disk: what is read, in which order, and what becomes of the results."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from codegen_lsp.completion.context import WorkspaceContext
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.suggest import workspace_context
from codegen_lsp.suggest.workspace_context import EMPTY, ScanRequest, WorkspaceScanner
from codegen_lsp.workspace import files
from codegen_lsp.workspace.files import FileAccess

ALIKE = "connection = open_connection(host, port)\nreply = connection.send(request)\nconnection.close()\n"
HERE = "from app.models import User\n\nconnection = open_connection(host, port)\nreply = connection."
IMPORTS = "from app import alike, local, models, other\nfrom generated import alike as more\nimport secrets\n"
MODELS = "class User:\n    name: str\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace, and something beside it."""
    root = tmp_path / "project"
    contents = {
        "main.py": HERE,
        "app/models.py": MODELS,
        "app/alike.py": "import socket\n" + ALIKE,
        "app/other.py": "completely = different\nwords = everywhere\n",
        ".gitignore": "generated/\n*_pb2.py\n",
        "generated/alike.py": ALIKE,
        "alike_pb2.py": ALIKE,
        "app/.gitignore": "/local.py\n",
        "app/local.py": ALIKE,
        "local.py": "first = 1\n" + ALIKE,
        ".venv/alike.py": ALIKE,
        "node_modules/alike.py": ALIKE,
        "secrets/alike.py": ALIKE,
        "../outside.py": ALIKE,
    }
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
async def scanner() -> AsyncIterator[WorkspaceScanner]:
    scanner = WorkspaceScanner()
    yield scanner
    scanner.close()


def request_for(root: Path, name: str = "main.py", text: str = HERE, **limits: Any) -> ScanRequest:
    snapshot = Snapshot((root / name).as_uri(), 1, "python", text, len(text))
    return ScanRequest(snapshot, FileAccess(root, (root.as_uri(),), **limits))


@pytest.fixture
def snippets(scanner: WorkspaceScanner, root: Path) -> Callable[..., Awaitable[list[str]]]:
    """Paths of the snippets for `main.py`."""

    async def paths(**limits: Any) -> list[str]:
        return [snippet.path for snippet in (await scanner.scan(request_for(root, **limits))).snippets]

    return paths


@pytest.fixture
def modules(scanner: WorkspaceScanner, root: Path) -> Callable[..., Awaitable[Modules]]:
    """The modules that `main.py` is told of."""

    async def found(**limits: Any) -> Modules:
        return (await scanner.scan(request_for(root, text=IMPORTS, **limits))).modules

    return found


async def test_similar_files(snippets: Callable[..., Awaitable[list[str]]]) -> None:
    assert await snippets() == ["app/alike.py", "local.py"]


async def test_excluded_files_are_not_read(snippets: Callable[..., Awaitable[list[str]]]) -> None:
    assert await snippets(exclude=("app/**",)) == ["local.py"]


async def test_open_documents_go_before_the_disk(snippets: Callable[..., Awaitable[list[str]]], root: Path) -> None:
    texts = {root / "app/other.py": "import socket\n" + ALIKE, root / "app/alike.py": "x = 1\n"}
    assert await snippets(open_texts=texts) == ["app/other.py", "local.py"]


async def test_changed_files_are_read_again_and_vanished_ones_forgotten(
    snippets: Callable[..., Awaitable[list[str]]], root: Path
) -> None:
    await snippets()
    (root / "app/alike.py").write_text("nothing = alike\n")
    os.utime(root / "app/alike.py", ns=(1, 1))
    (root / "local.py").unlink()
    assert await snippets() == []


async def test_files_that_are_no_text_or_too_large(
    snippets: Callable[..., Awaitable[list[str]]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "app/other.py").write_bytes(b"\xff\xfe" + ALIKE.encode())
    monkeypatch.setattr(workspace_context, "MAX_BYTES", 120)
    (root / "local.py").write_text(ALIKE * 3)
    assert await snippets() == ["app/alike.py"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
async def test_links_that_lead_out_are_not_followed(
    snippets: Callable[..., Awaitable[list[str]]], root: Path, tmp_path: Path
) -> None:
    (root / "app/alike.py").unlink()
    (root / "app/alike.py").symlink_to(tmp_path / "outside.py")
    assert await snippets() == ["local.py"]


async def test_large_workspaces_are_not_read_to_the_end(
    snippets: Callable[..., Awaitable[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 1)
    assert await snippets() == []


async def test_a_scan_that_fails_is_empty(scanner: WorkspaceScanner, root: Path, tmp_path: Path) -> None:
    snapshot = request_for(tmp_path).snapshot
    assert await scanner.scan(ScanRequest(snapshot, FileAccess(root))) == EMPTY


async def test_names_of_imported_modules(modules: Callable[..., Awaitable[Modules]]) -> None:
    found = await modules()
    assert set(found) == {"app.alike", "app.models", "app.other"}  # what is ignored was not read
    assert found["app.models"] == {"User"}


async def test_names_of_excluded_modules(modules: Callable[..., Awaitable[Modules]]) -> None:
    assert set(await modules(exclude=("app/m*.py",))) == {"app.alike", "app.other"}


async def test_names_of_open_modules(modules: Callable[..., Awaitable[Modules]], root: Path) -> None:
    found = await modules(open_texts={root / "app/models.py": "class Group: pass\r\n"})
    assert found["app.models"] == {"Group"}


class Gate:
    """Holds scans at their first step, and counts how many are inside at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.inside = self.most = 0
        self._list_files = workspace_context.list_files
        monkeypatch.setattr(workspace_context, "list_files", self._gated)

    def _gated(self, root: Path, extension: str) -> list[str]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        self.open.wait(60)
        self.inside -= 1
        return self._list_files(root, extension)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, scanner: WorkspaceScanner) -> Gate:
    return Gate(monkeypatch)


async def test_two_documents_are_scanned_one_after_the_other(scanner: WorkspaceScanner, root: Path, gate: Gate) -> None:
    scans = [asyncio.create_task(scanner.scan(request_for(root, name))) for name in ("main.py", "local.py")]
    await asyncio.to_thread(gate.entered.wait, 60)
    # A second thread would come to the gate now; there is none.
    assert [thread.name for thread in threading.enumerate()].count("workspace-scan_0") == 1
    assert "workspace-scan_1" not in [thread.name for thread in threading.enumerate()]
    gate.open.set()
    first, second = await asyncio.gather(*scans)
    assert gate.most == 1
    assert first.snippets
    assert second.snippets


async def test_a_scan_goes_on_when_its_caller_is_cancelled(scanner: WorkspaceScanner, root: Path, gate: Gate) -> None:
    request = request_for(root)
    caller = asyncio.create_task(scanner.scan(request))
    await asyncio.to_thread(gate.entered.wait, 60)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.open.set()
    await scanner.scan(request_for(root, "local.py"))  # behind the first one
    assert scanner.context(request.snapshot.uri).snippets
    assert not scanner.is_due(request.snapshot.uri, len(HERE))


@pytest.mark.parametrize(
    "interrupt", [WorkspaceScanner.forget, lambda scanner, uri: scanner.close()], ids=["forget", "close"]
)
async def test_a_scan_that_is_no_longer_wanted_reads_no_file(
    scanner: WorkspaceScanner, root: Path, gate: Gate, interrupt: Callable[[WorkspaceScanner, str], None]
) -> None:
    request = request_for(root)
    scan = asyncio.create_task(scanner.scan(request))
    await asyncio.to_thread(gate.entered.wait, 60)
    interrupt(scanner, request.snapshot.uri)
    gate.open.set()
    assert await scan == EMPTY
    assert scanner.context(request.snapshot.uri) == EMPTY
    assert not scanner._texts


async def test_a_result_from_before_a_change_of_another_document_is_not_kept(
    scanner: WorkspaceScanner, root: Path, gate: Gate
) -> None:
    request = request_for(root)
    scan = asyncio.create_task(scanner.scan(request))
    await asyncio.to_thread(gate.entered.wait, 60)
    scanner.document_changed((root / "app/models.py").as_uri())
    gate.open.set()
    await scan
    assert scanner.context(request.snapshot.uri) == WorkspaceContext()
    assert scanner.is_due(request.snapshot.uri, len(HERE))


async def test_a_change_of_another_document_drops_modules_and_keeps_snippets(
    scanner: WorkspaceScanner, root: Path
) -> None:
    request = request_for(root)
    found = await scanner.scan(request)
    assert found.modules
    assert found.snippets
    assert not scanner.is_due(request.snapshot.uri, len(HERE))
    scanner.document_changed(request.snapshot.uri)
    assert scanner.context(request.snapshot.uri) == found
    scanner.document_changed((root / "app/models.py").as_uri())
    assert scanner.context(request.snapshot.uri) == evolve(found, modules={})
    assert scanner.is_due(request.snapshot.uri, len(HERE))


@define
class Clock:
    """A clock that stands still until it is set."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("opening", "seconds", "moved", "due"),
    [
        (False, 0.0, 0, False),
        (False, 4.9, workspace_context.NEAR, False),  # the same text is around the cursor
        (False, 5.0, 0, True),
        (False, 0.9, workspace_context.NEAR + 1, False),  # the cursor may move on
        (False, 1.0, workspace_context.NEAR + 1, True),
        (True, 0.0, workspace_context.NEAR + 1, True),  # the cursor was not known before
        (True, 0.0, workspace_context.NEAR, False),
    ],
)
async def test_when_a_scan_is_due(root: Path, opening: bool, seconds: float, moved: int, due: bool) -> None:
    clock = Clock()
    scanner = WorkspaceScanner(clock)
    request = evolve(request_for(root), opening=opening)
    assert scanner.is_due(request.snapshot.uri, request.snapshot.offset)
    await scanner.scan(request)
    clock.now += seconds
    assert scanner.is_due(request.snapshot.uri, request.snapshot.offset + moved) is due
    scanner.files_changed()
    assert scanner.is_due(request.snapshot.uri, request.snapshot.offset)
    scanner.close()


async def test_waiting_for_the_scan_of_a_document(scanner: WorkspaceScanner, root: Path, gate: Gate) -> None:
    request = request_for(root)
    await scanner.finished(request.snapshot.uri)  # there is none
    scan = asyncio.create_task(scanner.scan(request))
    await asyncio.to_thread(gate.entered.wait, 60)
    waiter = asyncio.create_task(scanner.finished(request.snapshot.uri))
    again = asyncio.create_task(scanner.scan(request))  # in place of the first one
    await asyncio.sleep(0)
    assert not scanner.has_context(request.snapshot.uri)
    gate.open.set()
    await waiter
    assert scanner.has_context(request.snapshot.uri)
    assert scanner.context(request.snapshot.uri).snippets
    assert (await again).snippets
    assert await scan == EMPTY
