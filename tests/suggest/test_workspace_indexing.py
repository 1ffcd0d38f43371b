"""Feeding the workspace's n-gram index: which files are sent, when, and in which order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from codegen_lsp.errors import WorkerError
from codegen_lsp.inference.rpc.messages import IndexState, IndexStateParams, IndexUpdate, LoadProgress
from codegen_lsp.suggest import workspace_indexing as module
from codegen_lsp.suggest.workspace_indexing import RefreshRequest, WorkspaceIndexer
from codegen_lsp.workspace.files import FileAccess
from codegen_lsp.workspace.uris import uri_of
from tests.played_model import PlayedModel


def ignore(_: object) -> None:
    """Take a state or a progress that is of no interest."""


@pytest.fixture
def model() -> PlayedModel:
    on_progress: Callable[[LoadProgress], None] = ignore
    return PlayedModel(ignore, on_progress)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in {
        "app/main.py": "import lib\n",
        "app/near.py": "near = 1\n",
        "lib/far.py": "far = 1\r\nfar = 2\r\n",
        "lib/data.json": "{}",
        "ignored/secret.py": "no\n",
        "app/.env.py": "",
        ".gitignore": "ignored/\n",
        "secrets/keys.py": "KEY = 1\n",
        "lib/binary.py": "a\0b",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    (tmp_path / "lib/latin.py").write_bytes("x = 'é'\n".encode("latin-1"))
    return tmp_path


def request(model: PlayedModel, root: Path, path: str = "app/main.py", **options) -> RefreshRequest:  # type: ignore[no-untyped-def]
    access = FileAccess(root, (uri_of(root),), options.pop("exclude", ()), options.pop("open_texts", {}))
    return RefreshRequest(uri_of(root / path), "python", access, model, options.pop("busy", lambda: False), 1_000_000)


def texts(model: PlayedModel) -> dict[str, str]:
    return {file.path: file.text for update in model.index_updates for file in update.files}


async def test_the_files_of_the_language_are_sent(model: PlayedModel, root: Path) -> None:
    indexer = WorkspaceIndexer()
    assert indexer.workspace_of(uri_of(root / "app/main.py")) is None
    assert await indexer.refresh(request(model, root))
    sent = texts(model)
    assert sent["lib/far.py"] == "far = 1\nfar = 2\n"
    assert sent["app/main.py"] == "import lib\n"
    assert not {"ignored/secret.py", "secrets/keys.py", "lib/data.json"} & sent.keys()
    assert sent["lib/binary.py"] == sent["lib/latin.py"] == ""  # known, so that they are not read again
    workspace = indexer.workspace_of(uri_of(root / "app/main.py"))
    assert workspace is not None
    assert workspace.file == "app/main.py"
    indexer.close()


async def test_near_files_come_first(model: PlayedModel, root: Path) -> None:
    await WorkspaceIndexer().refresh(request(model, root))
    order = list(texts(model))
    assert max(order.index("app/near.py"), order.index("app/main.py")) < order.index("lib/far.py")
    model.index_updates.clear()
    model.indexed.clear()
    await WorkspaceIndexer().refresh(request(model, root, "lib/far.py"))
    order = list(texts(model))
    assert order.index("lib/far.py") < order.index("app/near.py")


async def test_only_changes_are_sent_again(model: PlayedModel, root: Path) -> None:
    indexer = WorkspaceIndexer()
    await indexer.refresh(request(model, root))
    model.index_updates.clear()
    assert not await indexer.refresh(request(model, root))  # too early
    (root / "app/near.py").write_text("near = 22\n")
    os.utime(root / "app/near.py", ns=(1, 1))
    (root / "lib/far.py").unlink()
    (root / "lib/new.py").write_text("new = 1\n")
    indexer.files_changed()
    assert await indexer.refresh(request(model, root))
    assert texts(model) == {"app/near.py": "near = 22\n", "lib/new.py": "new = 1\n"}
    assert [update.removed for update in model.index_updates] == [["lib/far.py"]]
    model.index_updates.clear()
    indexer.files_changed()
    assert await indexer.refresh(request(model, root))
    assert model.index_updates == []


async def test_open_documents_count_as_they_stand(model: PlayedModel, root: Path) -> None:
    indexer = WorkspaceIndexer()
    path = (root / "app/near.py").resolve()
    await indexer.refresh(request(model, root, open_texts={path: "unsaved = 1\n"}))
    assert texts(model)["app/near.py"] == "unsaved = 1\n"
    for text, sent in (("unsaved = 1\n", False), ("unsaved = 2\n", True)):
        model.index_updates.clear()
        indexer.files_changed()
        await indexer.refresh(request(model, root, open_texts={path: text}))
        assert ("app/near.py" in texts(model)) == sent
    model.index_updates.clear()
    indexer.closed(uri_of(path))
    await indexer.refresh(request(model, root))
    assert texts(model) == {"app/near.py": "near = 1\n"}


async def test_an_excluded_file_leaves_the_index(model: PlayedModel, root: Path) -> None:
    indexer = WorkspaceIndexer()
    await indexer.refresh(request(model, root))
    model.index_updates.clear()
    indexer.files_changed()
    await indexer.refresh(request(model, root, exclude=("lib/**",)))
    assert model.index_updates[0].removed == ["lib/binary.py", "lib/far.py", "lib/latin.py"]
    assert texts(model) == {}


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
async def test_links_that_lead_out_are_not_read(
    model: PlayedModel, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "outside.py"
    outside.write_text("outside = 1\n")
    (root / "app/link.py").symlink_to(outside)
    await WorkspaceIndexer().refresh(request(model, root))
    assert "app/link.py" not in texts(model)


async def test_files_are_sent_while_the_user_does_not_wait(
    model: PlayedModel, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    waits = iter([True, True, False])
    asked: list[bool] = []

    def busy() -> bool:
        asked.append(True)
        assert not model.index_updates
        return next(waits)

    await WorkspaceIndexer().refresh(request(model, root, busy=busy))
    assert len(asked) == 3
    assert texts(model)


async def test_batches_are_small(model: PlayedModel, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 15)
    await WorkspaceIndexer().refresh(request(model, root))
    assert len(model.index_updates) > 1
    assert all(len(update.files) <= 3 for update in model.index_updates)


async def test_closing_ends_a_refresh(model: PlayedModel, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    indexer = WorkspaceIndexer()
    task = asyncio.create_task(indexer.refresh(request(model, root, busy=lambda: True)))
    await asyncio.sleep(0)
    indexer.close()
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 60)
    assert not model.index_updates
    assert not await indexer.refresh(request(model, root))


class DeadModel(PlayedModel):
    async def index_state(self, params: IndexStateParams) -> IndexState:
        raise WorkerError("The worker died.")


async def test_a_worker_that_dies_is_asked_again(model: PlayedModel, root: Path) -> None:
    indexer = WorkspaceIndexer()
    assert await indexer.refresh(request(DeadModel(ignore, ignore), root))
    assert indexer.workspace_of(uri_of(root / "app/main.py")) is None
    assert await indexer.refresh(request(model, root))
    assert texts(model)


class SlowModel(PlayedModel):
    """A model that has many files waiting after each update with files, and none when it is asked again."""

    async def update_index(self, params: IndexUpdate) -> IndexState:
        await super().update_index(params)
        return IndexState(pending=module.MAX_PENDING + 1 if params.files else 0)


async def test_a_worker_that_lags_behind_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 15)
    model = SlowModel(ignore, ignore)
    await WorkspaceIndexer().refresh(request(model, root))
    with_files = [bool(update.files) for update in model.index_updates]
    assert with_files[:4] == [True, False, True, False]
