"""Truncation before patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.truncation import Truncation

PATTERNS = [r"\n\n^#", "^'''", "\n\n\n"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x = 1\n", "x = 1\n"),
        ("x = 1\n\n# next", "x = 1"),
        ("x = 1\n# near", "x = 1\n# near"),
        ("x\n'''text", "x\n"),
        ("x\n\n\ny", "x"),
        ("print(1)\nprint(2)\n", "print(1)\n"),
        ("def f(): pass\ndef g(): pass", "def f(): pass\n"),
        ("", ""),
    ],
)
def test_patterns(text: str, kept: str) -> None:
    truncation = Truncation.of(PATTERNS)
    assert truncation.apply(text) == kept
    assert truncation.cuts(text) == (kept != text)


def test_without_patterns_nothing_is_cut() -> None:
    text = "print(1)\nprint(2)\n\n\n"
    assert Truncation.of([]).apply(text) == Truncation.of([]).safe(text) == text


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="no regular expression"):
        Truncation.of(["("])


@given(st.text(alphabet="ab#\n'", max_size=30), st.integers(0, 30))
def test_what_is_shown_early_is_kept(text: str, length: int) -> None:
    truncation = Truncation.of(PATTERNS)
    assert truncation.apply(text).startswith(truncation.safe(text[:length]))
