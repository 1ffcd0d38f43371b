"""Files of a real workspace on disk: which are read, and which never."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lsprotocol import types

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.editor import neighbours
from codegen_lsp.editor.neighbours import Neighbours, Request, look_around
from tests.editor.conftest import Editor

ALIKE = "connection = open_connection(host, port)\nreply = connection.send(request)\nconnection.close()\n"
HERE = "from app.models import User\n\nconnection = open_connection(host, port)\nreply = connection."
MODELS = "class User:\n    name: str\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace, and something beside it."""
    root = tmp_path / "project"
    files = {
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
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def ask(root: Path) -> Callable[..., list[str]]:
    """Paths of the snippets for `main.py`."""
    reader = Neighbours()

    def paths(text: str = HERE, name: str = "main.py", **how: object) -> list[str]:
        snapshot = Snapshot((root / name).as_uri(), 1, "python", text, len(text))
        request = Request(snapshot, (root.as_uri(),), how.get("exclude", ()), how.get("open_texts", {}))  # type: ignore[arg-type]
        return [snippet.path for snippet in reader.snippets(request)]

    return paths


def test_what_looks_alike(ask: Callable[..., list[str]]) -> None:
    assert ask() == ["app/alike.py", "local.py"]


def test_what_the_user_excluded_is_not_read(ask: Callable[..., list[str]]) -> None:
    assert ask(exclude=("app/**",)) == ["local.py"]


def test_open_documents_go_before_the_disk(ask: Callable[..., list[str]], root: Path) -> None:
    text = "import socket\n" + ALIKE
    assert ask(open_texts={(root / "app/other.py").as_uri(): text, (root / "app/alike.py").as_uri(): "x = 1\n"}) == [
        "app/other.py",
        "local.py",
    ]


def test_changed_files_are_read_again_and_vanished_ones_forgotten(ask: Callable[..., list[str]], root: Path) -> None:
    ask()
    (root / "app/alike.py").write_text("nothing = alike\n")
    os.utime(root / "app/alike.py", ns=(1, 1))
    (root / "local.py").unlink()
    assert ask() == []


def test_files_that_are_no_text_or_too_large(
    ask: Callable[..., list[str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "app/other.py").write_bytes(b"\xff\xfe" + ALIKE.encode())
    monkeypatch.setattr(neighbours, "LARGEST", 120)
    (root / "local.py").write_text(ALIKE * 3)
    assert ask() == ["app/alike.py"]


def test_documents_outside_the_workspace_or_without_a_file(root: Path) -> None:
    for uri in ((root / "../outside.py").resolve().as_uri(), "untitled:Untitled-1", "file:///nowhere/f.py"):
        snapshot = Snapshot(uri, 1, "python", HERE, len(HERE))
        assert Neighbours().texts(Request(snapshot, (root.as_uri(),), (), {})) == []


def test_large_workspaces_are_not_read_to_the_end(
    ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "MOST_FILES", 1)
    assert ask() == []


async def test_what_was_found_goes_with_the_next_request(editor: Editor, root: Path) -> None:
    await editor.initialize(options={"model": "incremental"})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await look_around(editor.server, uri, len(HERE))
    await editor.complete(3, 19, uri=uri)
    (first,) = [params for params in editor.model.generated if not params.background]
    assert any(ALIKE in text for text in first.related)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    await editor.settle()
    assert editor.server.related == {}


@pytest.mark.parametrize("options", [{"model": "incremental", "without": ["context"]}, {"model": "ct2"}])
async def test_nothing_is_read_where_it_is_of_no_use(editor: Editor, root: Path, options: dict[str, object]) -> None:
    await editor.initialize(options=options)
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await look_around(editor.server, uri, len(HERE))
    assert editor.server.related == {}
