"""Times of an engine's passes: the latencies of `speed.ModelTimes`, on any engine.

Two clocks are read: the wall's, and the processor time of all threads divided by their number. On an idle machine both
tell nearly the same. Where other programs take the cores, a pass of some milliseconds is interrupted many times, and
the wall's clock measures those programs; processor time then tells about what the pass takes when they rest.
Memory bandwidth and caches are still shared then, so the best of several passes is taken.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Sequence

from attrs import define, field, frozen

from codegen_lsp.advice.speed import TYPED, WANTED, ModelSizes, ModelTimes, PassKind, TimedPass
from codegen_lsp.inference.engines.base import CancellationToken, Engine, SamplingParams

BUSY_RATIO = 1.5
"""Wall time by processor time from which a machine counts as busy; on an idle one, it is 1.0 to 1.3."""


@frozen
class PassKey:
    """A pass that is repeated."""

    kind: PassKind
    tokens: int
    cached: int


@frozen
class Clock:
    """Seconds by the wall's clock, and of processor time for each thread."""

    wall: float
    processor: float

    def since(self, earlier: Clock) -> Clock:
        """Return the time that has passed."""
        return Clock(self.wall - earlier.wall, self.processor - earlier.processor)


@define
class EngineTimer:
    """Runs passes on an engine and keeps the best time of each. `rows` is the number of token ids that may be drawn."""

    engine: Engine
    rows: int
    taken: dict[PassKey, list[Clock]] = field(factory=lambda: defaultdict(list))
    _random: random.Random = field(factory=lambda: random.Random(0))  # noqa: S311 - any ids will do

    def run(self, context: int) -> None:
        """Time a prompt that is not cached, `TYPED` tokens behind it, and the steps of `WANTED` tokens."""
        prompt = self._ids(context)
        self.taken[PassKey("prompt", context, 0)].append(self._clocks(prompt, 1)[0])
        self.engine.warm(prompt, CancellationToken())
        clocks = self._clocks(prompt + self._ids(TYPED), WANTED)
        self.taken[PassKey("typed", TYPED, context)].append(clocks[0])
        steps = [later.since(earlier) for earlier, later in itertools.pairwise(clocks)]
        self.taken[PassKey("step", 1, context + TYPED)].extend(steps)

    def best(self, *, processor: bool) -> dict[PassKey, float]:
        """Return the least seconds of each pass, by one of the clocks."""
        return {
            key: min(one.processor if processor else one.wall for one in clocks) for key, clocks in self.taken.items()
        }

    def passes(self, sizes: ModelSizes, *, processor: bool) -> list[TimedPass]:
        """Return the best passes, for a model of these sizes."""
        found = self.best(processor=processor)
        return [TimedPass(sizes, key.kind, key.tokens, key.cached, seconds) for key, seconds in found.items()]

    def times(self, context: int, *, processor: bool) -> ModelTimes:
        """Return the latencies at a context for which `run` was called."""
        found = self.best(processor=processor)
        return ModelTimes(
            first_token=found[PassKey("typed", TYPED, context)],
            step=found[PassKey("step", 1, context + TYPED)],
            prompt=found[PassKey("prompt", context, 0)],
        )

    def _ids(self, count: int) -> list[int]:
        return [self._random.randrange(1, self.rows) for _ in range(count)]

    def _clocks(self, prompt: list[int], wanted: int) -> list[Clock]:
        """Continue a prompt, and return the time from the start to each token."""
        seen: list[Clock] = []

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            seen.append(self._now().since(started))
            return False

        sampling = SamplingParams(max_tokens=wanted, end_tokens=frozenset(), drafts=False)
        started = self._now()
        self.engine.generate(prompt, sampling, CancellationToken(), on_token)
        return seen

    def _now(self) -> Clock:
        return Clock(time.perf_counter(), time.process_time() / self.engine.threads)


def is_busy(timers: Sequence[EngineTimer]) -> bool:
    """Return whether other programs took the processor: most passes took much longer than their processor time."""
    ratios = [
        wall / max(timer.best(processor=True)[key], 1e-9)
        for timer in timers
        for key, wall in timer.best(processor=False).items()
    ]
    return sorted(ratios)[len(ratios) // 2] > BUSY_RATIO if ratios else False
