"""Intervals of shares and means, and edit similarity."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.evaluation.figures import mean, ratio, share
from codegen_lsp.evaluation.similarity import edit_similarity


def test_wilsons_interval() -> None:
    # Brown, Cai and DasGupta (2001): 10 of 100 gives 0.0552 to 0.1744.
    figure = share([True] * 10 + [False] * 90)
    assert figure is not None
    assert (figure.value, figure.cases) == (0.1, 100)
    assert (figure.low, figure.high) == pytest.approx((0.05523, 0.17437), abs=1e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_share_lies_in_its_interval(right: list[bool]) -> None:
    figure = share(right)
    assert figure is not None
    assert 0 <= figure.low <= figure.value <= figure.high <= 1
    assert figure.low < figure.high


def test_nothing_has_no_figure() -> None:
    assert share([]) is None
    assert mean([]) is None
    assert ratio([1.0], [0.0]) is None


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    dice = random.Random(1)
    values = [dice.gauss(10, 2) for _ in range(400)]
    figure = mean(values)
    assert figure is not None
    assert figure.low < figure.value < figure.high
    # The standard error is 2 / sqrt(400), so the interval is 3.92 times 0.1 wide.
    assert figure.high - figure.low == pytest.approx(0.392, rel=0.15)


def test_a_ratio_weighs_cases_by_their_size() -> None:
    figure = ratio([10.0, 0.0], [10.0, 30.0])
    assert figure is not None
    assert figure.value == 0.25
    assert mean([1.0, 0.0]).value == 0.5  # type: ignore[union-attr]


def test_the_same_cases_give_the_same_interval() -> None:
    assert ratio([1, 2, 3], [4, 5, 6]) == ratio([1, 2, 3], [4, 5, 6])


def test_proportional_parts_have_no_uncertainty() -> None:
    figure = ratio([2.0, 6.0, 4.0], [1.0, 3.0, 2.0])
    assert figure is not None
    assert figure.value == figure.low == figure.high == 2.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 1.0), ("abc", "abc", 1.0), ("abc", "xyz", 0.0), ("abc", "", 0.0), ("abcd", "abxd", 0.75)],
)
def test_edit_similarity(one: str, other: str, expected: float) -> None:
    assert edit_similarity(one, other) == expected


def slow_common_subsequence(one: str, other: str) -> int:
    above = [0] * (len(other) + 1)
    for a in one:
        row = [0]
        for index, b in enumerate(other):
            row.append(above[index] + 1 if a == b else max(above[index + 1], row[index]))
        above = row
    return above[-1]


@given(st.text("abé(", max_size=40), st.text("abé(", max_size=40))
def test_edit_similarity_agrees_with_the_textbook(one: str, other: str) -> None:
    total = len(one) + len(other)
    expected = 2 * slow_common_subsequence(one, other) / total if total else 1.0
    assert edit_similarity(one, other) == pytest.approx(expected)
