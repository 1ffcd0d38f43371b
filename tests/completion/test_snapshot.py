"""The cursor of a snapshot and the text around it."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.completion.snapshot import REACH, Selected, Snapshot


def at(source: str) -> Snapshot:
    return Snapshot("file:///a.py", 1, "python", source.replace("│", ""), source.index("│"))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_around(line_end: str) -> None:
    cursor = at("one\ntwo\nth│ree\nfour\n".replace("\n", line_end)).cursor
    assert (cursor.before, cursor.after) == ("th", "ree")
    assert cursor.above == ("one", "two")
    assert cursor.below == ("four", "")


def test_the_cursor_is_read_once() -> None:
    snapshot = at("x = │\n")
    assert snapshot.cursor is snapshot.cursor
    assert evolve(snapshot, offset=0).cursor is not snapshot.cursor


def test_an_empty_document() -> None:
    cursor = at("│").cursor
    assert (cursor.before, cursor.after, cursor.above, cursor.below) == ("", "", (), ())
    assert (cursor.start, cursor.end, cursor.kept) == (0, 0, "")


def test_separators_that_end_no_line() -> None:
    cursor = at("a\x0cb\u2028c\x85d│").cursor
    assert cursor.before == "a\x0cb\u2028c\x85d"
    assert cursor.above == ()


def test_only_the_neighbourhood_is_read() -> None:
    cursor = at("x = 1\n" * 100_000 + "│\n" + "x = 1\n" * 100_000).cursor
    assert sum(len(line) + 1 for line in cursor.above) <= REACH
    assert sum(len(line) + 1 for line in cursor.below) <= REACH
    assert set(cursor.below) == {"x = 1"}


def test_a_selected_entry_stands_in_the_line() -> None:
    cursor = evolve(at("a = os.pa│)"), selected=Selected(7, 9, "path")).cursor
    assert (cursor.before, cursor.after) == ("a = os.path", ")")
    assert (cursor.start, cursor.end, cursor.kept) == (7, 9, "path")


@pytest.mark.parametrize("span", [(0, 3), (9, 12), (12, 13)])
def test_a_selected_entry_elsewhere_is_passed_over(span: tuple[int, int]) -> None:
    snapshot = at("one\ntwo│\nthree")
    assert evolve(snapshot, selected=Selected(*span, "entry")).cursor == snapshot.cursor


@given(st.text(alphabet="ab \n\r\t😀\u2028"), st.data())
def test_a_cursor_anywhere(text: str, data: st.DataObject) -> None:
    snapshot = Snapshot("file:///a.py", 1, "python", text, data.draw(st.integers(0, len(text))))
    cursor = snapshot.cursor
    assert text[snapshot.line_start : snapshot.line_end] == cursor.before + cursor.after
    assert not set("\r\n") & set(cursor.before + cursor.after)
    assert snapshot.line_start == 0 or text[snapshot.line_start - 1] in "\r\n"
    assert snapshot.line_end == len(text) or text[snapshot.line_end] in "\r\n"
