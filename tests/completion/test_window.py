"""The window: never more than its budget, always the text next to the cursor, and still while someone types."""

from __future__ import annotations

from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.completion.snapshot import Selected, Snapshot
from codegen_lsp.completion.window import REST_CHARACTERS, rest_of_document, steady_suffix, window_after, window_before
from codegen_lsp.source.lines import with_lf

FUNCTION = '''def area_{n}(width, height):
    """The area of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative")
    else:
        return width * height


'''
MODULE = "import math\n\n\n" + "".join(FUNCTION.format(n=n) for n in range(60))


def at(text: str, offset: int, language: str = "python") -> Snapshot:
    return Snapshot("file:///a", 1, language, text, offset)


def before(snapshot: Snapshot, budget: int) -> str:
    return window_before(snapshot, budget)


def after(snapshot: Snapshot, budget: int) -> str:
    return window_after(snapshot, budget)


def test_a_short_document_is_taken_whole() -> None:
    assert before(at(MODULE, 700), 1000) == MODULE[:700]


def test_a_long_one_begins_with_a_definition() -> None:
    for offset in range(2000, len(MODULE), 97):
        window = before(at(MODULE, offset), 1000)
        assert len(window) <= 1000
        assert MODULE[:offset].endswith(window)
        assert window.startswith("def area_"), window[:40]


def test_in_a_class_it_begins_with_a_member() -> None:
    body = "".join(f"    int value{n}() {{\n        return {n};\n    }}\n\n" for n in range(100))
    text = "class Values {\n" + body + "}\n"
    for offset in range(1500, 4000, 83):
        assert before(at(text, offset, "java"), 1000).startswith("    int value")


def test_a_brace_or_an_else_is_no_beginning() -> None:
    text = "int f() {\n  g();\n}\n" * 200
    for offset in range(1500, 3000, 31):
        assert before(at(text, offset, "c"), 800).startswith("int f()")


@pytest.mark.parametrize("budget", [400, 1000, 4000])
def test_it_stands_still_while_someone_types(budget: int) -> None:
    """The prompt only grows at its end, but for one move in a quarter of the budget typed."""
    start = 9_000
    typed = MODULE[:3000]
    windows = [
        before(at(MODULE[:start] + typed[:length] + MODULE[start:], start + length), budget)
        for length in range(len(typed))
    ]
    moves = sum(not now.startswith(then) for then, now in pairwise(windows))
    assert moves <= 4 * len(typed) / budget + 1


def test_it_keeps_more_than_a_third_of_the_budget_when_it_moves() -> None:
    assert min(len(before(at(MODULE, offset), 1000)) for offset in range(2000, len(MODULE))) > 333


def test_a_line_longer_than_the_budget_is_cut() -> None:
    text = "x = [" + "1, " * 10_000
    assert text.endswith(before(at(text, len(text)), 1000))
    assert 700 < len(before(at(text, len(text)), 1000)) <= 1000


def test_a_selected_entry_counts() -> None:
    snapshot = evolve(at("import os\nos.pa\n", 15), selected=Selected(13, 15, "path"))
    assert before(snapshot, 1000) == "import os\nos.path"
    assert before(snapshot, 8) == "os.path"


def test_text_after_the_cursor_ends_with_a_whole_line() -> None:
    text = "x = \nsecond line\nthird line\nfourth line\n"
    assert after(at(text, 4), 30) == "\nsecond line\nthird line"
    assert after(at(text, 4), 1000) == text[4:]
    assert after(at(text, 4), 5) == ""


def test_text_after_the_cursor_stands_still_while_someone_types() -> None:
    rests = {after(at(f"x = {typed}\nsecond\nthird\n", 4 + len(typed)), 10) for typed in ["", "f", "foo", "foo, bar"]}
    rests |= {after(at(f"x = f({typed})\nsecond\nthird\n", 6 + len(typed)), 10) for typed in ["", "a", '"s']}
    assert rests == {"\nsecond"}


def test_blank_text_after_the_cursor_says_nothing() -> None:
    assert after(at("x = \n\n  \n", 4), 100) == ""


texts = st.lists(st.sampled_from(["x", "  y", "\n", "\r\n", "\r", "}", "def f():", "é😀", "\t", "\n\n", "\u2028"])).map(
    "".join
)


@given(texts, texts, st.integers(1, 60))
def test_any_document(head: str, tail: str, budget: int) -> None:
    snapshot = at(head + tail, len(head))
    window = before(snapshot, budget)
    assert len(window) <= budget
    assert with_lf(head).endswith(window)
    rest = after(snapshot, budget)
    assert "\r" not in rest
    assert len(rest) <= 2 * budget
    assert not rest or rest[0] == "\n" or tail.startswith(rest.split("\n")[0])


def test_a_definition_in_a_string_is_no_beginning() -> None:
    """By single lines it would be one."""
    text = (
        "def real():\n" + '    """\ndef unreal():\n    pass\n' + "word " * 20 + '\n    """\n    return 1\n\n\n'
    ) * 30
    for offset in range(1500, len(text), 101):
        assert before(at(text, offset), 1000).startswith("def real()")


@pytest.mark.parametrize(
    ("language", "unit", "beginning"),
    [
        ("javascript", "function area(a) {\n  if (a) {\n    return 1;\n  }\n  return 2;\n}\n\n", "function area"),
        ("java", "class A {\n    int b() {\n        return 1;\n    }\n\n    int c;\n}\n\n", "class A"),
        ("go", "func area(a int) int {\n\tif a > 1 {\n\t\treturn 1\n\t}\n\treturn 2\n}\n\n", "func area"),
        ("c", "int area(int a) {\n    if (a) {\n        return 1;\n    }\n    return 2;\n}\n\n", "int area"),
        ("cpp", "template <class T>\nT area(T a) {\n    return a;\n}\n\n", "template <class T>"),
        ("python", "@cache\ndef area(a):\n    if a:\n        return 1\n    return 2\n\n\n", "@cache"),
    ],
)
def test_it_begins_with_a_definition_in_every_language(language: str, unit: str, beginning: str) -> None:
    text = unit * 60
    for offset in range(1200, 2500, 37):
        assert before(at(text, offset, language), 800).startswith(beginning)


def test_what_is_typed_never_moves_the_beginning_before_it_overflows() -> None:
    """However broken the text is while it is typed: brackets, quotes and half a definition."""
    budget, head = 1000, MODULE[:9_000]
    typed = 'def f(x, y="\'[{(\n    """unfinished\n}}\n' * 8
    lengths = [len(before(at(head + typed[:n] + MODULE[9_000:], 9_000 + n), budget)) for n in range(len(typed))]
    shrunk = [number for number, (then, now) in enumerate(pairwise(lengths)) if now != then + 1]
    assert len(shrunk) <= len(typed) / (budget / 4) + 1
    assert all(lengths[number] > budget - 2 * (budget // 4) for number in shrunk)


def test_text_after_the_cursor_is_frozen_while_it_hardly_changes() -> None:
    lines = [f"line number {n}" for n in range(60)]
    suffix = "\n".join(lines)
    below = "\n".join(lines[1:])
    assert steady_suffix(below, suffix) == suffix
    assert steady_suffix("\n".join(lines[10:]), suffix) == "\n".join(lines[10:])
    assert steady_suffix("", suffix) == ""
    assert steady_suffix(suffix, "") == suffix
    last = suffix
    for down in range(1, 30):
        now = "\n".join(lines[down:])
        last = steady_suffix(now, last)
        assert abs(len(last) - len(now)) <= 0.1 * len(last) + 1


def rest(text: str, offset: int, budget: int) -> tuple[str, ...]:
    snapshot = at(text, offset)
    return rest_of_document(snapshot, before(snapshot, budget), after(snapshot, budget))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_beyond_the_window_is_the_rest_of_the_document(line_end: str) -> None:
    offset = MODULE.index("    else", 4000)
    text = MODULE.replace("\n", line_end)
    place = len(MODULE[:offset].replace("\n", line_end))
    snapshot = at(text, place)
    earlier, later = rest(text, place, 1000)
    assert earlier + before(snapshot, 1000) == MODULE[:offset]
    line = MODULE[offset : MODULE.index("\n", offset)]
    assert MODULE[:offset] + after(snapshot, 1000) + later == MODULE
    assert rest(text, place, 0)[-1] == MODULE[offset + len(line) :]


def test_nothing_is_beyond_a_short_document() -> None:
    assert rest("x = 1\ny = \nz = 3\n", 10, 1000) == ()


def test_beyond_the_window_stays_as_it_is_while_someone_types() -> None:
    text = MODULE * 8
    offset = text.index("    else", len(text) // 2)
    texts = {rest(text[:offset] + "x" * typed + text[offset:], offset + typed, 4000) for typed in range(12)}
    assert len(texts) == 1
    assert [len(one) for one in texts.pop()] == [REST_CHARACTERS, REST_CHARACTERS]
