"""Parse trees: edits, errors, where definitions begin, and what takes too long."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.source import parse_tree as syntax
from codegen_lsp.source import trial
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import (
    LONGEST,
    block_start,
    edited,
    errors,
    in_text,
    member_start,
    parsed,
    statement_start,
    text_of,
)
from codegen_lsp.source.trial import passes

PYTHON = LANGUAGES["python"]
GOOD = {
    "python": "def f(a):\n    return a\n",
    "javascript": "function f(a) {\n  return a;\n}\n",
    "java": "class A {\n    int f(int a) {\n        return a;\n    }\n}\n",
    "go": "package main\n\nfunc f(a int) int {\n\treturn a\n}\n",
    "c": "int f(int a) {\n    return a;\n}\n",
    "cpp": "template <class T>\nT f(T a) {\n    return a;\n}\n",
}


@pytest.mark.parametrize("language", GOOD)
def test_every_language_parses_and_finds_errors(language: str) -> None:
    good = parsed(GOOD[language], LANGUAGES[language])
    bad = parsed(GOOD[language].replace("return a", "return ) a ("), LANGUAGES[language])
    assert good is not None
    assert bad is not None
    assert errors(good) == 0
    assert errors(bad) > 0


def test_no_grammar_and_too_long() -> None:
    assert parsed("local x = 1", LANGUAGES["lua"]) is None
    assert parsed("x" * (LONGEST + 1), PYTHON) is None


def test_what_takes_too_long_is_given_up_each_time_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "LEAST_STEPS", 20)
    monkeypatch.setattr(syntax, "BYTES_PER_STEP", 1_000_000)
    text = "x = (" * 4_000
    assert parsed(text, PYTHON) is None
    assert parsed(text + " ", PYTHON) is None
    assert parsed("x = 'short'\n", PYTHON) is not None


texts = st.lists(
    st.sampled_from(["x", " = ", "1", "\n", "    ", "(", ")", "é", "😀", "'", '"""', "def f():", "#"])
).map("".join)


@given(texts, st.data())
def test_an_edit_is_as_though_parsed_anew(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    insert = data.draw(texts)
    source = parsed(text, PYTHON)
    assert source is not None
    after = edited(source, start, end, insert)
    assert after is not None
    assert after.text == text[:start] + insert + text[end:]
    assert after.raw.decode() == after.text
    assert text_of(after, after.tree.root_node) == after.text[after.offset(after.tree.root_node.start_byte) :]
    for offset in range(0, len(after.text) + 1, 3):
        assert after.offset(after.byte(offset)) == offset


def test_strings_and_comments() -> None:
    text = "x = 'a' + f'b{c}d'  # e\n"
    source = parsed(text, PYTHON)
    assert source is not None
    inside = {letter: in_text(source, text.index(letter) + 1) for letter in "abcde"}
    assert inside == {"a": True, "b": True, "c": False, "d": True, "e": True}
    assert not in_text(source, 1)


def test_where_things_begin() -> None:
    member = "    # about f\n    @cache\n    def f(self):\n        return 1\n"
    text = f"import os\n\n\nclass A:\n    x = 1\n\n{member}\n\ny = 2\n"
    source = parsed(text, PYTHON)
    assert source is not None
    at = text.index("return")
    assert text[statement_start(source, at) :].startswith("class A")
    assert text[member_start(source, at) :].startswith("    @cache")
    assert statement_start(source, 0) == member_start(source, 0) == 0
    first = block_start(source, text.index("x = 1"), len(text) - 8)
    assert first is not None
    assert text[first:].startswith("    # about f")
    within = text.index("return")
    assert block_start(source, within + 1, within + 3) is None


def test_a_text_that_was_parsed_is_forgotten() -> None:
    """The binding to tree-sitter keeps what it is given to read."""
    body = "x = 1\n" * 20_000
    texts = [f"y = {number}\n{body}" for number in range(12)]
    for text in texts[:8]:
        parsed(text, PYTHON)
    tracemalloc.start()
    try:
        for text in texts:
            parsed(text, PYTHON)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8 * len(body)  # six parsed texts are remembered


HOSTILE = {
    "continuations": ("\\\n" * 30_000 + "os.pa", "python"),
    "continuations in DOS format": ("x = 1\r\n" + "\\\r\n" * 30_000 + "os.pa", "python"),
    "skipped to the end": ("/*\n" * 7_000 + "os.pa", "python"),
    "skipped after a good start": (GOOD["python"] * 100 + "/*\n" * 7_000, "python"),
    "comments that never end": ("/*\n" * 30_000, "javascript"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_given_up(name: str) -> None:
    """Without a limit they take from ten seconds to an hour."""
    text, language = HOSTILE[name]
    assert parsed(text, LANGUAGES[language]) is None
    assert parsed(text + "t", LANGUAGES[language]) is None


def test_long_tables_and_texts_like_them_have_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(trial, "passes", lambda raw, grammar: tried.append(raw) or passes(raw, grammar))
    text = "TABLE = [\n" + "".join(f"    ({n}, -{n}, [{n}]),\n" for n in range(2_000)) + "]\n"
    for end in ("", "x", "x = TABLE[", "x = TABLE[1]\n"):
        assert parsed(text + end, PYTHON) is not None
    assert len(tried) == 1


def test_a_text_that_fails_in_the_trial_is_not_parsed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "passes", lambda raw, grammar: False)
    text = "OTHER = [\n" + "".join(f"    ({n}, +{n}, [{n}]),\n" for n in range(2_000)) + "]\n"
    assert parsed(text, PYTHON) is None
    monkeypatch.setattr(trial, "passes", lambda raw, grammar: pytest.fail("tried again"))
    assert parsed(text + "x", PYTHON) is None


def test_the_process_of_a_trial() -> None:
    assert passes(b"x = 1\n", "tree_sitter_python")
    assert not passes(b"/*\n" * 7_000, "tree_sitter_python")
    assert not passes(b"x = 1\n", "no_such_grammar")


def test_broken_texts_leave_nothing_behind() -> None:
    """py-tree-sitter keeps what it is given to read."""

    def views() -> int:
        return sum(isinstance(thing, memoryview) for thing in gc.get_objects())

    parsed("x = (1\n" * 1_000, PYTHON)
    before = views()
    for number in range(20):
        parsed("x = (1\n" * 1_000 + str(number), PYTHON)
    assert views() - before < 20
