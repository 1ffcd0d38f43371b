"""Feeding the workspace's n-gram index: which files are sent, when, and in which order."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from codegen_lsp.errors import WorkerError
from codegen_lsp.inference.rpc.messages import IndexState, IndexStateParams, IndexUpdate, LoadProgress
from codegen_lsp.suggest import workspace_indexing as module
from codegen_lsp.suggest.workspace_indexing import RefreshRequest, WorkspaceIndexer
from codegen_lsp.workspace.files import FileAccess, innermost_folder
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


def git_in(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    subprocess.run(("git", *identity, *arguments), cwd=folder, check=True, capture_output=True)


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


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and pipes")
@pytest.mark.parametrize("with_git", [False, True])
async def test_only_files_by_the_rules_of_the_workspace_enter(
    model: PlayedModel, root: Path, tmp_path_factory: pytest.TempPathFactory, with_git: bool
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "outside.py").write_text("outside = 1\n")
    links = {
        "to_a_file_outside.py": outside / "outside.py",
        "to_a_folder_outside": outside,
        "to_a_device.py": Path("/dev/zero"),
        "to_a_pipe.py": root / "app" / "pipe.py",
        "to_a_secret.py": root / "secrets" / "keys.py",
        "to_an_ignored_file.py": root / "ignored" / "secret.py",
        "to_itself.py": root / "app" / "to_itself.py",
        "to_nothing.py": root / "nothing.py",
        "twice.py": root / "app" / "near.py",
        "up": root.parent,
    }
    for name, target in links.items():
        (root / "app" / name).symlink_to(target)
    os.mkfifo(root / "app" / "pipe.py")
    (root / "app" / "huge.py").write_text("x = 1\n" * module.MAX_BYTES)
    (root / "node_modules").mkdir()
    (root / "node_modules" / "package.py").write_text("installed = 1\n")
    (root / "app" / "excluded").mkdir()
    (root / "app" / "excluded" / "by_folder.py").write_text("excluded = 1\n")
    (root / "app" / "by_name_gen.py").write_text("excluded = 1\n")
    if with_git:
        if shutil.which("git") is None:
            pytest.skip("needs git")
        git_in(root, "init")
        git_in(root, "add", "app", "lib", "secrets", ".gitignore")
    await WorkspaceIndexer().refresh(request(model, root, exclude=("excluded", "*_gen.py")))
    found = texts(model)
    assert sorted(found) == ["app/main.py", "app/near.py", "lib/binary.py", "lib/far.py", "lib/latin.py"]
    assert not any(word in text for text in found.values() for word in ("outside", "KEY", "no\n", "excluded"))


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
async def test_a_file_that_becomes_a_link_meanwhile_is_not_read(
    model: PlayedModel, root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "outside.py"
    outside.write_text("outside = 1\n")
    allows = FileAccess.allows
    asked: list[Path] = []

    def swap_after(access: FileAccess, path: Path) -> bool:
        allowed = allows(access, path)
        if path.name == "near.py":
            asked.append(path)
            path.unlink()
            path.symlink_to(outside)
        return allowed

    monkeypatch.setattr(FileAccess, "allows", swap_after)
    await WorkspaceIndexer().refresh(request(model, root))
    assert asked
    assert "app/main.py" in texts(model)
    assert "app/near.py" not in texts(model)


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


async def test_of_a_huge_folder_the_nearest_files_are_looked_at_and_the_newest_sent_first(
    model: PlayedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 7)
    monkeypatch.setattr(module, "FILES_AT_ONCE", 3)
    for folder in ("a", "m/n", "z"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(5):
            file = tmp_path / folder / f"{number}.py"
            file.write_text(f"{folder}{number}\n")
            os.utime(file, (number, number))
    indexer = WorkspaceIndexer()
    await indexer.refresh(request(model, tmp_path, "z/0.py"))
    order = list(texts(model))
    assert order[:5] == [f"z/{number}.py" for number in (4, 3, 2, 1, 0)]
    assert len(order) == 7
    model.index_updates.clear()
    indexer.files_changed()
    await indexer.refresh(request(model, tmp_path, "m/n/0.py"))  # what is farther away stays indexed
    assert [path for path in texts(model) if path.startswith("m/")] == [
        f"m/n/{number}.py" for number in (4, 3, 2, 1, 0)
    ]
    assert not any(update.removed for update in model.index_updates)
    (tmp_path / "z/3.py").unlink()
    model.index_updates.clear()
    indexer.files_changed()
    await indexer.refresh(request(model, tmp_path, "a/0.py"))
    assert [path for update in model.index_updates for path in update.removed] == ["z/3.py"]


async def test_closing_ends_the_comparison_of_a_huge_folder(
    model: PlayedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES_AT_ONCE", 10)
    for number in range(100):
        (tmp_path / f"{number}.py").write_text("x = 1\n")
    indexer = WorkspaceIndexer()
    looked_at: list[Path] = []

    def allows(access: FileAccess, path: Path) -> bool:
        looked_at.append(path)
        if len(looked_at) == 15:
            indexer.close()
        return True

    monkeypatch.setattr(FileAccess, "allows", allows)
    await asyncio.wait_for(indexer.refresh(request(model, tmp_path, "0.py")), 60)
    assert len(looked_at) == 20
    assert not model.index_updates


def request_in(model: PlayedModel, folders: list[Path], path: Path) -> RefreshRequest:
    uris = [uri_of(folder) for folder in folders]
    root = innermost_folder(uri_of(path), uris)
    assert root is not None
    return RefreshRequest(uri_of(path), "python", FileAccess(root, tuple(uris)), model, lambda: False, 1_000_000)


async def test_each_folder_has_its_index_and_a_document_that_of_the_deepest(model: PlayedModel, tmp_path: Path) -> None:
    outer, inner, other = tmp_path / "outer", tmp_path / "outer" / "inner", tmp_path / "other"
    for folder in (outer, inner, other):
        folder.mkdir()
        (folder / "a.py").write_text(f"{folder.name} = 1\n")
        (folder / "b.py").write_text(f"{folder.name} = 2\n")
    indexer, folders = WorkspaceIndexer(), [outer, inner, other]
    for folder in folders:
        await indexer.refresh(request_in(model, folders, folder / "a.py"))
    found = {folder: indexer.workspace_of(uri_of(folder / "a.py")) for folder in folders}
    keys = [workspace.key for workspace in found.values() if workspace]
    assert len(set(keys)) == 3
    assert {workspace.file for workspace in found.values() if workspace} == {"a.py"}
    assert set(model.indexed[keys[1]]) == {"a.py", "b.py"}
    assert set(model.indexed[keys[0]]) == {"a.py", "b.py", "inner/a.py", "inner/b.py"}

    indexer.folders_changed([uri_of(outer), uri_of(other)])
    assert indexer.workspace_of(uri_of(inner / "a.py")) is None  # that folder is gone
    assert indexer.workspace_of(uri_of(other / "a.py")) == found[other]
    await indexer.refresh(request_in(model, [outer, other], inner / "a.py"))
    moved = indexer.workspace_of(uri_of(inner / "a.py"))
    assert moved is not None
    assert (moved.key, moved.file) == (keys[0], "inner/a.py")

    indexer.folders_changed([uri_of(folder) for folder in folders])
    assert indexer.workspace_of(uri_of(inner / "a.py")) is None
    model.index_updates.clear()
    assert await indexer.refresh(request_in(model, folders, inner / "a.py"))
    assert indexer.workspace_of(uri_of(inner / "a.py")) == found[inner]
    assert model.index_updates == []  # the worker has kept it


async def test_a_folder_that_is_removed_ends_its_refresh(
    model: PlayedModel, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    indexer = WorkspaceIndexer()
    asked = asyncio.Event()

    def busy() -> bool:
        asked.set()
        return True

    task = asyncio.create_task(indexer.refresh(request(model, root, busy=busy)))
    await asyncio.wait_for(asked.wait(), 60)
    indexer.folders_changed([])
    await asyncio.wait_for(task, 60)
    assert not model.index_updates
    indexer.close()


async def test_windows_of_one_folder_share_its_index(model: PlayedModel, root: Path) -> None:
    first, second = WorkspaceIndexer(), WorkspaceIndexer()
    await first.refresh(request(model, root))
    model.index_updates.clear()
    await second.refresh(request(model, root))
    uri = uri_of(root / "app/main.py")
    assert first.workspace_of(uri) == second.workspace_of(uri)
    assert first.workspace_of(uri) is not None
    assert model.index_updates == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
async def test_a_branch_switch_reads_what_it_changed(
    model: PlayedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = partial(git_in, tmp_path)
    for number in range(30):
        (tmp_path / f"{number}.py").write_text(f"value = {number}\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    git("switch", "-c", "other")
    (tmp_path / "3.py").write_text("changed = True\n")
    (tmp_path / "4.py").unlink()
    (tmp_path / "new.py").write_text("new = True\n")
    git("add", ".")
    git("commit", "-m", "two")
    git("switch", "main")
    indexer = WorkspaceIndexer()
    await indexer.refresh(request(model, tmp_path, "0.py"))
    assert len(texts(model)) == 30
    for branch, sent, removed in (
        ("other", {"3.py": "changed = True\n", "new.py": "new = True\n"}, ["4.py"]),
        ("main", {"3.py": "value = 3\n", "4.py": "value = 4\n"}, ["new.py"]),
    ):
        git("switch", branch)
        model.index_updates.clear()
        indexer.files_changed()
        await indexer.refresh(request(model, tmp_path, "0.py"))
        assert texts(model) == sent
        assert [path for update in model.index_updates for path in update.removed] == removed
