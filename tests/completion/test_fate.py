"""What became of a suggestion, from the changes of the text."""

from __future__ import annotations

import pytest

from codegen_lsp.completion.snapshot import Suggestion
from codegen_lsp.suggest.acceptance import Fate, Shown, after_change, is_rest_of, shown


def follow(before: str, insert: str, *changes: str) -> Shown | Fate:
    """The line before the cursor, what was suggested for the whole line, and what was put in, change by change.

    `<` deletes the character before the cursor; `X|Y` puts in both, the cursor between them.
    """
    text, cursor = before, len(before)
    now: Shown | Fate = shown(Suggestion(0, cursor, insert), cursor)
    for change in changes:
        assert isinstance(now, Shown)
        put, _, behind = change.partition("|")
        if change == "<":
            text, cursor, put, behind = text[: cursor - 1] + text[cursor:], cursor - 1, "", ""
        else:
            text = text[:cursor] + put + behind + text[cursor:]
            cursor += len(put)
        now = after_change(now, text, cursor + len(behind), put + behind)
    return now


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        (["int(y)"], "accepted"),
        (["i", "nt(y)"], "accepted"),
        (["int", "(y)"], "accepted"),
        (["int", "(", "x"], "accepted in part"),
        (["int", "(", "y", ")"], "accepted in part"),
        (["i", "n", "t", "(|)", "y", ")"], "typed"),
        (["o"], "typed over"),
        (["i", "n", "x"], "typed over"),
        (["i", "<", "i", "<", "int(y)"], "accepted"),
        (["<"], None),
        (["i", "n"], None),
        (["int"], None),
    ],
)
def test_fates(changes: list[str], fate: Fate | None) -> None:
    now = follow("x = pr", "x = print(y)", *changes)
    assert now == fate if fate else isinstance(now, Shown)


def test_the_whole_line_may_be_replaced() -> None:
    before = shown(Suggestion(0, 6, "x = print(y)"), 6)
    assert after_change(before, "x = print(y)", 12, "x = print(y)") == "accepted"


def test_characters_that_accepting_brought() -> None:
    now = follow("x = pr", "x = print(y)", "int", "(")
    assert isinstance(now, Shown)
    assert now.by_key == 3


def test_a_change_elsewhere() -> None:
    before = shown(Suggestion(10, 12, "ab + c"), 12)
    assert after_change(before, "import os\nab", 9, "import os") == "typed over"


def test_the_rest_of_a_suggestion_is_no_other_one() -> None:
    before = shown(Suggestion(0, 2, "ab\ncd\nef"), 2)
    assert is_rest_of(Suggestion(0, 2, "ab\ncd\nef"), before)
    assert is_rest_of(Suggestion(3, 4, "cd\nef"), before)
    assert not is_rest_of(Suggestion(0, 2, "abc"), before)
