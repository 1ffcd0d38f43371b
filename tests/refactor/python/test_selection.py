"""The syntax around a selection."""

from __future__ import annotations

import argparse
import ast
import random
from pathlib import Path

import pytest

from codegen_lsp.refactor.backend import MenuEntry
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python import selection
from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.python_backend import PythonBackend
from codegen_lsp.refactor.python.selection import SyntaxTreeCache
from tests.refactor.conftest import source


def test_a_changed_text_is_parsed_again() -> None:
    trees = SyntaxTreeCache()
    before = trees.view(source("def f(a):\n    return a│\n"))
    after = trees.view(source("def g(a):\n    return a│\n"))
    assert before is not None
    assert after is not None
    assert [node.name for node in (*before.definitions, *after.definitions)] == ["f", "g"]


def test_a_moved_cursor_parses_nothing_again() -> None:
    trees = SyntaxTreeCache()
    views = [trees.view(source(text)) for text in ("def f(a):\n    re│turn a\n", "def f(a):\n    return a│\n")]
    assert views[0] is not None
    assert views[1] is not None
    assert views[0].tree is views[1].tree


def test_one_backend_answers_for_the_text_at_hand() -> None:
    backend = PythonBackend()
    titles = [
        [entry.title for entry in backend.menu(source(text))]
        for text in ("def f():\n    pass│\n", "def g():\n    pass│\n", "def f():\n    pass│\n")
    ]
    assert titles == [["Write the body of 'f'"], ["Write the body of 'g'"], ["Write the body of 'f'"]]


def test_the_menu_is_the_same_where_the_whole_tree_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(argparse.__file__).read_text(encoding="utf-8")
    dice = random.Random(7)
    names = [SelectedSource(text, at, at) for at in (dice.randrange(len(text)) for _ in range(150))]

    def menus() -> list[list[MenuEntry]]:
        backend = PythonBackend()
        return [backend.menu(one) for one in names]

    near = menus()
    monkeypatch.setattr(selection, "nodes_near", lambda node, line: ast.walk(node))
    monkeypatch.setattr(Scope, "on_line", lambda scope, line: scope.within())
    assert near == menus()
    assert {entry.kind.name for menu in near for entry in menu} >= {"rename", "inline-variable"}


def test_a_name_on_each_line_of_a_definition_is_found() -> None:
    titles = {
        "@wr│ap(lambda _a: _a)\ndef _f(a):\n    pass\n": [],
        "@wrap(lambda _a: _│a)\ndef _f(a):\n    pass\n": [],
        "@wrap\ndef _│f(a):\n    pass\n": ["Rename '_f' to the likeliest name"],
        "def f():\n    a = 1\n    @wrap(\n        a│)\n    def g(): pass\n": ["Rename 'a' to the likeliest name"],
        "def f(\n    b=lambda: (\n        _c│ := 1)\n): pass\n": [],
        'def f(b):\n    c = 1\n    return f"""\n{b}\n{c│}"""\n': ["Rename 'c' to the likeliest name"],
    }
    backend = PythonBackend()
    for text, expected in titles.items():
        menu = backend.menu(source(text))
        assert [entry.title for entry in menu if entry.kind.name == "rename"] == expected, text
