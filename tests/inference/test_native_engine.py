"""The native engine: it agrees with CTranslate2, and neither its cache nor its drafts change an answer."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import argparse
import gc
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import psutil
import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, WeightFormat
from codegen_lsp.inference.engines.base import (
    CancellationToken,
    Cancelled,
    Completion,
    EngineConfig,
    Generation,
    SamplingParams,
)
from codegen_lsp.inference.engines.native import c_forward as native
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.forward import ForwardPass
from codegen_lsp.inference.engines.native.mixing import interpolate
from codegen_lsp.inference.engines.native.ngrams import NgramMatcher
from codegen_lsp.inference.engines.native.speculative import LENGTHS, DraftLength
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import KERNELS, is_exact
from codegen_lsp.inference.engines.native.weights import ModelWeights, read_weights
from codegen_lsp.inference.sampling import log_softmax, log_sum
from codegen_lsp.inference.tokenizer import Tokenizer

SOURCES = [inspect.getsource(module) for module in (argparse, textwrap, json, inspect)]

SHAPES = {
    "gptj": Architecture("codegen", 2, 4, 64, 256, 8, 160, 512, 1e-5, 4),
    "llama": Architecture("llama", 2, 4, 64, 176, 16, 160, 512, 1e-6),
}
NEAR_TIE = 0.1
"""Logits that differ by less count as equal. The batching of tokens changes the last bits of attention, and a bit may
round an activation to the next of its 255 steps; that moves the logits of this model by up to about 0.05."""


def new_engine(build: Path, info: BuildInfo, tokenizer: Tokenizer, cache_bytes: int) -> NativeEngine:
    config = EngineConfig(device="cpu", compute_type="auto", threads=1, cache_bytes=cache_bytes)
    return NativeEngine(build, info, tokenizer, config)


def go_on(
    engine: NativeEngine,
    prompt: list[int],
    tokens: int = 6,
    cancellation: CancellationToken | None = None,
    **options: object,
) -> Generation:
    sampling = SamplingParams(max_tokens=tokens, end_tokens=frozenset(), **options)  # type: ignore[arg-type]
    return engine.generate(prompt, sampling, cancellation or CancellationToken(), lambda *_: False)


@pytest.fixture(scope="module")
def forward_pass(embedded_build: Path) -> TorchForwardPass:
    return TorchForwardPass(read_weights(embedded_build), KERNELS[-1])


def all_logits(forward_pass: ForwardPass, ids: list[int]) -> Floats:
    return forward_pass.logits(forward_pass.forward(ids, forward_pass.new_cache(len(ids)), 0))


# The same as CTranslate2


def implementations() -> dict[str, Callable[[ModelWeights], ForwardPass]]:
    """Return all forward passes that this machine supports."""
    found: dict[str, Callable[[ModelWeights], ForwardPass]] = {
        kernel.__name__: partial(TorchForwardPass, kernel=kernel)  # type: ignore[attr-defined]
        for kernel in KERNELS
        if is_exact(kernel)
    }
    for variant in native.VARIANTS:
        library = native.library((variant,))
        if library is not None:
            found[variant] = partial(CForwardPass, found=library, threads=2)
    return found


@pytest.mark.parametrize("implementation", implementations())
def test_it_agrees_with_ctranslate2(embedded_build: Path, tokenizer: Tokenizer, implementation: str) -> None:
    """It is as near to the float model as CTranslate2, and differs from it only where two tokens are almost as likely.

    Both round activations to 255 steps, where a last bit decides between two of them; so they may differ where the
    float model is undecided.
    """
    generators = [
        ctranslate2.Generator(str(embedded_build), compute_type=kind, intra_threads=1) for kind in ("int8", "float32")
    ]
    forward_pass = implementations()[implementation](read_weights(embedded_build))
    total = apart = ours_from_float = theirs_from_float = 0
    losses = np.zeros(2)
    for source in SOURCES:
        ids = tokenizer.encode(source)[:700]
        theirs, exact = (np.array(generator.forward_batch([ids]), dtype=np.float32)[0] for generator in generators)
        ours = all_logits(forward_pass, ids)
        choice = ours.argmax(-1)
        gap = theirs.max(-1) - theirs[np.arange(len(ids)), choice]
        assert float(gap.max()) < 3 * NEAR_TIE
        total += len(ids)
        apart += int((gap > 0).sum())
        ours_from_float += int((choice != exact.argmax(-1)).sum())
        theirs_from_float += int((theirs.argmax(-1) != exact.argmax(-1)).sum())
        for which, logits in enumerate((ours, theirs)):
            losses[which] -= np.mean([log_softmax(row)[id] for row, id in zip(logits, ids[1:], strict=False)])
    assert apart <= 0.03 * total
    assert ours_from_float <= 1.25 * theirs_from_float
    assert losses[0] == pytest.approx(losses[1], rel=0.005)


# The cache never shows


@define
class Tally:
    """Counts of equal tokens, and of those that differed at a near-tie."""

    tokens: int = 0
    ties: int = 0

    def compare(
        self,
        forward_pass: TorchForwardPass,
        prompt: list[int],
        first: Completion,
        second: Completion,
        related: list[list[int]] | None = None,
    ) -> None:
        """Count; fail where tokens differ at anything but a near-tie. With `related`, n-grams are mixed in."""
        pairs = list(zip(first.tokens, second.tokens, strict=True))
        at = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
        self.tokens += len(pairs) if at is None else at + 1
        if at is None:
            return
        logits = all_logits(forward_pass, prompt + first.tokens[:at])[-1]
        if related is not None:
            ngrams = NgramMatcher(prompt, related, [])
            for id in first.tokens[:at]:
                ngrams.append(id)
            interpolate(logits, log_sum(logits), ngrams.mixture())
        one, other = pairs[at]
        assert abs(float(logits[one] - logits[other])) < 2 * NEAR_TIE  # 0.11 is the largest gap that was found
        self.ties += 1


class Eager(DraftLength):
    """Always drafts, with changing lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0

    def choose(self, agreeing: int) -> int:
        self.turn += 1
        return LENGTHS[self.turn % len(LENGTHS)] if agreeing else 0


@define
class Pair:
    """Two engines over one build, and a forward pass that tells near-ties."""

    warm: NativeEngine
    cold: NativeEngine
    forward_pass: TorchForwardPass
    documents: list[list[int]]
    tally: Tally = field(factory=Tally)
    drafted: int = 0
    accepted: int = 0

    @classmethod
    def over(cls, build: Path, info: BuildInfo, tokenizer: Tokenizer, documents: list[list[int]]) -> Pair:
        """Open both engines: `warm` has a small cache and always drafts, `cold` has no cache and never drafts."""
        warm, cold = (new_engine(build, info, tokenizer, size) for size in (2**28, 0))
        warm._draft_length = Eager()
        return cls(warm, cold, TorchForwardPass(read_weights(build), KERNELS[-1]), documents)

    def check(self, tokens: int = 2000) -> None:
        """Assert that enough tokens were compared, ties were rare, and drafts were both right and wrong."""
        assert self.tally.tokens > tokens
        assert self.tally.ties <= 0.005 * self.tally.tokens
        assert 0.02 * self.drafted < self.accepted < self.drafted


@pytest.fixture(scope="module")
def embedded(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> Iterator[Pair]:
    pair = Pair.over(embedded_build, info, tokenizer, [tokenizer.encode(source)[:500] for source in SOURCES])
    yield pair
    if pair.tally.tokens:
        pair.check()


def random_pair(directory: Path, shape: str, weights: WeightFormat | None = None) -> Pair:
    """Write a small build with random weights. Its texts have few different tokens, so that they repeat themselves."""
    info = write_random_build(directory, shape, SHAPES[shape], weights)
    draw = np.random.default_rng(0)
    documents = [draw.integers(1, 12, 300).tolist() for _ in SOURCES]
    return Pair.over(directory, info, Tokenizer.from_build(directory, info), documents)


@pytest.fixture(scope="module", params=["gptj", "llama"])
def random(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = random_pair(tmp_path_factory.mktemp(request.param), request.param)
    yield pair
    if pair.tally.tokens:
        pair.check()


@pytest.fixture(scope="module", params=[("gptj", 32), ("llama", 64)], ids=lambda given: f"{given[0]}, {given[1]}")
def four_bits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """As `random`, with 4-bit weights in groups."""
    shape, group = request.param
    pair = random_pair(tmp_path_factory.mktemp(shape), shape, WeightFormat(4, group))
    assert pair.forward_pass.weights.has_four_bits
    yield pair
    if pair.tally.tokens:
        pair.check(1000)


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("type"), st.integers(1, 8)),
        st.tuples(st.just("delete"), st.integers(1, 30)),
        st.tuples(st.just("jump"), st.integers(0, 400)),
        st.tuples(st.just("accept"), st.integers(1, 6)),
        st.tuples(st.just("other document"), st.integers(0, len(SOURCES) - 1)),
        st.tuples(st.just("change earlier"), st.integers(1, 60)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(1, 3)),
    ),
    min_size=2,
    max_size=4,
)


HISTORY = {
    "start": st.integers(10, 80),
    "edits": EDITS,
    "small_budget": st.integers(1, 3),
    "candidates": st.sampled_from([1, 1, 1, 2]),
    "ngrams": st.booleans(),
}


@pytest.mark.timeout(600)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(**HISTORY)
def test_neither_cache_nor_drafts_change_an_answer(embedded: Pair, **history: Any) -> None:
    follow(embedded, **history)


@pytest.mark.timeout(600)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(**HISTORY)
def test_neither_cache_nor_drafts_change_an_answer_of_other_shapes(random: Pair, **history: Any) -> None:
    follow(random, **history)


@pytest.mark.timeout(600)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(**HISTORY)
def test_neither_cache_nor_drafts_change_an_answer_with_4_bit_weights(four_bits: Pair, **history: Any) -> None:
    follow(four_bits, **history)


def follow(
    pair: Pair, start: int, edits: list[tuple[str, int]], small_budget: int, candidates: int, ngrams: bool
) -> None:
    """Edit a text, and compare the completions after each edit."""
    warm, documents = pair.warm, pair.documents
    warm._pool.limit = small_budget * 200 * pair.forward_pass.weights.token_bytes
    text, prompt, related = documents[0], documents[0][:start], documents[1:2]
    for kind, amount in edits:
        if kind == "type":
            prompt = prompt + text[len(prompt) : len(prompt) + amount]
        elif kind == "delete":
            prompt = prompt[:-amount] or prompt[:1]
        elif kind == "jump":
            prompt = text[: amount % 90 + 5]
        elif kind == "other document":
            text = documents[amount]
            prompt = text[: len(prompt)]
        elif kind == "change earlier":
            at = max(0, len(prompt) - amount)
            prompt = [*prompt[:at], text[0], *prompt[at + 1 :]]
        elif kind == "accept":
            prompt = prompt + go_on(warm, prompt).completions[0].tokens[:amount]
        elif kind == "pause":
            warm.warm(prompt, CancellationToken())
        else:
            with pytest.raises(Cancelled):
                go_on(warm, prompt, cancellation=CancelledAt(amount))
        prompt = prompt[:110]
        options = {"tokens": 6, "ngrams": ngrams, "related": related}
        ours = go_on(warm, prompt, candidates=candidates, **options)
        theirs = go_on(pair.cold, prompt, drafts=False, **options)
        pair.drafted += ours.drafted_tokens
        pair.accepted += ours.accepted_tokens
        assert theirs.drafted_tokens == 0
        mixed = related if ngrams else None
        pair.tally.compare(pair.forward_pass, prompt, theirs.completions[0], ours.completions[0], mixed)


def test_candidates_of_a_batch_equal_those_decoded_alone(embedded: Pair) -> None:
    tally = Tally()
    for document in embedded.documents:
        for end in range(20, 420, 100):
            prompt = document[:end]
            for one in go_on(embedded.warm, prompt, tokens=8, candidates=4).completions:
                first = one.tokens[:1]
                alone = go_on(embedded.cold, prompt + first, tokens=7).completions[0]
                rest = Completion(one.tokens[1:], one.log_probabilities[1:], one.ended)
                tally.compare(embedded.forward_pass, prompt + first, alone, rest)
    assert tally.ties <= 0.02 * tally.tokens


def test_log_probabilities_are_those_of_the_model(embedded: Pair) -> None:
    prompt = embedded.documents[1][:200]
    for one in go_on(embedded.warm, prompt, candidates=3).completions:
        logits = all_logits(embedded.forward_pass, prompt + one.tokens)[len(prompt) - 1 : -1]
        expected = [float(log_softmax(row)[id]) for row, id in zip(logits, one.tokens, strict=True)]
        assert one.log_probabilities == pytest.approx(expected, abs=3 * NEAR_TIE)


# The n-gram mixing and drafts


def test_ngrams_of_the_document_are_mixed_in_on_request(embedded: Pair, tokenizer: Tokenizer) -> None:
    line = tokenizer.encode("frobnicate_the_quux = zorp(1)\n")
    prompt = line * 3 + tokenizer.encode("class A:\n    pass\n\n\n") + line[:3]
    plain, mixed = (go_on(embedded.cold, prompt, ngrams=on).completions[0] for on in (False, True))
    assert mixed.tokens == line[3:9]
    assert plain.tokens != mixed.tokens
    assert sum(mixed.log_probabilities) > sum(plain.log_probabilities)


def test_ngrams_of_related_texts_are_mixed_in(embedded: Pair, tokenizer: Tokenizer) -> None:
    line = tokenizer.encode("frobnicate_the_quux = zorp(1)\n")
    prompt = tokenizer.encode("x = 1\n") + line[:3]
    assert go_on(embedded.cold, prompt, ngrams=True).completions[0].tokens != line[3:9]
    assert go_on(embedded.cold, prompt, ngrams=True, related=[line * 3]).completions[0].tokens == line[3:9]


def test_the_mixed_distribution_is_sampled(embedded: Pair, tokenizer: Tokenizer) -> None:
    """Drafts change no sample, since they use no random numbers."""
    prompt = tokenizer.encode("frobnicate_the_quux = 1\n" * 8)
    options = {"temperature": 0.8, "seed": 3, "candidates": 1, "ngrams": True, "tokens": 12}
    drafted = go_on(embedded.warm, prompt, **options)
    assert drafted.accepted_tokens > 3
    assert go_on(embedded.cold, prompt, drafts=False, **options).completions[0].tokens == (
        drafted.completions[0].tokens
    )


def test_a_deleted_text_is_drafted(embedded: Pair, tokenizer: Tokenizer) -> None:
    """A draft repeats a text that was cut off, such as an answer that was not accepted."""
    pair = embedded
    prompt = pair.documents[2][:150]
    answer = go_on(pair.warm, prompt, tokens=16).completions[0].tokens
    again = go_on(pair.warm, prompt, tokens=16)
    assert again.completions[0].tokens == answer
    assert again.accepted_tokens >= 8


def test_a_draft_ends_where_the_caller_ends(embedded: Pair) -> None:
    prompt = embedded.documents[0][:40] * 3
    seen: list[int] = []

    def stop_at_fifth(candidate: int, id: int, log_probability: float) -> bool:
        seen.append(id)
        return len(seen) == 5

    sampling = SamplingParams(max_tokens=50, end_tokens=frozenset(), ngrams=True)
    result = embedded.warm.generate(prompt, sampling, CancellationToken(), stop_at_fifth)
    assert result.completions[0].tokens == seen
    assert len(seen) == 5
    assert go_on(embedded.warm, prompt + seen, tokens=1).computed_tokens <= 1


# What it costs


def test_only_new_tokens_are_computed(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:600]
    assert go_on(engine, ids[:500]).computed_tokens == 500
    assert go_on(engine, ids[:504]).computed_tokens == 4
    accepted = go_on(engine, ids[:504]).completions[0].tokens
    assert go_on(engine, [*ids[:504], *accepted]).computed_tokens == 1
    assert go_on(engine, ids[:490]).computed_tokens == 1
    assert engine.warm(ids, CancellationToken()) == 600
    assert go_on(engine, ids).computed_tokens == 0
    assert go_on(engine, ids, forced=b"zx").computed_tokens == 0


def test_another_document_does_not_push_the_first_one_out(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    first, second = (tokenizer.encode(source)[:300] for source in SOURCES[:2])
    go_on(engine, first)
    go_on(engine, second)
    assert go_on(engine, first).computed_tokens == 0
    assert go_on(engine, second[:200]).computed_tokens <= 1
    assert go_on(engine, second).computed_tokens <= 1


# Cancelling


class CancelledAt(CancellationToken):
    """A token that is cancelled at its n-th check."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.cancel()
        super().check()


@pytest.mark.parametrize("warming", [False, True])
def test_a_cancelled_prefill_keeps_its_chunks(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, warming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen_lsp.inference.engines.native.engine.LONGEST_CHUNK", 64)
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:600]
    run = engine.warm if warming else lambda ids, cancellation: go_on(engine, ids, cancellation=cancellation)
    with pytest.raises(Cancelled):
        run(ids, CancelledAt(3 * info.layers))
    computed = go_on(engine, ids).computed_tokens
    assert 600 - 3 * 64 <= computed < 600
    assert go_on(engine, ids).computed_tokens == 0


def test_scoring_ends_at_the_layer_where_it_is_cancelled(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:600]
    run: list[int] = []
    name = "_run" if isinstance(engine._forward_pass, CForwardPass) else "_attention_and_mlp"
    one_layer = getattr(engine._forward_pass, name)
    monkeypatch.setattr(engine._forward_pass, name, lambda *given, **named: run.append(1) or one_layer(*given, **named))
    with pytest.raises(Cancelled):
        engine.score(ids, CancelledAt(info.layers + 1))
    assert len(run) == info.layers + 1
    assert len(engine.score(ids, CancellationToken())) == 599


def test_an_interrupted_chunk_continues_at_its_layer(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:90]
    whole = go_on(engine, ids).completions[0]
    for layer in range(1, info.layers):
        engine.close()
        with pytest.raises(Cancelled):
            go_on(engine, ids, cancellation=CancelledAt(layer))
        checks = CancelledAt(10**6)
        assert engine.warm(ids, checks) == 90
        assert 10**6 - checks._left == info.layers - (layer - 1)  # one check at the start, then one for each layer
        again = go_on(engine, ids)
        assert again.computed_tokens == 0
        assert again.completions[0] == whole


@pytest.mark.parametrize("other", ["longer", "shorter", "another text"])
def test_an_interrupted_chunk_is_discarded_by_any_other_run(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, other: str
) -> None:
    """Keys and values of the interrupted chunk's place were overwritten."""
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    document = tokenizer.encode(SOURCES[0])[:120]
    start, ids = document[:30], document[:90]
    go_on(engine, start, tokens=1)
    with pytest.raises(Cancelled):
        go_on(engine, ids, cancellation=CancelledAt(info.layers))
    between = {"longer": document, "shorter": document[:60], "another text": [*start, 5, 6, 7]}[other]
    go_on(engine, between, tokens=1)
    with pytest.raises(Cancelled):
        go_on(engine, start, cancellation=CancelledAt(1))
    engine._pool.sequences[-1].cut(30)
    checks = CancelledAt(10**6)
    engine.warm(ids, checks)
    assert 10**6 - checks._left == info.layers


# What it refuses


def test_unsupported_devices_and_types_are_refused(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> None:
    for options in ({"device": "cuda"}, {"compute_type": "float16"}):
        config = EngineConfig(**({"device": "cpu", "compute_type": "auto"} | options), threads=1, cache_bytes=0)
        with pytest.raises(ModelError, match="ct2"):
            NativeEngine(embedded_build, info, tokenizer, config)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")],
    ids=["numpy", "torch"],
)
def test_a_lack_of_memory_is_reported(
    embedded_build: Path,
    info: BuildInfo,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError | MemoryError,
) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)

    def fail(capacity: int) -> Floats:
        raise error

    monkeypatch.setattr(engine._pool, "new_cache", fail)
    for call in (lambda: go_on(engine, [1, 2, 3]), lambda: engine.warm([1, 2, 3], CancellationToken())):
        with pytest.raises(ModelError, match="not enough memory"):
            call()
    monkeypatch.undo()
    assert go_on(engine, [1, 2, 3]).completions


# What it keeps


def test_memory_does_not_grow_with_completions(tmp_path: Path) -> None:
    """50 documents are edited in turn, with drafts, candidates, and cancelled requests."""
    info = write_random_build(tmp_path, "tiny", Architecture("codegen", 1, 2, 32, 64, 8, 160, 512, 1e-5, 4))
    engine = new_engine(tmp_path, info, Tokenizer.from_build(tmp_path, info), 400 * 256 * 4)
    draw = np.random.default_rng(0)
    documents = [draw.integers(1, 12, 120).tolist() for _ in range(50)]
    process = psutil.Process()

    def complete(times: int) -> tuple[int, int]:
        for number in range(times):
            document = documents[number % 50]
            document[100:] = draw.integers(1, 12, 1 + number % 20).tolist()
            cancellation = CancelledAt(2) if number % 7 == 0 else CancellationToken()
            with suppress(Cancelled):
                options = {"candidates": 1 + (number % 5 == 0), "ngrams": number % 2 == 0}
                go_on(engine, document, tokens=4, cancellation=cancellation, **options)
            assert engine.cache_bytes() <= engine._pool.limit
        gc.collect()
        return process.memory_info().rss, len(gc.get_objects())

    resident, objects = complete(500)
    resident_later, objects_later = complete(4500)
    assert resident_later - resident < 8 * 2**20
    assert objects_later - objects < 500
