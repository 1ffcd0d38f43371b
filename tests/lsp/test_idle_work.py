"""Work while the user pauses: warming the KV cache, and scanning the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from codegen_lsp.suggest.workspace_context import EMPTY
from tests.lsp.conftest import URI, Editor, pause

SIMILAR = "connection = open_connection(host, port)\nreply = connection.send(request)\nconnection.close()\n"
CODE = "from app.models import User\n\nconnection = open_connection(host, port)\nreply = connection."
MODELS = "class User:\n    name: str\n"


async def test_opening_and_pausing_warm_the_cache(ready: Editor) -> None:
    ready.open("a = 1\n")
    await pause(ready)
    assert ready.model.warmed[0].prefix == "a = 1\n"
    ready.type(2, 1, 0, "b = ")
    await pause(ready)
    assert ready.model.warmed[1].prefix == "a = 1\nb = "
    assert ready.model.warmed[1].document == URI


async def test_a_pause_takes_time(ready: Editor) -> None:
    ready.server.session.suggestions.pause_timer.seconds = 0.0
    ready.open("a = 1\n")
    await ready.wait_for(lambda _: len(ready.model.warmed) == 1)


async def test_a_prefix_that_the_model_has_read_is_not_warmed(ready: Editor) -> None:
    ready.open("a = 1\nb = ")
    await ready.complete(1, 4)
    assert ready.model.generated
    ready.server.session.suggestions.pause_timer.schedule(URI, 10)
    await pause(ready)
    assert ready.model.warmed == []


async def test_a_pause_after_an_answer_of_the_model_is_idle_time(ready: Editor) -> None:
    ready.open("a = 1\nb = ")
    await ready.complete(1, 4)
    assert ready.model.generated
    assert ready.server.session.suggestions.pause_timer.active


async def test_no_warming_while_a_request_runs(ready: Editor) -> None:
    ready.model.gate.clear()
    ready.open("a = 1\nb = ")
    number = ready.begin_completion(1, 4)
    await ready.settle()
    ready.open("c = 1\n", uri="file:///c.py")
    await pause(ready)
    assert ready.model.warmed == []
    ready.model.gate.set()
    await ready.answer(number)


@pytest.mark.parametrize(
    ("options", "uri"),
    [({"warm": False}, URI), ({"enabled": False}, URI), ({}, "file:///.env"), ({"exclude": ["*.py"]}, URI)],
)
async def test_documents_that_may_not_be_read_are_not_warmed(editor: Editor, options: Any, uri: str) -> None:
    await editor.initialize(options=options)
    editor.open("a = 1\n", uri=uri)
    await pause(editor)
    assert editor.model.warmed == []


async def test_a_closed_document_is_not_warmed(ready: Editor) -> None:
    ready.open("a = 1\n")
    ready.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert not ready.server.session.suggestions.pause_timer.active
    await pause(ready)
    assert ready.model.warmed == []


# Scans of the workspace.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace."""
    root = tmp_path / "project"
    files = {"main.py": CODE, "app/models.py": MODELS, "app/similar.py": "import socket\n" + SIMILAR}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


async def opened(editor: Editor, root: Path, options: dict[str, object]) -> str:
    """Open `main.py` in the workspace; its URI."""
    await editor.initialize(options=options)
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(CODE, uri=uri)
    return uri


@pytest.mark.parametrize("warm", [True, False])
async def test_snippets_of_other_files_go_with_the_next_request(editor: Editor, root: Path, warm: bool) -> None:
    uri = await opened(editor, root, {"model": "native", "warm": warm, "index": {"enabled": False}})
    await pause(editor)
    assert len(editor.model.warmed) == int(warm)
    await editor.complete(3, 19, uri=uri)
    (first,) = [params for params in editor.model.generated if not params.background]
    assert any(SIMILAR in text for text in first.snippets)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    await editor.settle()
    assert editor.server.session.suggestions.scanner.context(uri) == EMPTY


@pytest.mark.parametrize(
    "options", [{"model": "native", "ablate": ["context", "modules"]}, {"model": "ct2", "without": ["modules"]}]
)
async def test_no_scan_whose_result_is_not_used(editor: Editor, root: Path, options: dict[str, object]) -> None:
    uri = await opened(editor, root, options)
    await pause(editor)
    assert len(editor.model.warmed) == 1
    assert editor.server.session.suggestions.scanner.is_due(uri, len(CODE))


@pytest.fixture
async def workspace(editor: Editor, root: Path) -> tuple[Editor, str, str]:
    """An editor with two documents, of which the first imports the second."""
    await editor.initialize(options={"model": "ct2", "warm": False})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    main, models = (root / "main.py").as_uri(), (root / "app/models.py").as_uri()
    editor.open(MODELS, uri=models)
    editor.open("from app import models\nx = \n", uri=main)
    editor.model.answer = lambda params: ["models.Group"]
    await pause(editor)
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
    editor.type(2, 1, 4, "m", uri=main)
    await pause(editor)
    assert editor.server.session.suggestions.scanner.context(main).modules["app.models"] == {"User", "Group"}
