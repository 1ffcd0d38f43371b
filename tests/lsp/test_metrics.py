"""The counts that a session leaves in the metrics file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.suggest import metrics
from codegen_lsp.suggest.metrics import default_path, read
from tests.lsp.conftest import Editor

CODE = "def add(a, b):\n    retu"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the counts, which is written at once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(metrics, "WRITE_INTERVAL", 0.0)
    return default_path()


def counts(path: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in read(path):
        found[row.what] += row.count
    return dict(found)


async def test_a_session_is_counted(editor: Editor, path: Path) -> None:
    await editor.initialize()
    editor.model.answer = lambda params: ["rn a + b"] if params.prefix.endswith("retu") else []
    editor.open(CODE)
    (item,) = await editor.complete(1, 8)
    editor.type(2, 1, 8, "r")
    await editor.complete(1, 9)
    editor.change(3, {"range": item["range"] | {"end": {"line": 1, "character": 9}}, "text": item["insertText"]})
    await editor.complete(1, 16)
    await editor.server.session.close()
    found = counts(path)
    assert found["requests"] == 3
    assert found["shown"] == 1
    assert found["accepted"] == 1
    assert found["accepted characters"] == len("n a + b")
    assert found["time cache"] == 1
    assert {row.language for row in read(path)} == {"python"}
    assert "retu" not in path.read_bytes().decode("latin-1")


async def test_typed_over_and_closed(editor: Editor, path: Path) -> None:
    await editor.initialize()
    editor.model.answer = lambda params: ["rn a"]
    editor.open(CODE)
    await editor.complete(1, 8)
    editor.type(2, 1, 8, "x")
    editor.change(3, {"range": {"start": {"line": 1, "character": 8}, "end": {"line": 1, "character": 9}}, "text": ""})
    await editor.complete(1, 8)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": "file:///project/main.py"}})
    await editor.server.session.close()
    found = counts(path)
    assert found["typed over"] == 1
    assert found["shown"] == 2
    assert "accepted" not in found


@pytest.mark.parametrize("options", [{"metrics": False}])
async def test_nothing_is_counted_when_it_is_off(editor: Editor, path: Path, options: dict[str, Any]) -> None:
    await editor.initialize(options=options)
    editor.model.answer = lambda params: ["rn a"]
    editor.open(CODE)
    await editor.complete(1, 8)
    await editor.server.session.close()
    assert not path.exists()


async def test_the_editors_report_of_an_acceptance_is_counted(editor: Editor, path: Path) -> None:
    await editor.initialize()
    editor.model.answer = lambda params: ["rn a + b"]
    editor.open(CODE)
    (item,) = await editor.complete(1, 8)
    await editor.request("workspace/executeCommand", {"command": "codegen-lsp.accepted"} | item["command"])
    told = await editor.explain()
    assert (told["shown"], told["accepted"]) == (1, 1)
    await editor.server.session.close()
    assert counts(path)["accepted"] == 1
