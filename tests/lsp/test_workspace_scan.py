"""What the server makes of the other files of a workspace: when they are read, and which suggestions they change."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol import types

from codegen_lsp.lsp.handlers.inline_completion import scan_workspace
from codegen_lsp.suggest.workspace_context import EMPTY
from tests.lsp.conftest import Editor

ALIKE = "connection = open_connection(host, port)\nreply = connection.send(request)\nconnection.close()\n"
HERE = "from app.models import User\n\nconnection = open_connection(host, port)\nreply = connection."
MODELS = "class User:\n    name: str\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace."""
    root = tmp_path / "project"
    files = {"main.py": HERE, "app/models.py": MODELS, "app/alike.py": "import socket\n" + ALIKE}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


async def test_what_was_found_goes_with_the_next_request(editor: Editor, root: Path) -> None:
    await editor.initialize(options={"model": "native"})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await scan_workspace(editor.server, uri, len(HERE))
    await editor.complete(3, 19, uri=uri)
    (first,) = [params for params in editor.model.generated if not params.background]
    assert any(ALIKE in text for text in first.related)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    await editor.settle()
    assert editor.server.scanner.context(uri) == EMPTY


@pytest.mark.parametrize(
    "options", [{"model": "native", "ablate": ["context", "modules"]}, {"model": "ct2", "ablate": ["modules"]}]
)
async def test_nothing_is_read_where_it_is_of_no_use(editor: Editor, root: Path, options: dict[str, object]) -> None:
    await editor.initialize(options=options)
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    uri = (root / "main.py").as_uri()
    editor.open(HERE, uri=uri)
    await scan_workspace(editor.server, uri, len(HERE))
    assert editor.server.scanner.is_due(uri)


@pytest.fixture
async def workspace(editor: Editor, root: Path) -> tuple[Editor, str, str]:
    """An editor with two documents, of which the first imports the second."""
    await editor.initialize(options={"model": "ct2"})
    editor.server.workspace.add_folder(types.WorkspaceFolder(root.as_uri(), "project"))
    main, models = (root / "main.py").as_uri(), (root / "app/models.py").as_uri()
    editor.open("from app import models\nx = \n", uri=main)
    editor.open(MODELS, uri=models)
    editor.model.answer = lambda params: ["models.Group"]
    await scan_workspace(editor.server, main, 0)
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
    await scan_workspace(editor.server, main, 0)
    assert editor.server.scanner.context(main).modules["app.models"] == {"User", "Group"}
