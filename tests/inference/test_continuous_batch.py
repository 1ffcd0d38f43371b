"""Continuous batching: what a request computes does not depend on its company."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attrs import define, evolve, field

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, EngineConfig, SamplingParams, Steps
from codegen_lsp.inference.engines.native import c_forward, continuous_batch, kv_cache
from codegen_lsp.inference.engines.native import engine as native_engine
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.kv_cache import WORTH_ADOPTING
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    IndexUpdate,
    ScoredText,
    StopRules,
    WarmParams,
    WorkspaceFile,
)
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.workspace_indexes import WorkspaceIndexes
from tests import needs
from tests.inference.test_native_engine import Eager

SOURCES = [inspect.getsource(module) for module in (argparse, textwrap, json, inspect)]
LINES = [source.splitlines(keepends=True) for source in SOURCES]

SHARED = "".join(LINES[0][:40])


WEIGHTS = {"int8": 0, "4 bits in groups of 32": 32, "4 bits in groups of 64": 64}
"""Weights of the builds, and how many of them share a scale with 4 bits."""
with_all_weights = pytest.mark.parametrize("engine", WEIGHTS, indirect=True)


@pytest.fixture
def engine(
    request: pytest.FixtureRequest,
    embedded_build: Path,
    four_bit_build: Callable[[int], Path],
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[NativeEngine]:
    """An engine whose chunks have the same lengths whatever else the machine does."""
    monkeypatch.setattr(native_engine, "LONGEST_CHUNK", 64)
    monkeypatch.setattr(native_engine.ChunkLength, "record", lambda *_: None)
    config = EngineConfig(device="cpu", compute_type="auto", threads=2, cache_bytes=2**28)
    group = WEIGHTS[getattr(request, "param", "int8")]
    build = four_bit_build(group) if group else embedded_build
    opened = NativeEngine(build, read_info(build), tokenizer, config)
    opened._draft_length = Eager()
    yield opened
    opened.close()


@pytest.fixture
def model(info: BuildInfo, tokenizer: Tokenizer, engine: NativeEngine) -> Iterator[TextModel]:
    """A model with n-grams, and with the index of a workspace where that was compiled."""
    workspaces = None
    if library() is not None:
        workspaces = WorkspaceIndexes(tokenizer.encode, "test", SMALL_MODEL.workspace, None)
        files = [WorkspaceFile(f"{number}.py", source[20_000:40_000], 1, 1) for number, source in enumerate(SOURCES)]
        workspaces.update(IndexUpdate("w", files, kept=False))
        assert workspaces.wait(60)
    made = TextModel(info, tokenizer, engine, weights=SMALL_MODEL, workspaces=workspaces)
    yield made
    if workspaces is not None:
        workspaces.close()


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_forward, "library", lambda: None)


@define
class Asked:
    """A request, and what came of it."""

    steps: Callable[[CancellationToken], Steps[Any]]
    cancellation: CancellationToken = field(factory=CancellationToken)
    error: BaseException | None = None
    result: Any = None
    ended: bool = False

    def settle(self, error: BaseException | None, result: Any) -> None:
        assert not self.ended
        self.error, self.result, self.ended = error, result, True


def request_of(draw: np.random.Generator, number: int, *, shared: bool = False) -> GenerateParams:
    """Return a request of a random kind. Unless `shared`, its prompt has no prefix in common with another's."""
    lines = LINES[int(draw.integers(len(LINES)))]
    start, length = int(draw.integers(0, 60)), int(draw.integers(1, 30))
    prefix = "".join(lines[start : start + length])
    prefix = SHARED + prefix if shared else f"# file {number}\n{prefix}"
    sampled = draw.random() < 0.4
    return GenerateParams(
        str(number),
        prefix[: len(prefix) - int(draw.integers(0, 9))],  # most end within a word, which is healed
        suffix="".join(lines[start + length : start + length + 12]) if draw.random() < 0.5 else "",
        stop=StopRules(max_tokens=int(draw.integers(1, 24)), max_lines=int(draw.integers(1, 9))),
        candidates=int(draw.choice([1, 1, 1, 2, 4])),
        temperature=0.8 if sampled else 0.0,
        seed=number if sampled else None,
        heal=draw.random() < 0.8,
        workspace="w" if draw.random() < 0.5 else "",
        related=[SOURCES[1][:3000]] if draw.random() < 0.5 else [],
    )


def run_together(engine: NativeEngine, asked: list[Asked], draw: np.random.Generator, cancelled: set[int]) -> int:
    """Run requests that join at random times; those of `cancelled` are cancelled at one. Return the most at once."""
    batch, waiting, most = engine.batch(), list(asked), 0
    running: list[Asked] = []
    while waiting or len(batch):
        while waiting and (not len(batch) or draw.random() < 0.4):
            one = waiting.pop(0)
            running.append(one)
            batch.add(one.steps(one.cancellation), one.cancellation, one.settle)
        for number in cancelled:
            if asked[number] in running and not asked[number].ended and draw.random() < 0.2:
                asked[number].cancellation.cancel()
        running = [one for one in running if not one.ended]
        most = max(most, len(running))
        batch.step()
    assert all(one.ended for one in asked)
    assert not any(sequence.in_use for sequence in engine._pool.sequences)
    assert engine.cache_bytes() <= engine._pool.limit
    return most


def alone(model: TextModel, params: GenerateParams) -> list[Candidate]:
    model.engine.close()  # nothing is cached
    return model.generate(params, CancellationToken()).candidates


def generation(model: TextModel, params: GenerateParams) -> Asked:
    return Asked(lambda cancellation: model.generating(params, cancellation))


@with_all_weights
@pytest.mark.parametrize("seed", range(2))
def test_company_changes_no_answer(
    model: TextModel, engine: NativeEngine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy and sampled, several candidates, healing, n-grams, drafts, infilling; some are cancelled.

    Nothing is reused, which would divide prompts into other chunks: so answers are equal to the last bit.
    """
    monkeypatch.setattr(kv_cache, "common_prefix", lambda *_: 0)
    draw = np.random.default_rng(seed)
    assert model.info.infill != "none"
    requests = [request_of(draw, number) for number in range(16)]
    expected = [alone(model, params) for params in requests]
    engine.close()
    asked = [generation(model, params) for params in requests]
    cancelled = {int(number) for number in draw.choice(16, 4, replace=False)}
    assert run_together(engine, asked, draw, cancelled) >= 4
    for number, (one, candidates) in enumerate(zip(asked, expected, strict=True)):
        if one.error is None:
            assert isinstance(one.result, GenerateResult)
            assert one.result.candidates == candidates
        else:
            assert isinstance(one.error, Cancelled)
            assert number in cancelled


@needs.mark("convert")
def test_company_changes_no_answer_without_the_library(
    without_library: None, model: TextModel, engine: NativeEngine
) -> None:
    draw = np.random.default_rng(0)
    requests = [evolve(request_of(draw, number), temperature=0.0, candidates=1) for number in range(5)]
    expected = [alone(model, params) for params in requests]
    asked = [generation(model, params) for params in requests]
    run_together(engine, asked, draw, set())
    texts = [[candidate.text for candidate in one.result.candidates] for one in asked]
    assert texts == [[candidate.text for candidate in answer] for answer in expected]


@with_all_weights
def test_a_shared_prefix_is_computed_once_and_changes_no_answer(model: TextModel, engine: NativeEngine) -> None:
    """But for near-ties: a prompt is divided into other chunks where a part of it is cached."""
    draw = np.random.default_rng(0)
    requests = [evolve(request_of(draw, number, shared=True), suffix="") for number in range(24)]
    expected = [alone(model, params) for params in requests]
    engine.close()
    asked = [generation(model, params) for params in requests]
    run_together(engine, asked, draw, set())
    texts = [[candidate.text for candidate in one.result.candidates[:1]] for one in asked]
    different = sum(ours != [one.text for one in theirs[:1]] for ours, theirs in zip(texts, expected, strict=True))
    assert different <= 3
    stats = [one.result.stats for one in asked]
    shared = len(model.tokenizer.encode(SHARED))
    assert sum(one.cached_tokens for one in stats) > (len(stats) - 2) * (shared - WORTH_ADOPTING)


@with_all_weights
def test_scores_and_warming_run_in_company(model: TextModel, engine: NativeEngine) -> None:
    draw = np.random.default_rng(1)
    texts = [ScoredText(SOURCES[0][:900], SOURCES[0][900:1000]), ScoredText("", SOURCES[1][:400])]
    expected = model.score(texts, CancellationToken())
    answer = alone(model, request_of(np.random.default_rng(7), 7))
    engine.close()
    asked = [
        Asked(lambda cancellation: model.scoring(texts, cancellation)),
        Asked(lambda cancellation: model.warming(WarmParams("d", SOURCES[2][:1500]), cancellation)),
        generation(model, request_of(np.random.default_rng(7), 7)),
        Asked(lambda cancellation: model.scoring(texts, cancellation)),
    ]
    run_together(engine, asked, draw, set())
    assert asked[0].result == asked[3].result == expected
    assert asked[1].result > 100
    assert asked[2].result.candidates == answer


@with_all_weights
def test_a_cancelled_request_leaves_at_the_next_step_and_its_work_is_kept(
    engine: NativeEngine, tokenizer: Tokenizer
) -> None:
    ids = tokenizer.encode(SOURCES[0])[:500]
    batch, asked = engine.batch(), [Asked(lambda cancellation: long(engine, ids, cancellation)) for _ in range(2)]
    for one in asked:
        batch.add(one.steps(one.cancellation), one.cancellation, one.settle)
    for _ in range(20):
        batch.step()
    asked[0].cancellation.cancel()
    batch.step()
    assert isinstance(asked[0].error, Cancelled)
    assert len(batch) == 1
    asked[1].cancellation.cancel()
    batch.step()
    assert len(batch) == 0
    result = engine.run(long(engine, ids, CancellationToken(), tokens=1), CancellationToken())
    assert result.cached_tokens >= 64


def long(engine: NativeEngine, ids: list[int], cancellation: CancellationToken, tokens: int = 400) -> Steps[Any]:
    return engine.generating(ids, SamplingParams(tokens, frozenset()), cancellation, lambda *_: False)


def test_a_newcomer_gets_its_tokens_while_a_long_prompt_is_read(engine: NativeEngine, tokenizer: Tokenizer) -> None:
    """Requests that prefill take turns, and those that decode go on meanwhile."""
    ids = tokenizer.encode(SOURCES[0])
    seen: list[str] = []

    def asked(name: str, prompt: list[int], tokens: int) -> Asked:
        def on_token(*_: object) -> bool:
            seen.append(name)
            return False

        sampling = SamplingParams(tokens, frozenset(), drafts=False)
        return Asked(lambda cancellation: engine.generating(prompt, sampling, cancellation, on_token))

    batch = engine.batch()
    for one in (asked("decoding", ids[:20], 60), asked("long", ids[100:1100], 1), asked("short", ids[2000:2040], 3)):
        batch.add(one.steps(one.cancellation), one.cancellation, one.settle)
    while len(batch):
        batch.step()
    before_long = seen[: seen.index("long")]
    assert before_long.count("short") == 3
    assert before_long.count("decoding") > 10


def test_requests_wait_until_there_is_memory_for_them(engine: NativeEngine, tokenizer: Tokenizer) -> None:
    engine._pool.limit = engine._pool.capacity(110) * engine._pool.token_bytes * 2
    ids = tokenizer.encode(SOURCES[0])
    asked = [Asked(lambda _, at=at: short(engine, ids[at : at + 100])) for at in range(0, 800, 100)]
    asked.insert(3, Asked(lambda _: short(engine, ids[:1000])))  # larger than the limit: it runs alone
    batch = engine.batch()
    for one in asked:
        batch.add(one.steps(one.cancellation), one.cancellation, one.settle)
    most = 0
    while len(batch):
        batch.step()
        in_use = [one for one in engine._pool.sequences if one.in_use]
        most = max(most, len(in_use))
        assert len(in_use) == 1 or sum(one.bytes for one in in_use) <= engine._pool.limit
    assert most == 2
    assert all(len(one.result.completions[0].tokens) == 8 for one in asked)


def short(engine: NativeEngine, ids: list[int]) -> Steps[Any]:
    return engine.generating(ids, SamplingParams(8, frozenset(), drafts=False), CancellationToken(), lambda *_: False)


def test_a_failure_of_one_request_is_its_own(engine: NativeEngine, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(SOURCES[0])[:60]

    def fail(*_: object) -> bool:
        raise ValueError("no such token")

    sampling = SamplingParams(8, frozenset())
    asked = [
        Asked(lambda _: engine.generating(ids, sampling, CancellationToken(), fail)),
        Asked(lambda _: engine.generating([10**6], sampling, CancellationToken(), lambda *_: False)),
        Asked(lambda _: short(engine, ids)),
    ]
    run_together(engine, asked, np.random.default_rng(0), set())
    assert isinstance(asked[0].error, ValueError)
    assert isinstance(asked[1].error, ModelError)
    assert len(asked[2].result.completions[0].tokens) == 8


def test_a_lack_of_memory_in_a_pass_is_reported_to_all_in_it(
    engine: NativeEngine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what they had computed before stays right."""
    ids = tokenizer.encode(SOURCES[0])[:60]
    prompts = [ids, ids[::-1]]
    expected = []
    for prompt in prompts:
        engine.close()
        expected.append(engine.run(short(engine, prompt), CancellationToken()).completions)
    engine.close()
    asked = [Asked(lambda _, prompt=prompt: short(engine, prompt)) for prompt in prompts]
    batch = engine.batch()
    for one in asked:
        batch.add(one.steps(one.cancellation), one.cancellation, one.settle)
    together, calls = engine._forward_pass.together, 0

    def fail_at_third(several: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return together(several)

    monkeypatch.setattr(engine._forward_pass, "together", fail_at_third)
    while len(batch):
        batch.step()
    monkeypatch.undo()
    failed = [one for one in asked if one.error is not None]
    assert failed
    assert all(isinstance(one.error, ModelError) for one in failed)
    for prompt, answer in zip(prompts, expected, strict=True):
        assert engine.run(short(engine, prompt), CancellationToken()).completions == answer


@pytest.mark.parametrize(("decoding", "waiting", "expected"), [(1, 1, 10), (1, 3, 30), (2, 3, 15), (3, 1, 10)])
def test_requests_share_the_time_equally(
    engine: NativeEngine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, *, decoding: int, waiting: int,
    expected: int,
) -> None:  # fmt: skip
    """By a clock that a step advances as much as ten layers: prompts get a step's time each, divided by the steps."""
    ids = tokenizer.encode(SOURCES[0])
    forward_pass, now, layers = engine._forward_pass, 0.0, 0
    together, advance = forward_pass.together, forward_pass.advance

    def timed_step(several: Any) -> Any:
        nonlocal now
        now += 10
        return together(several)

    def timed_layer(chunk: Any) -> None:
        nonlocal now, layers
        now += 1
        layers += 1
        advance(chunk)

    batch = engine.batch()
    sampling = SamplingParams(40, frozenset(), drafts=False)
    started: set[int] = set()

    def add(number: int, prompt: list[int]) -> None:
        def on_token(*_: object) -> bool:
            started.add(number)
            return False

        cancellation = CancellationToken()
        batch.add(engine.generating(prompt, sampling, cancellation, on_token), cancellation, lambda *_: None)

    for number in range(decoding):
        add(number, ids[number * 40 : number * 40 + 30])
    while len(started) < decoding:
        batch.step()
    for number in range(waiting):
        add(decoding + number, ids[number * 100 : number * 100 + 1500])
    monkeypatch.setattr(continuous_batch, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(forward_pass, "together", timed_step)
    monkeypatch.setattr(forward_pass, "advance", timed_layer)
    for _ in range(3):
        before, layers = now, 0
        batch.step()
        assert now - before == 10 + layers
        assert layers == expected
    assert len(started) == decoding
