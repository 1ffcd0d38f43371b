"""Debounce policy: no delay where the model keeps up with the typing, and a wait budget for answers in flight."""

from __future__ import annotations

import pytest

from codegen_lsp.suggest.debounce import MAX_DELAY, MAX_GAP, PRIOR_ANSWER, PRIOR_REUSE, DebouncePolicy


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> DebouncePolicy:
    return DebouncePolicy(clock)


def test_no_delay_before_both_means_are_known(policy: DebouncePolicy) -> None:
    assert policy.delay("x") == 0
    policy.gap = 0.2
    assert policy.delay("x") == 0
    policy.gap, policy.answer = None, 2.0
    assert policy.delay("x") == 0


@pytest.mark.parametrize(
    ("gap", "answer", "delay"),
    [
        (0.24, 0.03, 0.0),  # a model that keeps up
        (0.24, 0.12, 0.0),
        (0.24, 0.22, 0.1),  # one that often does
        (0.24, 2.0, 0.24),  # one that never does: only a pause is worth a request
        (1.0, 5.0, MAX_DELAY),
    ],
)
def test_slow_models_are_asked_later(policy: DebouncePolicy, gap: float, answer: float, delay: float) -> None:
    policy.gap, policy.answer = gap, answer
    assert policy.delay("x") == pytest.approx(delay)


def test_ends_of_words_and_lines_halve_the_delay(policy: DebouncePolicy) -> None:
    policy.gap, policy.answer = 0.2, 1.0
    assert policy.delay("foo") == 0.2
    for line in ("foo(", "foo ", ""):
        assert policy.delay(line) == 0.1


def test_time_since_the_key_counts(policy: DebouncePolicy, clock: Clock) -> None:
    policy.gap, policy.answer = 0.2, 1.0
    policy.key_pressed()
    clock.now += 0.05
    assert policy.delay("foo") == pytest.approx(0.15)
    clock.now += 0.45
    assert policy.delay("foo") == 0


def test_means_follow_the_newest_values_and_pauses_are_no_gaps(policy: DebouncePolicy, clock: Clock) -> None:
    for gap in (0.0, 0.2, MAX_GAP + 0.1):
        clock.now += gap
        policy.key_pressed()
    assert policy.gap == pytest.approx(0.2)
    for _ in range(50):
        clock.now += 0.4
        policy.key_pressed()
        policy.answered(0.1)
    assert policy.gap == pytest.approx(0.4, rel=0.01)
    assert policy.answer == pytest.approx(0.1)


async def test_a_pause_sleeps_for_the_delay(clock: Clock) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    policy = DebouncePolicy(clock, sleep)
    await policy.pause("foo")
    policy.gap, policy.answer = 0.2, 1.0
    await policy.pause("foo")
    assert slept == [0.2]


def test_another_model_leaves_the_typing(policy: DebouncePolicy) -> None:
    policy.gap = 0.2
    policy.answered(1.0)
    policy.waited(reused=True)
    policy.reset_answers()
    assert (policy.gap, policy.answer, policy.reuse) == (0.2, None, PRIOR_REUSE)


def test_wait_budget_before_anything_is_measured(policy: DebouncePolicy) -> None:
    assert policy.wait_budget(0.0) == PRIOR_REUSE * PRIOR_ANSWER


@pytest.mark.parametrize(
    ("reuse", "answer", "elapsed", "budget"),
    [
        (1.0, 0.4, 0.0, 0.4),  # always reused: never generated anew
        (0.0, 0.4, 0.4, 0.0),  # never reused: generated anew at once
        (0.5, 0.4, 0.3, 0.2),  # 0.1 s is left, and half of a new one is the price
        (0.5, 0.4, 0.1, 0.0),  # more is left than that
        (0.5, 0.4, 9.0, 0.2),  # it takes longer than others: the rest is unknown, but the price stays
        (0.5, 0.02, 0.015, 0.01),
    ],
)
def test_an_answer_in_flight_is_awaited_while_it_pays(
    policy: DebouncePolicy, reuse: float, answer: float, elapsed: float, budget: float
) -> None:
    policy.reuse, policy.answer = reuse, answer
    assert policy.wait_budget(elapsed) == pytest.approx(budget)


def test_reuse_follows_the_outcomes(policy: DebouncePolicy) -> None:
    for _ in range(60):
        policy.waited(reused=True)
        policy.answered(1.0)
    assert policy.reuse == pytest.approx(1.0, abs=0.01)
    for _ in range(60):
        policy.waited(reused=False)
    assert policy.wait_budget(0.5) == 0.0
