"""The wait before the model is asked: none where it keeps up with the typing."""

from __future__ import annotations

import pytest

from codegen_lsp.suggest.debounce import (
    FIRST_ANSWER,
    FIRST_RIGHT,
    LONGEST_WAIT,
    Adoption,
    Rhythm,
    wait_before_asking,
)


def test_nothing_is_waited_for_before_anything_is_known() -> None:
    assert wait_before_asking(Rhythm(), "x", 0.0) == 0
    assert wait_before_asking(Rhythm(gap=0.2), "x", 0.0) == 0
    assert wait_before_asking(Rhythm(answer=2.0), "x", 0.0) == 0


@pytest.mark.parametrize(
    ("gap", "answer", "wait"),
    [
        (0.24, 0.03, 0.0),  # a model that keeps up
        (0.24, 0.12, 0.0),
        (0.24, 0.22, 0.1),  # one that does not always
        (0.24, 2.0, 0.24),  # one that never does: a pause is worth asking in
        (1.0, 5.0, LONGEST_WAIT),
    ],
)
def test_slow_models_are_asked_later(gap: float, answer: float, wait: float) -> None:
    assert wait_before_asking(Rhythm(gap, answer), "x", 0.0) == pytest.approx(wait)


def test_ends_of_words_and_lines_wait_half_as_long() -> None:
    rhythm = Rhythm(0.2, 1.0)
    assert wait_before_asking(rhythm, "foo", 0.0) == 0.2
    for before in ("foo(", "foo ", ""):
        assert wait_before_asking(rhythm, before, 0.0) == 0.1


def test_what_the_editor_waited_counts() -> None:
    rhythm = Rhythm(0.2, 1.0)
    assert wait_before_asking(rhythm, "foo", 0.05) == pytest.approx(0.15)
    assert wait_before_asking(rhythm, "foo", 0.5) == 0


def test_the_means_follow_and_pauses_are_no_gaps() -> None:
    rhythm = Rhythm().typed(0.2).typed(5.0)
    assert rhythm.gap == 0.2
    for _ in range(50):
        rhythm = rhythm.typed(0.4).answered(0.1)
    assert rhythm.gap == pytest.approx(0.4, rel=0.01)
    assert rhythm.answer == pytest.approx(0.1)


def test_nothing_measured_yet_is_waited_for_a_moment() -> None:
    assert Adoption().patience(0.0) == FIRST_RIGHT * FIRST_ANSWER


@pytest.mark.parametrize(
    ("right", "answer", "since", "patience"),
    [
        (1.0, 0.4, 0.0, 0.4),  # always right: never begun anew
        (0.0, 0.4, 0.4, 0.0),  # never right: begun anew at once
        (0.5, 0.4, 0.3, 0.2),  # a tenth of a second is left, half of a new one is the price
        (0.5, 0.4, 0.1, 0.0),  # more is left than that
        (0.5, 0.4, 9.0, 0.2),  # it takes longer than others: nothing is known, but the price stays
        (0.5, 0.02, 0.015, 0.01),
    ],
)
def test_what_is_under_way_is_waited_for_while_it_pays(
    right: float, answer: float, since: float, patience: float
) -> None:
    assert Adoption(right, answer).patience(since) == pytest.approx(patience)


def test_adoption_follows_what_happens() -> None:
    adoption = Adoption()
    for _ in range(60):
        adoption = adoption.waited_for(True).answered(1.0)
    assert adoption.right == pytest.approx(1.0, abs=0.01)
    assert adoption.answer == pytest.approx(1.0)
    for _ in range(60):
        adoption = adoption.waited_for(False)
    assert adoption.patience(0.5) == 0.0
