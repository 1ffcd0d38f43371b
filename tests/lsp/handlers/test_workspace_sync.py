"""Files and folders of the workspace: what the editor reports of them reaches the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lsp.conftest import Editor, pause

CODE = "import os\n\nvalue = 1\n"
OPERATIONS = {name: {"dynamicRegistration": False, name: True} for name in ("didCreate", "didRename", "didDelete")}


def folder_at(path: Path) -> dict[str, str]:
    return {"uri": path.as_uri(), "name": path.name}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Workspace folders, with names whose URIs differ from their paths."""
    made = [tmp_path / name for name in ("C#", "50%25 off?", "plain")]
    for folder in made:
        folder.mkdir()
        (folder / "main.py").write_text(CODE)
        (folder / "other.py").write_text(f"# {folder.name}\n")
    # What their names would be if they were decoded twice.
    (tmp_path / "C").mkdir()
    (tmp_path / "C" / "wrong.py").write_text("wrong = 1\n")
    return made


async def started(editor: Editor, folders: list[Path]) -> dict[str, Any]:
    result = await editor.request(
        "initialize",
        {
            "processId": None,
            "rootUri": folders[0].as_uri(),
            "workspaceFolders": [folder_at(folder) for folder in folders],
            "capabilities": {
                "workspace": {"fileOperations": dict.fromkeys(OPERATIONS, True), "workspaceFolders": True}
            },
            "initializationOptions": {"model": "native"},
        },
    )
    editor.notify("initialized", {})
    await editor.settle()
    return dict(result)


async def indexed(editor: Editor, path: Path) -> dict[str, set[str]]:
    """Open a document, let a pause pass, and return the indexed files by name of the folder.

    The work of the pause has ended then: a pause during a refresh starts no other one.
    """
    editor.open(CODE, uri=path.as_uri())
    await pause(editor)
    service = editor.server.session.suggestions
    await editor.until(lambda: not service.upkeep._tasks)
    assert service.indexer.workspace_of(path.as_uri()) is not None
    return {Path(key.split("\n")[0]).name: set(files) for key, files in editor.model.indexed.items()}


async def test_folders_with_special_characters_are_the_right_ones(editor: Editor, folders: list[Path]) -> None:
    await started(editor, folders)
    for folder in folders:
        await indexed(editor, folder / "main.py")
    found = await indexed(editor, folders[0] / "main.py")
    assert found == {folder.name: {"main.py", "other.py"} for folder in folders}


async def test_folders_come_and_go(editor: Editor, folders: list[Path]) -> None:
    result = await started(editor, folders[:1])
    assert result["capabilities"]["workspace"]["workspaceFolders"]["changeNotifications"]
    first, _, last = folders
    await indexed(editor, first / "main.py")
    assert editor.server.session.file_access((last / "main.py").as_uri()) is None
    event = {"added": [folder_at(last)], "removed": [folder_at(first)]}
    editor.notify("workspace/didChangeWorkspaceFolders", {"event": event})
    await editor.settle()
    session = editor.server.session
    assert session.suggestions.indexer.workspace_of((first / "main.py").as_uri()) is None
    assert session.file_access((first / "main.py").as_uri()) is None
    assert (await indexed(editor, last / "main.py"))[last.name] == {"main.py", "other.py"}
    event = {"added": [], "removed": [folder_at(last)]}
    editor.notify("workspace/didChangeWorkspaceFolders", {"event": event})
    await editor.settle()
    assert session.file_access((first / "main.py").as_uri()) is None  # not the root of `initialize` again


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("workspace/didCreateFiles", {"files": [{"uri": "file:///w/new.py"}]}),
        ("workspace/didRenameFiles", {"files": [{"oldUri": "file:///w/a.py", "newUri": "file:///w/new.py"}]}),
        ("workspace/didDeleteFiles", {"files": [{"uri": "file:///w/a.py"}]}),
        ("workspace/didChangeWatchedFiles", {"changes": [{"uri": "file:///w/new.py", "type": 1}]}),
        ("textDocument/didSave", {"textDocument": {"uri": "file:///w/a.py"}}),
    ],
)
async def test_what_happens_to_files_is_noticed(
    editor: Editor, folders: list[Path], method: str, params: dict[str, Any]
) -> None:
    result = await started(editor, folders[2:])
    operations = result["capabilities"]["workspace"]["fileOperations"]
    assert all(operations[name]["filters"][0]["pattern"]["glob"] == "**" for name in OPERATIONS)
    root = folders[2]
    await indexed(editor, root / "main.py")
    (root / "other.py").rename(root / "new.py")
    editor.notify(method, params)
    editor.type(2, 0, 0, "#", uri=(root / "main.py").as_uri())
    await pause(editor)
    await editor.until(lambda: set(next(iter(editor.model.indexed.values()))) == {"main.py", "new.py"})
