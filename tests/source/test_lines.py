"""Lines and their ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.source.lines import end_of_line, line_starts, slice_between, start_of_line, with_lf

TEXTS = st.text(alphabet="ab\r\n\f\u2028", max_size=30)


@pytest.mark.parametrize(
    ("text", "starts"), [("", [0]), ("a", [0]), ("a\nb\r\nc\rd", [0, 2, 5, 7]), ("\r\n\r\n", [0, 2, 4]), ("a\fb", [0])]
)
def test_line_starts(text: str, starts: list[int]) -> None:
    assert line_starts(text) == starts


@given(TEXTS)
def test_starts_and_ends_agree(text: str) -> None:
    starts = line_starts(text)
    lines = with_lf(text).split("\n")
    assert len(starts) == len(lines)
    for start, line in zip(starts, lines, strict=True):
        assert text[start : end_of_line(text, start)] == line
        for offset in range(start, start + len(line) + 1):
            assert start_of_line(text, offset) == start
            assert end_of_line(text, offset) == start + len(line)


def test_a_slice_does_not_begin_with_half_a_line_break() -> None:
    assert slice_between("a\r\nb", 2, 4) == "b"
    assert slice_between("a\n\nb", 2, 4) == "\nb"
    assert slice_between("a\r\nb", 1, 4) == "\r\nb"
    assert slice_between("\nb", 0, 2) == "\nb"
