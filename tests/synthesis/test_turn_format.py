"""The format of turns, and where an answer ends."""

from __future__ import annotations

import pytest

from codegen_lsp.inference.stopping import stop_position
from codegen_lsp.synthesis.turn_format import as_comment, stop_rules, truncate

TRUNCATED = [
    ("x = 1\n", "x = 1\n"),
    ("x = 1\n# next", "x = 1\n"),
    ("# at once", ""),
    ("x = 1  # kept\ny", "x = 1  # kept\ny"),
    ("x = 1\n\n\n\ny", "x = 1"),
    ("x = 1\n\ny = 2", "x = 1\n\ny = 2"),
    ("print(1)\nx", "print(1)\nx"),
    ("print(1)\nx\nprint(2)", "print(1)\nx\n"),
    ("    print(1)\nprint(2)\nprint(3)", "    print(1)\nprint(2)\n"),
    ("def f():\n    pass\n\ndef g(): pass", "def f():\n    pass\n\n"),
    ("def f(): pass\nprint(1)\nprint(2)\ndef g(): pass", "def f(): pass\nprint(1)\n"),
    ("default = 1\ndef f(): pass", "default = 1\n"),
    ('x = 1\n"""text"""', "x = 1\n"),
    ("'''text", ""),
    ("x = '''\n'''", "x = '''\n"),
    ("x = 1<|endoftext|>y", "x = 1"),
    ("\nif a > b:\n    r = a\nelse:\n    r = b\n\n\n\n#", "\nif a > b:\n    r = a\nelse:\n    r = b"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "kept"), TRUNCATED)
def test_truncation(text: str, kept: str) -> None:
    assert truncate(text) == kept


@pytest.mark.parametrize(("text", "kept"), [case for case in TRUNCATED if "<|" not in case[0]])
def test_a_turn_ends_where_it_would_be_truncated(text: str, kept: str) -> None:
    """No token is computed that would be cut away; the end-of-text token ends an answer by itself."""
    cut = stop_position(text, stop_rules(64))
    assert (text if cut is None else text[:cut]) == kept


@pytest.mark.parametrize(
    ("request_text", "comment"), [("Sum x.", "# Sum x.\n"), ("a\n\nb ", "# a\n#\n# b\n"), ("", "#\n")]
)
def test_what_is_asked_is_a_comment(request_text: str, comment: str) -> None:
    assert as_comment(request_text) == comment
