"""The pool of cached sequences: sharing, keeping, copying and dropping."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.kv_cache import CachedSequence, Ids, SequencePool, common_prefix, round_up

TOKEN_BYTES = 2 * 2 * 3 * 4


def new_pool(limit: int, longest: int = 10**6) -> SequencePool:
    return SequencePool(lambda capacity: np.zeros((1, 4, capacity, 3), dtype=np.float32), TOKEN_BYTES, limit, longest)


def ids(*values: int) -> Ids:
    return np.asarray(values, dtype=np.int64)


def run(pool: SequencePool, prompt: Ids, spare: int = 0) -> CachedSequence:
    """Do as an engine: write keys and values (here, the ids themselves) of the missing tokens."""
    sequence = pool.take(prompt, spare)
    at = len(sequence.ids)
    assert np.array_equal(sequence.ids, prompt[:at])
    sequence.cache[0, 0, at : len(prompt), 0] = prompt[at:]
    sequence.append(prompt[at:].tolist())
    pool.give_back(sequence)
    return sequence


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix(first: list[int], second: list[int]) -> None:
    expected = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    assert common_prefix(ids(*first), ids(*second)) == (min(len(first), len(second)) if expected is None else expected)


def test_typing_on_extends_one_sequence_in_place() -> None:
    pool = new_pool(10**6)
    text = np.arange(100)
    sequence = run(pool, text[:40], 20)
    cache = sequence.cache
    for end in range(41, 60):
        assert run(pool, text[:end]) is sequence
    assert sequence.cache is cache
    assert len(pool.sequences) == 1


def test_growing_keeps_the_contents() -> None:
    pool = new_pool(10**6)
    text = np.arange(1, 1000)
    for end in (10, 200, 205, 900):
        sequence = run(pool, text[:end])
        assert np.array_equal(sequence.cache[0, 0, :end, 0], text[:end])


def test_no_capacity_is_spared_beyond_the_context() -> None:
    pool = new_pool(10**6, longest=500)
    assert run(pool, np.arange(490)).capacity == 500
    assert run(pool, np.arange(490), 40).capacity == 530  # several candidates
    assert run(pool, np.arange(1000, 1100)).capacity == round_up(100)


def test_an_empty_sequence_is_freed_before_it_grows() -> None:
    pool = new_pool(round_up(300) * TOKEN_BYTES)
    run(pool, np.arange(200))
    alive: list[int] = []
    allocate = pool.new_cache

    def counted(capacity: int) -> Floats:
        alive.append(sum(sequence.bytes for sequence in pool.sequences))
        return allocate(capacity)

    pool.new_cache = counted
    run(pool, np.arange(1000, 1300))
    assert alive[-1] == 0


def test_a_few_tokens_are_cut_and_a_long_rest_is_kept() -> None:
    pool = new_pool(10**6)
    text = np.arange(300)
    run(pool, text)
    run(pool, np.concatenate((text[:290], ids(1, 2, 3))))
    assert len(pool.sequences) == 1
    run(pool, np.concatenate((text[:100], ids(7, 8))))
    assert sorted(len(sequence.ids) for sequence in pool.sequences) == [102, 293]


def test_without_space_for_both_the_rest_is_cut() -> None:
    pool = new_pool(round_up(300) * TOKEN_BYTES)
    run(pool, np.arange(300))
    run(pool, np.arange(150))
    assert [len(sequence.ids) for sequence in pool.sequences] == [150]


def test_the_least_recently_used_goes_first() -> None:
    pool = new_pool(3 * round_up(100) * TOKEN_BYTES)
    texts = [np.arange(100) + 1000 * number for number in range(4)]
    for number in (0, 1, 2, 0, 3):
        run(pool, texts[number])
    assert [pool.shared(text) for text in texts] == [100, 0, 100, 100]


def test_a_request_beyond_the_budget_runs_and_leaves_nothing() -> None:
    pool = new_pool(0)
    assert len(run(pool, np.arange(50)).ids) == 50
    assert pool.bytes == 0
    assert not pool.fits(1)


def test_logits_stay_with_their_prompt() -> None:
    pool = new_pool(10**6)
    text = np.arange(200)
    sequence = run(pool, text[:100])
    logits = np.ones(5, dtype=np.float32)
    sequence.remember(logits)
    sequence.append([100, 101])
    assert run(pool, text[:100]).recall(100) is logits
    run(pool, np.concatenate((text, text)))
    assert run(pool, text[:100]).recall(100) is logits
    shorter = pool.take(text[:99], 0)
    assert shorter.recall(99) is None
    shorter.append([99])
    assert shorter.recall(100) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 150), st.integers(0, 100)), max_size=30))
def test_the_budget_holds_and_contents_are_right(requests: list[tuple[int, int, int]]) -> None:
    pool = new_pool(4 * 128 * TOKEN_BYTES)
    for document, length, changed in requests:
        prompt = np.arange(length) + 10_000 * document
        prompt[changed:] += 5000
        sequence = run(pool, prompt)
        assert np.array_equal(sequence.cache[0, 0, :length, 0], prompt)
        assert pool.bytes <= pool.limit


def test_a_prefix_in_use_is_copied_and_not_taken() -> None:
    """A system prompt that several requests share is computed once, and none of them overwrites another's."""
    pool = new_pool(10**6)
    text = np.arange(1, 101)
    first = pool.take(text, 8)
    first.cache[0, 0, :100, 0] = text
    first.append(text.tolist())
    own = np.concatenate((text[:90], [7, 8]))
    second = pool.take(own, 8)
    assert second is not first
    assert second.in_use
    assert second.ids.tolist() == text[:90].tolist()
    second.cache[0, 0, 90:92, 0] = (7, 8)
    second.append([7, 8])
    assert first.ids.tolist() == text.tolist()
    assert np.array_equal(first.cache[0, 0, :100, 0], text)
    assert np.array_equal(second.cache[0, 0, :92, 0], own)
    pool.give_back(first)
    assert pool.take(text, 0) is first


def test_of_equal_prefixes_one_that_is_not_in_use_is_taken() -> None:
    pool = new_pool(10**6)
    text = np.arange(1, 101)
    idle = run(pool, text)
    running = pool.take(np.concatenate((text, [5])), 0)
    assert running is idle
    copy = run(pool, text)
    assert copy is not running
    assert pool.take(text, 0) is copy


def test_sequences_in_use_are_never_dropped_and_bound_what_may_run_beside_them() -> None:
    size = round_up(100)
    pool = new_pool(3 * size * TOKEN_BYTES)
    assert pool.has_room(10**5)  # alone, a request may exceed the limit
    for start in (1000, 2000, 3000):
        run(pool, np.arange(start, start + 100))
    running = [pool.take(np.arange(start, start + 100), 0) for start in (0, 500)]
    assert pool.bytes <= pool.limit
    assert pool.has_room(100)
    assert not pool.has_room(size + 1)
    running.append(pool.take(np.arange(900, 1000), 0))
    assert not pool.has_room(1)
    pool.settle()
    assert {id(one) for one in pool.sequences} == {id(one) for one in running}
    for one in running:
        pool.give_back(one)
    assert pool.bytes <= pool.limit


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 200), st.booleans()), max_size=40))
def test_the_budget_holds_while_several_requests_run(requests: list[tuple[int, int, bool]]) -> None:
    pool = new_pool(6 * 128 * TOKEN_BYTES)
    running: list[CachedSequence] = []
    for document, length, ends in requests:
        if ends and running:
            pool.give_back(running.pop(0))
        prompt = np.arange(length) + 10_000 * document
        if not running or pool.has_room(length):
            sequence = pool.take(prompt, 0)
            sequence.append(prompt[len(sequence.ids) :].tolist())
            running.append(sequence)
        assert pool.bytes <= pool.limit
