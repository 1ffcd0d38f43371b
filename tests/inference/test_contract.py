"""The contract of the engines."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import numpy as np
import pytest

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.constraint import agrees
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, Engine, Generation, SamplingParams
from codegen_lsp.inference.engines.factory import ENGINES, open_engine
from codegen_lsp.inference.engines.native import c_forward as native
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer

SOURCE = inspect.getsource(textwrap)


def continue_(engine: Engine, prompt: list[int], **options: object) -> Generation:
    options.setdefault("max_tokens", 12)
    options.setdefault("end_tokens", frozenset())
    return engine.generate(prompt, SamplingParams(**options), CancellationToken(), lambda *_: False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prompt(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(SOURCE)[:300]


def test_greedy_decoding_is_repeatable(engine: Engine, prompt: list[int]) -> None:
    first = continue_(engine, prompt).completions
    assert len(first[0].tokens) == 12
    assert continue_(engine, prompt).completions[0].tokens == first[0].tokens


def test_on_token_sees_each_token_of_the_result(engine: Engine, prompt: list[int]) -> None:
    seen: list[tuple[int, int, float]] = []
    sampling = SamplingParams(max_tokens=9, end_tokens=frozenset(), candidates=3)
    result = engine.generate(prompt, sampling, CancellationToken(), lambda *token: bool(seen.append(token)))
    for number, completion in enumerate(result.completions):
        mine = [(id, log) for candidate, id, log in seen if candidate == number]
        assert [id for id, _ in mine] == completion.tokens
        assert [log for _, log in mine] == pytest.approx(completion.log_probabilities)
        assert all(log <= 0 for _, log in mine)


def test_candidates_differ_and_the_first_is_the_greedy_one(engine: Engine, prompt: list[int]) -> None:
    several = continue_(engine, prompt, candidates=4).completions
    assert len({tuple(one.tokens) for one in several}) == 4
    assert several[0].tokens == continue_(engine, prompt).completions[0].tokens
    firsts = [one.log_probabilities[0] for one in several]
    assert firsts == sorted(firsts, reverse=True)


def test_the_caller_ends_a_candidate_with_the_token_it_is_shown(engine: Engine, prompt: list[int]) -> None:
    count = 0

    def stop_at_third(candidate: int, id: int, log_probability: float) -> bool:
        nonlocal count
        count += 1
        return count == 3

    result = engine.generate(
        prompt, SamplingParams(max_tokens=50, end_tokens=frozenset()), CancellationToken(), stop_at_third
    )
    assert len(result.completions[0].tokens) == 3
    assert result.generated_tokens == 3


def test_cancelling_stops_within_one_token(engine: Engine, prompt: list[int]) -> None:
    cancellation, seen = CancellationToken(), []

    def cancel_at_fourth(candidate: int, id: int, log_probability: float) -> bool:
        seen.append(id)
        if len(seen) == 4:
            cancellation.cancel()
        return False

    with pytest.raises(Cancelled):
        engine.generate(prompt, SamplingParams(max_tokens=200, end_tokens=frozenset()), cancellation, cancel_at_fourth)
    assert len(seen) <= 5


def test_a_cancelled_token_computes_nothing(engine: Engine, prompt: list[int]) -> None:
    cancellation = CancellationToken()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        engine.generate(
            prompt, SamplingParams(max_tokens=4, end_tokens=frozenset()), cancellation, lambda *_: pytest.fail("ran")
        )


def test_an_end_token_ends_and_is_left_out(engine: Engine, prompt: list[int]) -> None:
    free = continue_(engine, prompt).completions[0].tokens
    end = next(id for id in free[2:] if id not in free[:2])
    result = continue_(engine, prompt, end_tokens=frozenset({end})).completions[0]
    assert result.ended
    assert result.tokens == free[: free.index(end)]


def test_only_real_tokens_are_generated(engine: Engine, prompt: list[int], tokenizer: Tokenizer) -> None:
    for seed in range(3):
        result = continue_(engine, prompt[:40], temperature=2.0, seed=seed, max_tokens=60)
        for id in result.completions[0].tokens:
            assert id < tokenizer.size
            assert id not in tokenizer.special_ids


@pytest.mark.parametrize("forced", [b"zx", b"re", b" ", b"\n        ", b"(", "é".encode(), b"qqqqqq"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_begin_with_forced_bytes(
    engine: Engine, prompt: list[int], tokenizer: Tokenizer, forced: bytes, temperature: float
) -> None:
    result = continue_(engine, prompt, forced=forced, temperature=temperature, seed=1, candidates=2, max_tokens=10)
    for completion in result.completions:
        written = b"".join(map(tokenizer.token_bytes, completion.tokens))
        assert agrees(written, forced)
    assert b"".join(map(tokenizer.token_bytes, result.completions[0].tokens)).startswith(forced)


def test_forcing_the_greedy_answer_changes_nothing(engine: Engine, prompt: list[int], tokenizer: Tokenizer) -> None:
    free = continue_(engine, prompt).completions[0].tokens
    forced = tokenizer.token_bytes(free[0])[:1]
    assert continue_(engine, prompt, forced=forced).completions[0].tokens == free


def test_one_of_the_most_likely_tokens_is_sampled(engine: Engine, prompt: list[int]) -> None:
    greedy = continue_(engine, prompt).completions[0].tokens
    sampled = continue_(engine, prompt, temperature=5.0, top_k=1, seed=3).completions[0].tokens
    assert sampled == greedy
    assert continue_(engine, prompt, temperature=5.0, top_k=50, seed=3).completions[0].tokens != greedy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_most_likely_tokens_are_reported_before_each_token(
    engine: Engine, prompt: list[int], temperature: float
) -> None:
    """The first one is the greedy choice, and the one that is chosen has the log-probability that is reported."""
    reported: list[tuple[int, list[tuple[int, float]]]] = []
    chosen: list[tuple[int, int, float]] = []
    sampling = SamplingParams(
        max_tokens=8,
        end_tokens=frozenset(),
        temperature=temperature,
        seed=1,
        alternatives=5,
        on_alternatives=lambda candidate, found: reported.append((candidate, found)),
    )
    engine.generate(prompt, sampling, CancellationToken(), lambda *token: bool(chosen.append(token)))
    assert len(reported) == len(chosen) == 8
    for (_, found), (_, id, log_probability) in zip(reported, chosen, strict=True):
        assert len(found) == 5
        logs = [log for _, log in found]
        assert logs == sorted(logs, reverse=True)
        if temperature == 0:
            assert found[0][0] == id
            assert found[0][1] == pytest.approx(log_probability, abs=1e-3)


def test_sampling_is_repeatable_by_seed(engine: Engine, prompt: list[int]) -> None:
    def sampled(seed: int) -> list[list[int]]:
        result = continue_(engine, prompt, temperature=1.0, seed=seed, candidates=2, max_tokens=16)
        return [one.tokens for one in result.completions]

    assert sampled(5) == sampled(5)
    assert sampled(5) != sampled(6)


def test_cold_and_warm_give_the_same_tokens(engine: Engine, engine_build: Path, tokenizer: Tokenizer) -> None:
    """Greedy answers with and without a cache are the same after typing, deleting and jumping, but for near-ties.

    A cache may change how floats are batched, so a token may differ where two were as good as equal; that is rare.
    """
    random = np.random.default_rng(0)
    ids = tokenizer.encode(SOURCE)
    at, total, different = 200, 0, 0
    for _ in range(40):
        at = int(np.clip(at + random.choice([1, 2, 3, 5, 8, -2, -9, 120, -150]), 100, len(ids) - 1))
        prompt = ids[max(0, at - 400) : at] if random.random() < 0.2 else ids[:at]
        warm = continue_(engine, prompt).completions[0]
        if random.random() < 0.3:
            engine.warm(prompt, CancellationToken())
        fresh = cold_engine(engine, engine_build, tokenizer)
        cold = continue_(fresh, prompt).completions[0]
        fresh.close()
        total += len(cold.tokens)
        different += warm.tokens != cold.tokens
    assert different <= total * 0.005


def cold_engine(like: Engine, build: Path, tokenizer: Tokenizer) -> Engine:
    """Open an engine of the same kind without a cache."""
    params = LoadParams(str(build), engine=like.name, threads=2, cache_memory_mb=0)
    with pytest.MonkeyPatch.context() as patch:
        if type(getattr(like, "_forward_pass", None)).__name__ == "TorchForwardPass":
            patch.setattr(native, "library", lambda: None)
        return open_engine(params, build, read_info(build), tokenizer)


def test_warming_is_used(engine: Engine, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("import json\n" + SOURCE)[:500]
    cached = engine.warm(ids, CancellationToken())
    assert cached > 400
    assert continue_(engine, ids).cached_tokens == cached
    assert continue_(engine, [*ids, *ids[100:110]]).cached_tokens >= cached


def test_the_cache_stays_within_its_budget(embedded_build: object, info: BuildInfo, tokenizer: Tokenizer) -> None:
    limit_mb = 4
    for name in ENGINES:
        params = LoadParams(str(embedded_build), engine=name, threads=2, cache_memory_mb=limit_mb)
        engine = open_engine(params, embedded_build, info, tokenizer)  # type: ignore[arg-type]
        ids = tokenizer.encode(SOURCE)
        largest = 0
        for start in range(0, 200, 10):
            prompt = ids[start : start + 150]
            continue_(engine, prompt, max_tokens=2)
            engine.warm(prompt, CancellationToken())
            largest = max(largest, engine.cache_bytes())
        assert 0 < largest <= limit_mb * 2**20
        engine.close()


def test_a_missing_device_and_a_wrong_type_are_named(
    embedded_build: object, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    for params, word in (
        (LoadParams(str(embedded_build), compute_type="int3"), "int3"),
        (LoadParams(str(embedded_build), engine="gguf"), "gguf"),
    ):
        with pytest.raises(ModelError, match=word):
            open_engine(params, embedded_build, info, tokenizer)  # type: ignore[arg-type]


def test_a_score_is_what_decoding_reports(engine: Engine, prompt: list[int]) -> None:
    answer = continue_(engine, prompt[:80], max_tokens=8).completions[0]
    scored = engine.score(prompt[:80] + answer.tokens, CancellationToken())
    assert len(scored) == 80 + 7
    assert scored[-8:] == pytest.approx(answer.log_probabilities, abs=0.02)


def test_a_text_of_the_contexts_length_is_scored_whole(engine: Engine, tokenizer: Tokenizer, info: BuildInfo) -> None:
    ids = (tokenizer.encode(SOURCE) * 10)[: info.context_length]
    scored = np.array(engine.score(ids, CancellationToken()))
    assert len(scored) == len(ids) - 1
    assert np.isfinite(scored).all()
    assert (scored <= 0).all()


def test_a_cancelled_score_computes_nothing(engine: Engine, prompt: list[int]) -> None:
    cancellation = CancellationToken()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        engine.score(prompt, cancellation)
    assert len(engine.score(prompt, CancellationToken())) == len(prompt) - 1


def test_candidates_differ_beyond_the_forced_bytes(engine: Engine, tokenizer: Tokenizer) -> None:
    """A different tokenization of the forced bytes does not make a different candidate."""
    prompt = tokenizer.encode("class Point:\n    def __init__(self, x, y):")
    forced = b"\n        "
    result = continue_(engine, prompt, forced=forced, candidates=3)
    beyond = [
        b"".join(map(tokenizer.token_bytes, one.tokens))[len(forced) :].split(b"\n")[0] for one in result.completions
    ]
    assert len(set(beyond)) == 3
    assert all(text and not text.startswith(b" ") for text in beyond)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_constraints_hold_with_ngrams(
    engine: Engine, prompt: list[int], tokenizer: Tokenizer, temperature: float
) -> None:
    """Special tokens of the prompt and of related texts are not mixed in, and forced bytes stay forced."""
    marked = [*sorted(tokenizer.special_ids)[:2], *prompt[:60], *sorted(tokenizer.special_ids)[:1], *prompt[:60]]
    options = {"ngrams": True, "related": [prompt, marked], "temperature": temperature, "seed": 2}
    result = continue_(engine, marked, forced=b"zx", candidates=3, max_tokens=20, **options)
    for completion in result.completions:
        assert agrees(b"".join(map(tokenizer.token_bytes, completion.tokens)), b"zx")
        assert not tokenizer.special_ids.intersection(completion.tokens)
        assert all(np.isfinite(completion.log_probabilities))
    again = continue_(engine, marked, forced=b"zx", candidates=3, max_tokens=20, **options)
    assert [one.tokens for one in again.completions] == [one.tokens for one in result.completions]


@pytest.mark.parametrize("ids", [[], [-1], [10**6], [0, 10**6]], ids=str)
def test_prompts_that_are_no_prompts_are_refused(engine: Engine, prompt: list[int], ids: list[int]) -> None:
    with pytest.raises(ModelError):
        continue_(engine, ids)
    assert continue_(engine, prompt).completions
