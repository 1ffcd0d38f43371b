"""The syntax around a selection."""

from __future__ import annotations

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
