"""Cancellation latency: the time from cancelling a request until the engine is idle.

Typing cancels a request with each key. Prefill proceeds in chunks and can stop before each layer of a chunk; the worst
case is a cold prompt that is cancelled just after a layer of a long chunk began. So cold prompts are cancelled at
random moments, and so is decoding.

Run it in a process of its own (`python -m codegen_lsp.benchmarks.cancel`), with the environment of a worker.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
from attrs import frozen

from codegen_lsp.benchmarks.shape_program import main
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, EngineConfig, SamplingParams
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.tokenizer import Tokenizer

TOKENS = 48
"""Decoded in the rounds that cancel sampling."""


@frozen
class CancellationTimes:
    """Latencies of many cancellations, in milliseconds."""

    median_ms: float
    p95_ms: float
    longest_ms: float
    rounds: int
    """Rounds that were cancelled before they ended by themselves."""


@frozen
class CancellationBenchmark:
    """The figures of one run."""

    build: str
    context: int
    threads: int
    chunk_tokens: int
    """Tokens of a prefill chunk at the end of the run."""
    reading: CancellationTimes
    """Cancelled during the prefill of a cold prompt."""
    writing: CancellationTimes
    """Cancelled during decoding."""


def measure(build: Path, context: int, threads: int, rounds: int) -> CancellationBenchmark:
    """Cancel `rounds` cold prompts of `context` tokens, and as many continuations. Raises: ModelError."""
    info = read_info(build)
    engine = NativeEngine(
        build,
        info,
        Tokenizer.from_build(build, info),
        EngineConfig(
            device="cpu",
            compute_type="auto",
            threads=threads,
            cache_bytes=context * info.token_values * 4 * 2,
        ),
    )
    draw = random.Random(0)  # noqa: S311 - any ids and moments will do
    limit = info.vocabulary_size

    def prompt() -> list[int]:
        return [draw.randrange(1, limit) for _ in range(context)]

    started = time.perf_counter()
    engine.warm(prompt(), CancellationToken())
    cold = time.perf_counter() - started
    known = prompt()
    engine.warm(known, CancellationToken())
    started = time.perf_counter()
    _run(engine, known, CancellationToken())
    sampling = time.perf_counter() - started
    reading = [_held_up(engine, prompt(), draw.uniform(0, 0.9) * cold) for _ in range(rounds)]
    engine.warm(known, CancellationToken())
    writing = [_held_up(engine, known, draw.uniform(0.05, 0.9) * sampling) for _ in range(rounds)]
    return CancellationBenchmark(info.name, context, threads, engine.chunk_tokens, _times(reading), _times(writing))


def _run(engine: NativeEngine, prompt: list[int], cancellation: CancellationToken) -> None:
    engine.generate(prompt, SamplingParams(TOKENS, frozenset(), drafts=False), cancellation, lambda *_: False)


def _held_up(engine: NativeEngine, prompt: list[int], after: float) -> float | None:
    """Cancel a generation `after` seconds; return the seconds until it stops, or None if it had ended before."""
    cancellation = CancellationToken()
    cancelled = 0.0

    def cancel() -> None:
        nonlocal cancelled
        cancelled = time.perf_counter()
        cancellation.cancel()

    timer = threading.Timer(after, cancel)
    timer.start()
    try:
        _run(engine, prompt, cancellation)
    except Cancelled:
        return time.perf_counter() - cancelled
    timer.cancel()
    timer.join()
    return None


def _times(seconds: list[float | None]) -> CancellationTimes:
    counted = np.array([one for one in seconds if one is not None]) * 1e3
    if not len(counted):
        return CancellationTimes(0.0, 0.0, 0.0, 0)
    median, p95, longest = np.percentile(counted, (50, 95, 100)).tolist()
    return CancellationTimes(median, p95, longest, len(counted))


if __name__ == "__main__":
    main(measure)
