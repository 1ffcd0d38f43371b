from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.http.infill_marks import FORMATS, InfillFormat
from codegen_lsp.http.mark_filter import (
    ALWAYS,
    MarkFilter,
    end_marks,
    pieces_without_marks,
    without_marks,
)
from codegen_lsp.http.requests import Completed, CompletedText, Piece, TokenPiece
from tests.played_model import describe

forms = st.sampled_from([None, *FORMATS])


def fed(parts: list[str], form: InfillFormat | None) -> str:
    passing = MarkFilter(end_marks(form) if form else ())
    return "".join(passing.feed(part) for part in parts) + passing.finish()


def cut(text: str, form: InfillFormat | None) -> str:
    marks = (*ALWAYS, *(end_marks(form) if form else ()))
    return text[: min((text.find(mark) for mark in marks if mark in text), default=len(text))]


@given(
    forms,
    st.lists(
        st.one_of(
            st.text("<>|_fimprexsu[]▁｜ \n", max_size=6),
            st.sampled_from([mark for form in FORMATS for mark in form.marks]).flatmap(
                lambda mark: st.integers(1, len(mark)).map(lambda end: mark[:end])
            ),
        ),
        max_size=12,
    ),
)
def test_a_text_in_parts_ends_where_the_whole_text_does(form: InfillFormat | None, parts: list[str]) -> None:
    assert fed(parts, form) == cut("".join(parts), form)


@pytest.mark.parametrize("mark", ALWAYS)
def test_a_mark_is_found_wherever_it_is_divided(mark: str) -> None:
    for at in range(len(mark) + 1):
        assert fed(["return x", mark[:at], mark[at:], "and more"], None) == "return x"
    assert fed(["return x", *mark, "and more"], None) == "return x"


def test_text_is_passed_on_as_soon_as_it_can_be_no_mark() -> None:
    passing = MarkFilter()
    assert passing.feed("if a <") == "if a "
    assert passing.feed(" b") == "< b"
    assert passing.feed("<fim") == ""
    assert passing.finish() == "<fim"


def test_ordinary_text_ends_only_answers_to_prompts_of_that_format() -> None:
    codellama = next(form for form in FORMATS if form.prefix == "<PRE>")
    assert fed(["text <PRE> more <EOT>"], None) == "text <PRE> more <EOT>"
    assert fed(["text <PRE> more"], codellama) == "text "
    assert fed(["text <EOT> more"], codellama) == "text "


def token(text: str) -> TokenPiece:
    return TokenPiece(id=1, text=text, log_probability=-0.5, data=text.encode())


async def test_pieces_end_before_a_mark_with_their_tokens_and_the_whole_answer() -> None:
    tokens = tuple(map(token, ("x = ", "1", "<fim_", "middle>", "2")))
    text = CompletedText("x = 1<fim_middle>2", "length", 5, pieces=tokens)
    completed = Completed((text,), describe("small-native"))

    async def pieces() -> AsyncIterator[Piece]:
        for one in tokens:
            yield Piece(0, one.text, (one,))
        yield Piece(0, "", finished=text, completed=completed)

    passed = [piece async for piece in pieces_without_marks(pieces(), ())]
    assert "".join(piece.text for piece in passed) == "x = 1"
    assert [one.text for piece in passed for one in piece.tokens] == ["x = ", "1"]
    assert passed[-1].finished == CompletedText("x = 1", "stop", 5, pieces=tokens[:2])
    assert passed[-1].completed is not None
    assert passed[-1].completed.texts == (passed[-1].finished,)


async def test_tokens_of_text_that_is_held_back_come_with_it() -> None:
    tokens = tuple(map(token, ("a ", "<", "fim", " b")))

    async def pieces() -> AsyncIterator[Piece]:
        for one in tokens:
            yield Piece(0, one.text, (one,))

    passed = [(piece.text, len(piece.tokens)) async for piece in pieces_without_marks(pieces(), ())]
    assert passed == [("a ", 1), ("", 0), ("", 0), ("<fim b", 3)]


def test_an_answer_without_marks_is_the_same_object() -> None:
    completed = Completed((CompletedText("x", "stop"),), describe("small-native"))
    assert without_marks(completed, ()) is completed
