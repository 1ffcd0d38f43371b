"""The incremental engine: what it says is what CTranslate2 says, and its cache never shows."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engine import Cancelled, Continuation, Control, Decoding, Generation
from codegen_lsp.inference.incremental import IncrementalEngine
from codegen_lsp.inference.kernels import KERNELS, Kernel, is_exact
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.transformer import Transformer
from codegen_lsp.inference.weights import read_weights

SOURCES = [inspect.getsource(module) for module in (argparse, textwrap, json, inspect)]

NEAR_TIE = 0.1
"""Two logits are as good as equal when they are closer. How tokens are batched changes the last bits of attention, and
a bit may tip an activation to the next of its 255 steps; the logits of this model were seen to move by 0.045."""


def new_engine(build: Path, info: BuildInfo, tokenizer: Tokenizer, cache_bytes: int) -> IncrementalEngine:
    return IncrementalEngine(
        build, info, tokenizer, device="cpu", compute_type="auto", threads=1, cache_bytes=cache_bytes
    )


def go_on(
    engine: IncrementalEngine, prompt: list[int], tokens: int = 6, control: Control | None = None, **options: object
) -> Generation:
    decoding = Decoding(max_tokens=tokens, end_tokens=frozenset(), **options)  # type: ignore[arg-type]
    return engine.generate(prompt, decoding, control or Control(), lambda *_: False)


@pytest.fixture(scope="module")
def warm(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> IncrementalEngine:
    return new_engine(embedded_build, info, tokenizer, 2**28)


@pytest.fixture(scope="module")
def cold(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> IncrementalEngine:
    return new_engine(embedded_build, info, tokenizer, 0)


@pytest.fixture(scope="module")
def transformer(embedded_build: Path) -> Transformer:
    return Transformer(read_weights(embedded_build), KERNELS[-1])


def all_logits(transformer: Transformer, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return transformer.logits(transformer.forward(ids, transformer.new_cache(len(ids)), 0))


# The same as CTranslate2


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if is_exact(kernel)])
def test_it_says_what_ctranslate2_says(embedded_build: Path, tokenizer: Tokenizer, kernel: Kernel) -> None:
    """As near to the float model as CTranslate2 is, and apart from it only where two tokens are almost as likely.

    Both round activations to 255 steps, and a last bit decides between two of them: either is a model of the same
    float one, and where that wavers they may waver apart.
    """
    generators = [
        ctranslate2.Generator(str(embedded_build), compute_type=kind, intra_threads=1) for kind in ("int8", "float32")
    ]
    transformer = Transformer(read_weights(embedded_build), kernel)
    total = apart = ours_from_float = theirs_from_float = 0
    losses = np.zeros(2)
    for source in SOURCES:
        ids = tokenizer.encode(source)[:700]
        theirs, exact = (
            torch.from_numpy(np.array(generator.forward_batch([ids]), dtype=np.float32))[0] for generator in generators
        )
        ours = all_logits(transformer, ids)
        choice = ours.argmax(-1)
        gap = theirs.max(-1).values - theirs.gather(1, choice[:, None])[:, 0]
        assert float(gap.max()) < 3 * NEAR_TIE
        total += len(ids)
        apart += int((gap > 0).sum())
        ours_from_float += int((choice != exact.argmax(-1)).sum())
        theirs_from_float += int((theirs.argmax(-1) != exact.argmax(-1)).sum())
        for which, logits in enumerate((ours, theirs)):
            losses[which] += float(F.cross_entropy(logits[:-1], torch.tensor(ids[1:])))
    assert apart <= 0.02 * total
    assert ours_from_float <= 1.25 * theirs_from_float
    assert losses[0] == pytest.approx(losses[1], rel=0.005)


# The cache never shows


@define
class Tally:
    """How often two ways gave the same token, and how often they parted at a near-tie."""

    tokens: int = 0
    ties: int = 0

    def compare(self, transformer: Transformer, prompt: list[int], first: Continuation, second: Continuation) -> None:
        """Count; fail where tokens part at anything but a near-tie."""
        pairs = list(zip(first.tokens, second.tokens, strict=True))
        at = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
        self.tokens += len(pairs) if at is None else at + 1
        if at is None:
            return
        logits = all_logits(transformer, prompt + first.tokens[:at])[-1]
        one, other = pairs[at]
        assert abs(float(logits[one] - logits[other])) < NEAR_TIE
        self.ties += 1


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    counted = Tally()
    yield counted
    assert counted.tokens > 2000
    assert counted.ties <= 0.005 * counted.tokens


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


@pytest.mark.timeout(600)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.integers(10, 80), edits=EDITS, small_budget=st.integers(1, 3), candidates=st.sampled_from([1, 1, 1, 2]))
def test_cold_warm_evicted_and_cut_say_the_same(
    warm: IncrementalEngine,
    cold: IncrementalEngine,
    transformer: Transformer,
    tokenizer: Tokenizer,
    tally: Tally,
    start: int,
    edits: list[tuple[str, int]],
    small_budget: int,
    candidates: int,
) -> None:
    warm._pool.limit = small_budget * 200 * transformer.token_bytes
    documents = [tokenizer.encode(source)[:500] for source in SOURCES]
    text, prompt = documents[0], documents[0][:start]
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
            prompt = prompt + go_on(warm, prompt).continuations[0].tokens[:amount]
        elif kind == "pause":
            warm.warm(prompt, Control())
        else:
            with pytest.raises(Cancelled):
                go_on(warm, prompt, control=CancelledAt(amount))
        prompt = prompt[:110]
        ours = go_on(warm, prompt, tokens=4, candidates=candidates).continuations[0]
        tally.compare(transformer, prompt, go_on(cold, prompt, tokens=4).continuations[0], ours)


def test_candidates_in_one_batch_are_what_each_would_be_alone(
    warm: IncrementalEngine, cold: IncrementalEngine, transformer: Transformer, tokenizer: Tokenizer
) -> None:
    tally = Tally()
    for source in SOURCES:
        for end in range(20, 420, 100):
            prompt = tokenizer.encode(source)[:end]
            for one in go_on(warm, prompt, tokens=8, candidates=4).continuations:
                first = one.tokens[:1]
                alone = go_on(cold, prompt + first, tokens=7).continuations[0]
                rest = Continuation(one.tokens[1:], one.log_probabilities[1:], one.ended)
                tally.compare(transformer, prompt + first, alone, rest)
    assert tally.ties <= 0.02 * tally.tokens


def test_log_probabilities_are_the_models(
    warm: IncrementalEngine, transformer: Transformer, tokenizer: Tokenizer
) -> None:
    prompt = tokenizer.encode(SOURCES[1])[:200]
    for one in go_on(warm, prompt, candidates=3).continuations:
        logits = all_logits(transformer, prompt + one.tokens)[len(prompt) - 1 : -1]
        expected = F.log_softmax(logits, -1)[torch.arange(len(one.tokens)), torch.tensor(one.tokens)]
        assert one.log_probabilities == pytest.approx(expected.tolist(), abs=3 * NEAR_TIE)


# What it costs


def test_only_new_tokens_are_computed(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:600]
    assert go_on(engine, ids[:500]).computed_tokens == 500
    assert go_on(engine, ids[:504]).computed_tokens == 4
    accepted = go_on(engine, ids[:504]).continuations[0].tokens
    assert go_on(engine, [*ids[:504], *accepted]).computed_tokens == 1
    assert go_on(engine, ids[:490]).computed_tokens == 1
    assert engine.warm(ids, Control()) == 600
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


class CancelledAt(Control):
    """Cancelled when it is asked for the n-th time."""

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
    monkeypatch.setattr("codegen_lsp.inference.incremental.LONGEST_CHUNK", 64)
    engine = new_engine(embedded_build, info, tokenizer, 2**28)
    ids = tokenizer.encode(SOURCES[0])[:600]
    run = engine.warm if warming else lambda ids, control: go_on(engine, ids, control=control)
    with pytest.raises(Cancelled):
        run(ids, CancelledAt(3))
    computed = go_on(engine, ids).computed_tokens
    assert 600 - 3 * 64 <= computed < 600
    assert go_on(engine, ids).computed_tokens == 0


# What it refuses


def test_devices_and_types_it_has_not_are_refused(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> None:
    for options in ({"device": "cuda"}, {"compute_type": "float16"}):
        with pytest.raises(ModelError, match="ct2"):
            IncrementalEngine(
                embedded_build,
                info,
                tokenizer,
                **({"device": "cpu", "compute_type": "auto"} | options),
                threads=1,
                cache_bytes=0,
            )


def test_a_lack_of_memory_is_told(
    embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(embedded_build, info, tokenizer, 2**28)

    def fail(capacity: int) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(engine._pool, "new_cache", fail)
    for call in (lambda: go_on(engine, [1, 2, 3]), lambda: engine.warm([1, 2, 3], Control())):
        with pytest.raises(ModelError, match="not enough memory"):
            call()
    monkeypatch.undo()
    assert go_on(engine, [1, 2, 3]).continuations
