"""Memory of computations that end by an error: it is free at once, and not when the garbage collector runs.

A traceback refers to the frames of the computation, and with them to its sequence in the KV cache, which may be the
largest object of the process. A frame that keeps the error as well makes a cycle.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, EngineConfig, SamplingParams, Steps
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.kv_cache import CachedSequence
from codegen_lsp.inference.engines.steps import run_alone
from codegen_lsp.inference.tokenizer import Tokenizer


class Held:
    """Stands for a sequence."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def computation(held: list[weakref.ref[Held]]) -> Steps[Any]:
    """Return a computation that has some memory when it is told that it was cancelled."""
    memory = Held()
    held.append(weakref.ref(memory))
    yield object()
    raise Cancelled


@pytest.fixture
def engine(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> Iterator[NativeEngine]:
    config = EngineConfig(device="cpu", compute_type="auto", threads=1, cache_bytes=2**28)
    opened = NativeEngine(embedded_build, info, tokenizer, config)
    yield opened
    opened.close()


def test_a_cancelled_computation_of_a_batch(engine: NativeEngine) -> None:
    held: list[weakref.ref[Held]] = []
    errors: list[type[BaseException]] = []
    batch, cancellation = engine.batch(), CancellationToken()
    batch.add(computation(held), cancellation, lambda error, _: errors.append(type(error)))
    assert held[0]() is not None
    cancellation.cancel()
    batch.step()
    assert errors == [Cancelled]
    assert held[0]() is None


def sequences() -> list[CachedSequence]:
    """Return all sequences of the process, those of engines that other tests keep open included."""
    return [one for one in gc.get_objects() if isinstance(one, CachedSequence)]


def test_the_sequences_of_cancelled_requests(engine: NativeEngine) -> None:
    others = sequences()
    errors: list[type[BaseException]] = []
    batch, cancellation = engine.batch(), CancellationToken()
    for number in range(3):
        prompt = [5 + number, *range(10, 300)]
        steps = engine.generating(prompt, SamplingParams(50, frozenset()), cancellation, lambda *_: False)
        batch.add(steps, cancellation, lambda error, _: errors.append(type(error)))
    for _ in range(3):
        batch.step()
    del steps
    cancellation.cancel()
    while len(batch):
        batch.step()
    assert errors == [Cancelled] * 3
    engine._pool.clear()
    assert [one for one in sequences() if not any(one is other for other in others)] == []


def test_a_computation_that_runs_alone() -> None:
    held: list[weakref.ref[Held]] = []
    ended = False

    def fail(demand: object) -> None:
        raise Cancelled

    try:
        run_alone(computation(held), fail)
    except Cancelled:
        ended = True
    assert ended
    assert held[0]() is None
