"""Cells of notebooks: each is asked for as though the cells before it stood above it, and answered as what it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lsp.conftest import Editor

NOTEBOOK = "file:///project/study.ipynb"


def cell_uri(name: str) -> str:
    return f"vscode-notebook-cell:/project/study.ipynb#{name}"


def item(name: str, text: str, language: str = "python") -> dict[str, Any]:
    return {"uri": cell_uri(name), "languageId": language, "version": 1, "text": text}


def cells_of(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": 2 if item["languageId"] == "python" else 1, "document": item["uri"]} for item in items]


def open_notebook(editor: Editor, *items: dict[str, Any]) -> None:
    document = {"uri": NOTEBOOK, "notebookType": "jupyter-notebook", "version": 1, "cells": cells_of(*items)}
    editor.notify("notebookDocument/didOpen", {"notebookDocument": document, "cellTextDocuments": list(items)})


def change(editor: Editor, **cells: Any) -> None:
    document = {"uri": NOTEBOOK, "version": 2}
    editor.notify("notebookDocument/didChange", {"notebookDocument": document, "change": {"cells": cells}})


@pytest.fixture
async def notebook(ready: Editor) -> Editor:
    ready.model.answer = lambda params: ["rn a + b"]
    first, prose = item("1", "import os\n"), item("2", "# Sums", "markdown")
    open_notebook(ready, first, prose, item("3", "x = 1\r\n"), item("4", "def add(a, b):\n    retu"))
    return ready


async def test_editors_that_have_notebooks_are_told_that_they_are_known(editor: Editor) -> None:
    capabilities = (await editor.initialize({"notebookDocument": {"synchronization": {}}}))["capabilities"]
    assert capabilities["notebookDocumentSync"] == {"notebookSelector": [{"notebook": "*"}]}


async def test_a_cell_goes_on_from_the_code_before_it(notebook: Editor) -> None:
    (found,) = await notebook.complete(1, 8, uri=cell_uri("4"))
    assert notebook.model.generated[-1].prefix == "import os\n\nx = 1\n\ndef add(a, b):\n    retu"
    assert found["insertText"] == "    return a + b"
    assert found["range"] == {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 8}}


async def test_the_first_cell_stands_alone(notebook: Editor) -> None:
    await notebook.complete(0, 9, uri=cell_uri("1"))
    assert notebook.model.generated[-1].prefix == "import os"


async def test_changes_of_a_cell_before_are_read(notebook: Editor) -> None:
    text = {"document": {"uri": cell_uri("3"), "version": 2}, "changes": [{"text": "y = 2"}]}
    change(notebook, textContent=[text])
    await notebook.complete(1, 8, uri=cell_uri("4"))
    assert notebook.model.generated[-1].prefix.startswith("import os\n\ny = 2\n\ndef")


async def test_cells_come_go_and_move(notebook: Editor) -> None:
    new = item("5", "import sys")
    change(notebook, structure={"array": {"start": 1, "deleteCount": 0, "cells": cells_of(new)}, "didOpen": [new]})
    gone = {"array": {"start": 0, "deleteCount": 1}, "didClose": [{"uri": cell_uri("1")}]}
    change(notebook, structure=gone)
    await notebook.complete(1, 8, uri=cell_uri("4"))
    assert notebook.model.generated[-1].prefix.startswith("import sys\n\nx = 1\n\ndef")
    moved = {"array": {"start": 0, "deleteCount": 4, "cells": [{"kind": 2, "document": cell_uri("4")}]}}
    change(notebook, structure=moved)
    notebook.type(2, 1, 8, "r", uri=cell_uri("4"))
    await notebook.complete(1, 9, uri=cell_uri("4"))
    assert notebook.model.generated[-1].prefix == "def add(a, b):\n    retur"


async def test_an_emoji_above_moves_nothing(ready: Editor) -> None:
    ready.model.answer = lambda params: ["t(s)"]
    open_notebook(ready, item("1", "s = '😀'"), item("2", "'😀'; prin"))
    (found,) = await ready.complete(0, 10, uri=cell_uri("2"))
    assert found["range"] == {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 10}}
    assert found["insertText"] == "'😀'; print(s)"


async def test_an_entry_selected_in_a_cell(notebook: Editor) -> None:
    selected = {"range": {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 8}}, "text": "return"}
    notebook.model.answer = lambda params: [" a + b"]
    (found,) = await notebook.complete(1, 8, uri=cell_uri("4"), selected=selected)
    assert notebook.model.generated[-1].prefix.endswith("def add(a, b):\n    return")
    assert found["insertText"].endswith("return a + b")
    assert found["range"]["end"] == {"line": 1, "character": 8}


async def test_a_notebook_is_excluded_by_its_name(editor: Editor) -> None:
    await editor.initialize(options={"exclude": ["*.ipynb"]})
    open_notebook(editor, item("1", "import os"))
    assert await editor.complete(0, 9, uri=cell_uri("1")) == []
    assert (await editor.explain(cell_uri("1")))["rule"] == "excluded"


async def test_a_change_that_cannot_be_read_makes_its_cells_unknown(notebook: Editor) -> None:
    change(notebook, textContent="nonsense")
    assert await notebook.complete(1, 8, uri=cell_uri("4")) == []
    assert (await notebook.explain(cell_uri("4")))["rule"] == "document_unknown"


@pytest.mark.parametrize(
    "cell",
    [
        "%%bash\nfor f in *",
        "\n%%html\n<b",
        "%%sh -e\nretu",
        "%%javascript\nretu",
        "%%writefile a.txt\nretu",
        "%%not_known\nretu",
        "%%ba",
        "x = 1\n!git comm",
        "if x:\n    !git comm",
        "files = !l",
        "%pip inst",
        "%%time\nx = 1\n%matplo",
    ],
)
async def test_no_python_is_suggested_in_what_is_not_python(ready: Editor, cell: str) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    open_notebook(ready, item("1", "import os"), item("2", cell))
    line, column = cell.count("\n"), len(cell.split("\n")[-1])
    for kind in (1, 2):
        assert await ready.complete(line, column, invoked=kind == 1, uri=cell_uri("2")) == []
    assert (await ready.explain(cell_uri("2")))["rule"] == "cell_magic"
    assert ready.model.generated == []


async def test_no_python_is_refactored_in_what_is_not_python(editor: Editor) -> None:
    resolving = {"dataSupport": True, "resolveSupport": {"properties": ["edit"]}}
    await editor.initialize({"textDocument": {"codeAction": resolving}, "window": {"workDoneProgress": True}})
    code = "def add(a, b):\n    return a + b"
    open_notebook(editor, item("1", code), item("2", f"%%bash\n{code}"))
    offered = []
    for name, line in (("1", 1), ("2", 2)):
        at = {"start": {"line": line, "character": 11}, "end": {"line": line, "character": 16}}
        params = {"textDocument": {"uri": cell_uri(name)}, "range": at, "context": {"diagnostics": []}}
        offered.append(await editor.request("textDocument/codeAction", params))
    assert offered[0]
    assert not offered[1]


@pytest.mark.parametrize("magic", ["%%time", "%%timeit -n 3", "%%capture out", "%%prun", "%%python3"])
async def test_cells_that_run_their_python_are_completed(ready: Editor, magic: str) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    open_notebook(ready, item("1", f"{magic}\n\ndef add(a, b):\n    retu"))
    (found,) = await ready.complete(3, 8, uri=cell_uri("1"))
    assert found["insertText"] == "    return a + b"


async def test_cells_below_do_not_read_what_is_not_python(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    before = [
        "%%bash\nfor f in *; do rm $f; done",
        "%%time\nimport os\n!pip install x\nif os:\n    %cd ..\nfiles = !ls\n%time y = 1\nhelp?",
        'text = """\n!not a command\n"""\nz = (y\n     %files)  # why?',
    ]
    cells = [item(str(number), text) for number, text in enumerate(before)]
    open_notebook(ready, *cells, item("4", "def add(a, b):\n    retu"))
    await ready.complete(1, 8, uri=cell_uri("4"))
    assert ready.model.generated[-1].prefix == (
        "import os\nif os:\n    pass\nfiles = None\ny = 1\n\n"
        'text = """\n!not a command\n"""\nz = (y\n     %files)  # why?\n\n'
        "def add(a, b):\n    retu"
    )


async def test_a_file_is_no_cell(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    ready.open("%%bash\nimport os\n\ndef add(a, b):\n    retu")
    await ready.complete(4, 8)
    assert ready.model.generated[-1].prefix.startswith("%%bash")


async def test_a_closed_notebook_is_forgotten(notebook: Editor) -> None:
    cells = [{"uri": cell_uri(str(number))} for number in range(1, 5)]
    notebook.notify("notebookDocument/didClose", {"notebookDocument": {"uri": NOTEBOOK}, "cellTextDocuments": cells})
    assert len(notebook.server.session.documents) == 0
    assert notebook.server.session.notebooks.cells(NOTEBOOK) == []
    assert await notebook.complete(0, 0, uri=cell_uri("4")) == []
