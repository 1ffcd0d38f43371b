"""Stop rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.inference.stopping import indent_width, stop_position

BODY = {"strings": ["\n"], "openers": [":"], "opened_lines": 3, "opened_indent": 5}
"""One line, and the body of the block that it may open."""
CASES = [
    # text, rules, what is kept (None: not finished yet)
    ("x + 1", {"max_lines": 1}, None),
    ("x + 1\n", {"max_lines": 1}, "x + 1"),
    ("\n    return x", {"max_lines": 1}, None),
    ("\n    return x\n", {"max_lines": 1}, "\n    return x"),
    ("  \n\n  a\nb", {"max_lines": 1}, "  \n\n  a"),
    ("a\nb\nc\n", {"max_lines": 2}, "a\nb"),
    ("a\n\nb\n", {"max_lines": 2}, "a\n"),
    ("\n    a\n    b\nc", {"max_lines": 9, "min_indent": 4}, "\n    a\n    b"),
    ("\n    a\n\n\nc", {"max_lines": 9, "min_indent": 4}, "\n    a"),
    ("\n    a\n\n\n  ", {"max_lines": 9, "min_indent": 4}, None),
    ("\n\ta\nb", {"max_lines": 9, "min_indent": 8}, "\n\ta"),
    ("\n\ta\n        b\n    c", {"max_lines": 9, "min_indent": 8}, "\n\ta\n        b"),
    ("b\n    c", {"max_lines": 9, "min_indent": 4}, None),
    ("x = 1\nclass A", {"max_lines": 9, "strings": ["\nclass ", "\ndef "]}, "x = 1"),
    ("x\n\n\ny", {"max_lines": 9, "strings": ["\n\n\n"]}, "x"),
    ("anything", {"max_lines": 1, "strings": [""]}, None),
    ("print(1)\nx", {"max_lines": 9, "line_starts": [("print", 2)]}, None),
    ("print(1)\n print(2)\nprint(3)", {"max_lines": 9, "line_starts": [("print", 2)]}, "print(1)\n print(2)\n"),
    ("# a", {"max_lines": 9, "line_starts": [("#", 1), ("print", 2)]}, ""),
    ("x  # a\n# b", {"max_lines": 9, "line_starts": [("#", 1)]}, "x  # a\n"),
    ("a.b\naxb", {"max_lines": 9, "line_starts": [("a.b", 2)]}, None),
    ("", {"max_lines": 1}, None),
    ("if x:", BODY, None),
    ("if x:\n        y", BODY, None),
    ("if x:\n        y\n    z", BODY, "if x:\n        y"),
    ("if x:\n        a\n        b\n        c\n", BODY, "if x:\n        a\n        b"),
    ("x = 1\n", BODY, "x = 1"),
    ("\nif x:\n", BODY, ""),
]


@pytest.mark.parametrize(("text", "rules", "kept"), CASES)
def test_stop_position(text: str, rules: dict[str, object], kept: str | None) -> None:
    cut = stop_position(text, StopRules(**rules))  # type: ignore[arg-type]
    assert (None if cut is None else text[:cut]) == kept


@given(st.text(alphabet="ab \n\t", max_size=40), st.integers(1, 4), st.integers(0, 8) | st.none())
def test_a_cut_never_moves_when_more_text_arrives(text: str, max_lines: int, min_indent: int | None) -> None:
    """A text that is cut early would be cut later too, so no token is computed in vain."""
    rules = StopRules(max_lines=max_lines, min_indent=min_indent, strings=["ab"])
    first = next((cut for n in range(len(text) + 1) if (cut := stop_position(text[:n], rules)) is not None), None)
    final = stop_position(text, rules)
    assert (first is None) == (final is None)
    if first is not None and final is not None:
        assert final <= first


@pytest.mark.parametrize(("line", "width"), [("a", 0), ("  a", 2), ("\ta", 8), ("  \ta", 8), ("\t  a", 10), ("", 0)])
def test_indent_width(line: str, width: int) -> None:
    assert indent_width(line) == width
