"""The typing of a person: whatever is suggested, the keys write the file, as in an editor."""

from __future__ import annotations

import inspect
import statistics

import pytest

from codegen_lsp.benchmarks import typist
from codegen_lsp.benchmarks.editor_behavior import indentation_step
from codegen_lsp.benchmarks.keystrokes import Key, ShownSuggestion
from codegen_lsp.benchmarks.typist import TypingSession, begin, keys_without
from codegen_lsp.evaluation.documents import SourceDocument

GO = """package main

import "fmt"

// Add gives the sum.
func Add(a int, b int) int {
\tif a > 10 {
\t\tfmt.Println("large", a, []int{1, 2})
\t}
\treturn a + b
}

func main() {
\tfor i := 0; i < 10; i++ {
\t\tfmt.Println(Add(i, 2))
\t}
}
"""


@pytest.fixture
def module() -> SourceDocument:
    return SourceDocument("typist", "typist.py", "python", inspect.getsource(typist))


def whole(text: str, language: str = "python") -> TypingSession:
    """The typing of a whole text."""
    return TypingSession(SourceDocument("p", "f", language, text), [(0, len(text))], 0)


def type_all(session: TypingSession, offer_at: dict[str, str] | None = None) -> list[Key]:
    """Every key, checked against the editor's text; suggestions by the line before the cursor."""
    keys = []
    text = session.text
    while True:
        line = text[: session.cursor].rpartition("\n")[2]
        suggested = (offer_at or {}).get(line)
        start = session.cursor - len(line)
        offer = ShownSuggestion(start, session.cursor, line + suggested, 1.0) if suggested else None
        key = session.press(offer)
        if key is None:
            return keys
        keys.append(key)
        if key.edits:
            text = text[: key.start] + key.insert + text[key.end :]
            assert key.cursor == session.cursor
        assert text == session.text
        assert len(keys) < 10_000


def written_by(keys: list[Key], kind: str) -> list[str]:
    return [key.insert for key in keys if key.kind == kind]


def no_typos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typist, "TYPO_RATE", 0.0)
    monkeypatch.setattr(typist, "LOOK_RATE", 1.0)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("def f(a, b):\n    return a + b\n\n\ndef g():\n    pass\n", "python"),
        ('x = foo(\n    "a",\n    [1, 2],\n)\nif x:\n    y = {"k": (1, 2)}\nz = 1', "python"),
        ('s = f"{a!r}"\nt = "(\\"" + \'"\'\nu = """doc\n  text\n"""\nv = ")"\n', "python"),
        ("if a:\n        b = 1\n  \n        c = (2,\n             3)\nelse:\n    d()\n", "python"),
        (GO, "go"),
    ],
)
def test_what_is_written_is_the_file(text: str, language: str) -> None:
    session = whole(text, language)
    type_all(session)
    assert session.text == text


def test_a_real_file_and_its_own_cursor_jumps_and_mistakes(module: SourceDocument) -> None:
    session = begin(module, 3_000, seed=1)
    assert session is not None
    assert session.text != module.text
    keys = type_all(session)
    assert session.text == module.text
    kinds = {key.kind for key in keys}
    assert kinds == {"type", "backspace", "move"}
    assert len(keys) == keys_without(session)


def test_brackets_are_closed_and_typed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("f(a)"))
    assert [key.insert for key in keys] == ["f", "()", "a", ")"]
    assert (keys[-1].start, keys[-1].end) == (3, 4)


def test_enter_between_brackets_puts_the_closer_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("f(\n    a\n)"))
    assert [key.insert for key in keys] == ["f", "()", "\n    \n", "a", "", ")"]
    assert keys[4].kind == "move"


def test_the_editor_indents_and_blank_lines_stay_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("if a:\n    b\n\n    c\nd"))
    enters = [key.insert for key in keys if key.insert.startswith("\n")]
    assert enters == ["\n    ", "\n    ", "\n    ", "\n    "]
    assert written_by(keys, "backspace") == [""]


def test_a_right_suggestion_is_accepted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    session = whole("total = first + second\n")
    keys = type_all(session, {"tot": "al = first + second"})
    assert session.text == "total = first + second\n"
    assert [key.kind for key in keys] == ["type", "type", "type", "accept", "type"]
    assert keys[3].gained == len("al = first + second")


def test_what_is_right_in_its_first_words_is_accepted_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("total = first + second\n"), {"tot": "al = third", "total": " = third", "total =": " third"})
    assert written_by(keys, "accept word") == ["al"]
    assert len(keys) == 3 + 1 + len(" = first + second\n")


def test_the_right_first_line_is_accepted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("first = 1\nsecond = 2\n"), {"fir": "st = 1\nthird = 3"})
    assert written_by(keys, "accept line") == ["st = 1"]


def test_wrong_suggestions_and_ones_just_shown_are_typed_past(monkeypatch: pytest.MonkeyPatch) -> None:
    no_typos(monkeypatch)
    keys = type_all(whole("first = 1\n"), {"fir": "e()"})
    assert {key.kind for key in keys} == {"type"}
    session = whole("first = 1\n")
    session.press(None)
    key = session.press(ShownSuggestion(0, 1, "first = 1", typist.REACTION_TIME / 2))
    assert key is not None
    assert key.kind == "type"


def test_people_overlook_about_as_many_suggestions_as_they_see() -> None:
    text = "".join(f"value_{number} = compute({number})\n" for number in range(200))
    session = whole(text)
    keys = type_all(session, {"v": "alue_"})
    taken = written_by(keys, "accept")
    assert 60 < len(taken) < 140
    assert session.text == text


def test_the_same_seed_types_alike(module: SourceDocument) -> None:
    def keys(seed: int) -> list[tuple[Key, float]]:
        session = begin(module, 1_000, seed)
        assert session is not None
        found = []
        while True:
            gap = session.gap()
            key = session.press(None)
            if key is None:
                return found
            found.append((key, gap))

    assert keys(3) == keys(3)
    assert keys(3) != keys(4)


def test_the_gaps_are_those_stated(module: SourceDocument) -> None:
    session = begin(module, 4_000, seed=0)
    assert session is not None
    gaps = []
    while True:
        gap = session.gap()
        if session.press(None) is None:
            break
        gaps.append(gap)
    rate = 60 * sum(end - start for start, end in session.spans) / sum(gaps)
    assert typist.CHARACTERS_A_MINUTE * 0.8 < rate < typist.CHARACTERS_A_MINUTE * 1.3
    assert 0.15 < statistics.median(gaps) < 0.25


def test_short_documents_are_left_out() -> None:
    assert begin(SourceDocument("p", "f", "python", "x = 1\n" * 20), 300, 0) is None


@pytest.mark.parametrize(
    ("text", "step"), [("a\n\tb\n", "\t"), ("a:\n  b\n", "  "), ("a:\n    b\n        c\n", "    "), ("a\n", "    ")]
)
def test_indentation_is_what_the_file_uses(text: str, step: str) -> None:
    assert indentation_step(text) == step
