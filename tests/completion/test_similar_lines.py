"""Lines that are the same but for a few signs, compared with the plain table of edit distances."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.completion.similar_lines import ALLOWED, are_similar


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "", True),
        ("push(x)", "push(x)", True),
        ("push(x)", "push(x);", False),
        ('file.write("begin", x)', "file.write('begin', x)", False),
        ('file.write("begin", total)  # and so on', "file.write('begin', total)  # and so on", False),
        ('file.write("the beginning", total, counted)', "file.write('the beginning', total, counted)", True),
        ("first = numbers.index(item_1)", "first = numbers.index(item_2)", False),
        ("first = numbers.index(item)", "first = numbers.index(item),", True),
    ],
)
def test_lines(one: str, other: str, same: bool) -> None:
    assert are_similar(one, other) is same
    assert are_similar(other, one) is same


def distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for n, a in enumerate(one, 1):
        last, row[0] = row[0], n
        for m, b in enumerate(other, 1):
            last, row[m] = row[m], min(last + (a != b), row[m] + 1, row[m - 1] + 1)
    return row[-1]


signs = st.lists(st.sampled_from(["word", "(", ")", ",", " ", ".", '"']), max_size=40).map("".join)


@given(signs, signs, st.integers(0, 3), st.data())
def test_by_the_definition(one: str, other: str, edits: int, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        other = one
        for _ in range(edits):
            at = data.draw(st.integers(0, len(other)))
            other = other[:at] + data.draw(st.sampled_from(["", ",", ";"])) + other[at + 1 :]
    near = distance(one, other) <= int(ALLOWED * max(len(one), len(other)))
    words = re.findall(r"\w+", one) == re.findall(r"\w+", other)
    assert are_similar(one, other) is (near and words)
