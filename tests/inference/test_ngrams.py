"""N-grams counted by agreement equal those counted one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.inference.engines.native.ngrams import (
    GAP,
    MAX_AGREEMENT,
    ORDERS,
    SINGLE_SUCCESSOR,
    WITTEN_BELL_K,
    NgramMatcher,
)

SOME = st.lists(st.integers(0, 3), max_size=24)
TEXT = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def successors(texts: list[list[int]], context: list[int]) -> Counter[int]:
    """Count the successors of the context in the texts."""
    size = len(context)
    return Counter(
        text[at + size] for text in texts for at in range(len(text) - size) if text[at : at + size] == context
    )


def naive_mixture(texts: list[list[int]], context: list[int], model: np.ndarray) -> np.ndarray:
    for order, k in zip(ORDERS, WITTEN_BELL_K, strict=True):
        found = successors(texts, context[-order:]) if len(context) >= order else Counter()
        total = sum(found.values())
        if not total:
            break
        weight = total / (total + k * (len(found) if len(found) > 1 else SINGLE_SUCCESSOR))
        model = (1 - weight) * model
        for id, count in found.items():
            model[id] += weight * count / total
    return model


@given(TEXT, st.lists(SOME, max_size=3), st.lists(SOME, max_size=2), st.lists(st.integers(0, 3), max_size=20))
def test_the_mixture_is_the_nested_one(
    text: list[int], others: list[list[int]], dropped: list[list[int]], written: list[int]
) -> None:
    """Written and dropped tokens are not counted, but written tokens are context."""
    matches = NgramMatcher(text, others, dropped)
    model = np.array([0.4, 0.3, 0.2, 0.1])
    for end in range(len(written) + 1):
        if end:
            matches.append(written[end - 1])
        mixture = matches.mixture()
        scaled = model.copy()
        if mixture is not None:
            scaled[mixture.ids] += mixture.gains
        expected = naive_mixture([text, *others], text + written[:end], model)
        assert np.allclose(scaled / scaled.sum(), expected)


@given(st.lists(st.sampled_from([GAP, 0, 1, 2, 7]), min_size=1, max_size=40), st.lists(SOME, max_size=2))
def test_a_text_that_is_read_counts_as_one_that_was_given(text: list[int], others: list[list[int]]) -> None:
    read = NgramMatcher(text[:1], others, [])
    for end in range(1, len(text) + 1):
        if end > 1:
            read.read(text[end - 1])
        found, expected = read.mixture(), NgramMatcher(text[:end], others, []).mixture()
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            gains = dict(zip(expected.ids.tolist(), expected.gains.tolist(), strict=True))
            assert set(gains) == set(found.ids.tolist())
            assert all(np.isclose(gains[id], gain) for id, gain in zip(found.ids.tolist(), found.gains, strict=True))


@given(TEXT, st.lists(SOME, max_size=2), st.lists(SOME, max_size=2), SOME, st.integers(1, 9))
def test_a_draft_follows_the_longest_agreement(
    text: list[int], others: list[list[int]], dropped: list[list[int]], written: list[int], length: int
) -> None:
    matches = NgramMatcher(text, others, dropped)
    for id in written:
        matches.append(id)
    whole = text + written
    draft, agreeing = matches.draft(length)
    assert len(draft) <= length
    longest = max(
        (
            size
            for size in range(1, min(len(whole), MAX_AGREEMENT) + 1)
            if any(holds(one, whole[-size:]) for one in (*others, *dropped)) or holds(whole[:-1], whole[-size:])
        ),
        default=0,
    )
    assert agreeing == longest
    if draft:
        assert any(holds(one, [*whole[-agreeing:], *draft]) for one in (*others, *dropped, whole))


def holds(text: list[int], part: list[int]) -> bool:
    return any(text[at : at + len(part)] == part for at in range(len(text) - len(part) + 1))


def test_nothing_agrees_across_a_gap() -> None:
    matches = NgramMatcher([1, 2, GAP, 3, 1, 2], [], [])
    assert matches.mixture() is None
    assert matches.draft(4) == ([], 2)
    matches.append(3)
    assert matches.draft(4) == ([1, 2, 3], 1)


def test_copies_are_independent() -> None:
    matches = NgramMatcher([1, 2, 3, 1], [], [])
    other = matches.copy()
    matches.append(2)
    other.append(3)
    assert matches.draft(1) == ([3], 2)
    assert other.draft(1) == ([1], 1)


def test_a_text_of_one_token_agrees_with_nothing() -> None:
    assert NgramMatcher([5], [], []).mixture() is None
    assert NgramMatcher([5], [], []).draft(3) == ([], 0)
    assert NgramMatcher([], [[5, 6]], []).mixture() is None
