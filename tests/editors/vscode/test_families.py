"""A model of another maker in VS Code: the suggestion follows from the text on both sides, and no mark gets into it.

`tests/editors/neovim/test_families.py` has all families.
"""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.editors.vscode.conftest import CodeServer, Window
from tests.trained_families import document, middle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_clone")]


def test_the_suggestion_follows_from_the_text_on_both_sides(
    open_window: Callable[..., Window], code_server: CodeServer, trained_family: Callable[[str], Path]
) -> None:
    """The documents have CRLF, characters outside of the basic plane, and the marks of all families as text."""
    folder = code_server.root / "families"
    (folder / ".vscode").mkdir(parents=True)
    settings = {
        "codegen-lsp.model": str(trained_family("qwen2.5-coder") / "build"),
        "codegen-lsp.infilling": "on",
        "codegen-lsp.ngrams": "off",
        "codegen-lsp.threads": 2,
        "codegen-lsp.cache.memory_mb": 64,
    }
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    window = open_window(folder)
    for number, (function, fruit) in enumerate((("count", "pears"), ("total", "plums"))):
        before, after = document(function, fruit)
        window.edit(f"basket_{number}.py", (before + after).replace("\n", "\r\n"))
        window.ready()
        line, column = before.count("\n") + 1, len(before.rsplit("\n", 1)[1]) + 1
        window.select(line, column, line, column)
        window.type(" ")
        expected = middle(function, fruit, infills=True)[1:]
        window.sees(expected)
        window.take("Tab")
        window.saves((before + " " + expected + after).replace("\n", "\r\n"))
