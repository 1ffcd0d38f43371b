"""Files of a real workspace on disk: which are read, and which never."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from lsprotocol import types

from codegen_lsp.completion.context import Surroundings
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.workspace import related as neighbours
from codegen_lsp.workspace.related import Neighbours, Request, look_around
from tests.lsp.conftest import Editor

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
        return [snippet.path for snippet in reader.look(request).snippets]

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
        assert Neighbours().look(Request(snapshot, (root.as_uri(),), (), {})) == Surroundings()


def test_large_workspaces_are_not_read_to_the_end(
    ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "MOST_FILES", 1)
    assert ask() == []


async def test_what_was_found_goes_with_the_next_request(editor: Editor, root: Path) -> None:
    await editor.initialize(options={"model": "native"})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await look_around(editor.server, uri, len(HERE))
    await editor.complete(3, 19, uri=uri)
    (first,) = [params for params in editor.model.generated if not params.background]
    assert any(ALIKE in text for text in first.related)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    await editor.settle()
    assert editor.server.surroundings == editor.server.looked_around == {}


@pytest.mark.parametrize(
    "options", [{"model": "native", "without": ["context", "modules"]}, {"model": "ct2", "without": ["modules"]}]
)
async def test_nothing_is_read_where_it_is_of_no_use(editor: Editor, root: Path, options: dict[str, object]) -> None:
    await editor.initialize(options=options)
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await look_around(editor.server, uri, len(HERE))
    assert editor.server.surroundings == {}


def modules(root: Path, **how: object) -> Modules:
    """The modules that `main.py` is told of."""
    text = "from app import alike, local, models, other\nfrom generated import alike as more\nimport secrets\n"
    snapshot = Snapshot((root / "main.py").as_uri(), 1, "python", text, len(text))
    request = Request(snapshot, (root.as_uri(),), how.get("exclude", ()), how.get("open_texts", {}))  # type: ignore[arg-type]
    return Neighbours().look(request).modules


def test_names_of_imported_modules(root: Path) -> None:
    assert set(modules(root)) == {"app.alike", "app.models", "app.other"}  # what is ignored was not read
    assert modules(root)["app.models"] == {"User"}


def test_names_of_modules_that_the_user_excluded(root: Path) -> None:
    assert set(modules(root, exclude=("app/m*.py",))) == {"app.alike", "app.other"}


def test_names_of_modules_that_are_open(root: Path) -> None:
    uri = (root / "app/models.py").as_uri()
    assert modules(root, open_texts={uri: "class Group: pass\n"})["app.models"] == {"Group"}


@pytest.fixture
async def workspace(editor: Editor, root: Path) -> tuple[Editor, str, str]:
    """An editor with two documents, of which the first imports the second."""
    await editor.initialize(options={"model": "ct2"})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    main, models = (root / "main.py").as_uri(), (root / "app/models.py").as_uri()
    editor.open("from app import models\nx = \n", uri=main)
    editor.open(MODELS, uri=models)
    editor.model.answer = lambda params: ["models.Group"]
    await look_around(editor.server, main, 0)
    return editor, main, models


async def test_a_name_that_an_imported_module_lacks_is_not_suggested(workspace: tuple[Editor, str, str]) -> None:
    editor, main, _ = workspace
    assert await editor.complete(1, 4, uri=main) == []
    told = await editor.explain(main)
    assert told["rule"] == "undefined_name"
    assert "`models.Group`" in told["reason"]
    editor.model.answer = lambda params: ["models.User"]
    assert len(await editor.complete(1, 4, uri=main)) == 1


async def test_a_module_that_is_being_edited_may_have_the_name(workspace: tuple[Editor, str, str]) -> None:
    editor, main, models = workspace
    editor.type(2, 2, 0, "class Group: pass\n", uri=models)
    assert len(await editor.complete(1, 4, uri=main)) == 1
    await look_around(editor.server, main, 0)
    assert editor.server.around(main).modules["app.models"] == {"User", "Group"}


async def test_what_was_found_before_an_edit_of_another_document_does_not_count(
    workspace: tuple[Editor, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, main, models = workspace
    editor.server.looked_around.clear()
    editor.server.surroundings.clear()
    begun, go_on = threading.Event(), threading.Event()
    look = editor.server.neighbours.look

    def slowly(request: Request) -> Surroundings:
        begun.set()
        go_on.wait(10)
        return look(request)

    monkeypatch.setattr(editor.server, "neighbours", SimpleNamespace(look=slowly))
    looking = asyncio.create_task(look_around(editor.server, main, 0))
    await asyncio.to_thread(begun.wait, 10)
    editor.type(2, 2, 0, "class Group: pass\n", uri=models)
    go_on.set()
    await looking
    assert editor.server.around(main).modules == {}
