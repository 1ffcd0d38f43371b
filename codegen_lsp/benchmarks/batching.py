"""Continuous batching: tokens per second by the number of requests at once, and the latency of one that joins others.

Each request continues a context of its own, which is cached, without drafts. The newcomer's context is not cached: its
prefill shares the time with the decode steps of the others.

Run it in a process of its own (`python -m codegen_lsp.benchmarks.batching`), with the environment of a worker.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

from attrs import frozen

from codegen_lsp.benchmarks.shape_program import main
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, EngineConfig, SamplingParams
from codegen_lsp.inference.engines.native.continuous_batch import ContinuousBatch
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.tokenizer import Tokenizer

AT_ONCE = (1, 2, 4, 8, 16)
TOKENS = 32
"""Decoded for each request."""
COMPANY = 8
"""Requests that decode while another one joins."""


@frozen
class BatchingBenchmark:
    """The figures of one run: medians of its rounds."""

    build: str
    context: int
    threads: int
    tokens_per_second: dict[str, float]
    """Of all requests together, by their number."""
    company: int
    alone_ms: float
    """From a request whose context is not cached to its first token."""
    joining_ms: float
    """The same while `company` other requests decode."""


class BatchRun:
    """The batch of an engine, and random prompts for it."""

    def __init__(self, engine: NativeEngine, vocabulary_size: int, context: int) -> None:
        self.engine = engine
        self._draw = random.Random(0)  # noqa: S311 - any ids will do
        self._vocabulary_size = vocabulary_size
        self._context = context

    def prompt(self, *, cached: bool) -> list[int]:
        """Return a new prompt."""
        made = [self._draw.randrange(1, self._vocabulary_size) for _ in range(self._context)]
        if cached:
            self.engine.warm(made, CancellationToken())
        return made

    def add(
        self, batch: ContinuousBatch, prompt: list[int], tokens: int, cancellation: CancellationToken | None = None
    ) -> list[float]:
        """Add a request to a batch. Return a list that gets the time of each of its tokens."""
        times: list[float] = []

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            times.append(time.perf_counter())
            return False

        def settle(error: BaseException | None, result: object) -> None:
            if error is not None and not isinstance(error, Cancelled):
                raise error

        sampling = SamplingParams(max_tokens=tokens, end_tokens=frozenset(), drafts=False)
        cancellation = cancellation or CancellationToken()
        batch.add(self.engine.generating(prompt, sampling, cancellation, on_token), cancellation, settle)
        return times

    def rate(self, at_once: int) -> float:
        """Return the tokens per second of so many requests together, without the first of each."""
        batch = self.engine.batch()
        prompts = [self.prompt(cached=True) for _ in range(at_once)]
        all_times = [self.add(batch, prompt, TOKENS) for prompt in prompts]
        while len(batch):
            batch.step()
        ends = sorted(moment for times in all_times for moment in times)
        return (len(ends) - at_once) / (ends[-1] - ends[at_once - 1])

    def first_token(self, company: int) -> float:
        """Return the seconds to the first token of a cold request that joins others which decode."""
        batch = self.engine.batch()
        limit = self._context  # more than the newcomer's prefill leaves time for
        cancellation = CancellationToken()
        others = [self.add(batch, self.prompt(cached=True), limit, cancellation) for _ in range(company)]
        while not all(others):
            batch.step()
        newcomer = self.prompt(cached=False)
        started = time.perf_counter()
        times = self.add(batch, newcomer, 1)
        while not times:
            batch.step()
        cancellation.cancel()
        while len(batch):
            batch.step()
        return times[0] - started


def measure(build: Path, context: int, threads: int, rounds: int) -> BatchingBenchmark:
    """Time batches on a build, all sizes in turn in each round. Raises: ModelError."""
    info = read_info(build)
    if 2 * context > info.context_length:
        raise ModelError(
            f"{info.name} has a context of {info.context_length} tokens.",
            f"Ask for at most {info.context_length // 2}.",
        )
    bytes_of_token = info.token_values * 4
    config = EngineConfig(
        device="cpu",
        compute_type="auto",
        threads=threads,
        cache_bytes=(max(AT_ONCE) + 4) * (context + TOKENS) * bytes_of_token,
    )
    run = BatchRun(NativeEngine(build, info, Tokenizer.from_build(build, info), config), info.vocabulary_size, context)
    run.rate(1)
    rates: dict[int, list[float]] = {count: [] for count in AT_ONCE}
    alone, joining = [], []
    for _ in range(rounds):
        for count in AT_ONCE:
            rates[count].append(run.rate(count))
        alone.append(run.first_token(0))
        joining.append(run.first_token(COMPANY))
    return BatchingBenchmark(
        info.name,
        context,
        threads,
        {str(count): statistics.median(found) for count, found in rates.items()},
        COMPANY,
        statistics.median(alone) * 1e3,
        statistics.median(joining) * 1e3,
    )


if __name__ == "__main__":
    main(measure)
