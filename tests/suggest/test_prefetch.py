"""The snapshots that are prefetched for, as source with the cursor in it."""

from __future__ import annotations

import pytest

from codegen_lsp.completion.snapshot import Snapshot, Suggestion, Trigger
from codegen_lsp.suggest.prefetch import after_enter, next_snapshots


def at(source: str, language: str = "python") -> Snapshot:
    return Snapshot("file:///f", 3, language, source.replace("│", ""), source.index("│"), Trigger.INVOKED)


def shown(snapshot: Snapshot) -> str:
    return snapshot.text[: snapshot.offset] + "│" + snapshot.text[snapshot.offset :]


def accepting(source: str, insert: str, beyond: int = 0, language: str = "python") -> list[str]:
    snapshot = at(source, language)
    line_start = snapshot.line_start
    kept = snapshot.text[line_start : snapshot.offset]
    suggestion = Suggestion(line_start, snapshot.offset + beyond, kept + insert)
    return [shown(place) for place in next_snapshots(snapshot, suggestion)]


def test_the_end_of_a_line_and_the_next_one() -> None:
    assert accepting("def f(a):\n    x = │\n    return x\n", "a + 1") == [
        "def f(a):\n    x = a + 1│\n    return x\n",
        "def f(a):\n    x = a + 1\n    │\n    return x\n",
    ]


def test_a_block_begins() -> None:
    assert accepting("def f│", "(a):")[1] == "def f(a):\n    │"
    assert accepting("class A:\n  def f│", "(a):")[1] == "class A:\n  def f(a):\n    │"
    assert accepting("func f│", "() {", language="go")[1] == "func f() {\n\t│"


def test_closers_that_were_replaced_are_gone() -> None:
    assert accepting("print(│)\n", "a)", beyond=1)[0] == "print(a)│\n"


def test_only_the_place_itself_within_a_line() -> None:
    assert accepting("f(│) + 1\n", "a") == ["f(a│) + 1\n"]


def test_several_lines() -> None:
    assert accepting("def f(a):│", "\n    return a")[1] == "def f(a):\n    return a\n    │"


def test_nothing_new_on_a_blank_line() -> None:
    assert after_enter(at("def f():\n    │\n")) is None


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_the_place_is_asked_about_as_though_it_had_been_typed(end: str) -> None:
    (place, _) = next_snapshots(at(f"a = 1{end}b = │{end}"), Suggestion(5 + len(end), 9 + len(end), "b = 2"))
    assert place.trigger is Trigger.AUTOMATIC
    assert place.version == 4
    assert shown(place) == f"a = 1{end}b = 2│{end}"
