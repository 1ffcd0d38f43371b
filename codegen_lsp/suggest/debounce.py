"""Adaptive debounce: when to ask the model while the user types, and how long to wait for a request in flight.

A generation that the next key overtakes is wasted; a delay costs its own length. If the model usually answers before
the next key, asking at once wastes little; if it never does, only a pause in typing is worth a request. The delay is
therefore the mean answer time less half the mean gap between keys, at most one gap. (Tabby's adaptive debounce, too,
uses both means, but has a minimum of 100 ms because its generations can't be cancelled.) At the end of a word or line,
where pauses are more likely, the delay is halved.

The same means decide how long a newer request waits for a generation in flight. If an answer takes c seconds on average
and a share p of the answers in flight fit the newer request, waiting for the rest of one pays while that rest is less
than p c; otherwise a new generation, which takes c, is the shorter way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

WEIGHT = 0.1
"""Weight of the newest value in the exponential moving averages, which therefore follow about the last ten values."""
MAX_GAP = 1.5
"""Seconds between two keys above which the user has stopped typing."""
MAX_DELAY = 0.4
"""Seconds, as in Tabby."""
PRIOR_REUSE = 0.5
"""Share of in-flight answers assumed to fit a newer request before any was waited for."""
PRIOR_ANSWER = 0.3
"""Seconds assumed for an answer before one was measured."""


class DebouncePolicy:
    """Moving averages of the typing and of the model's answers, and the two delays that follow from them.

    `clock` and `sleep` replace the real time in tests.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._last_key: float | None = None
        self.gap: float | None = None
        """Mean seconds between two keys; None before the first gap."""
        self.answer: float | None = None
        """Mean seconds of a generation; None before the first."""
        self.reuse = PRIOR_REUSE
        """Share of the in-flight answers waited for that fitted the newer request."""

    def key_pressed(self) -> None:
        """Count a change of a document as a key."""
        now = self._clock()
        if self._last_key is not None and (gap := now - self._last_key) <= MAX_GAP:
            self.gap = _average(self.gap, gap)
        self._last_key = now

    def answered(self, seconds: float) -> None:
        """Count the time of a generation."""
        self.answer = _average(self.answer, seconds)

    def waited(self, *, reused: bool) -> None:
        """Count whether an in-flight answer that a newer request waited for fitted it."""
        self.reuse = _average(self.reuse, float(reused))

    def reset_answers(self) -> None:
        """Forget what depends on the model and its settings."""
        self.answer, self.reuse = None, PRIOR_REUSE

    def delay(self, line: str) -> float:
        """Return the seconds to wait from now before the model is asked; `line` is the line up to the cursor."""
        if self.gap is None or self.answer is None:
            return 0.0
        delay = min(self.answer - self.gap / 2, self.gap, MAX_DELAY)
        if not (line[-1:].isalnum() or line[-1:] == "_"):
            delay /= 2
        since_key = self._clock() - self._last_key if self._last_key is not None else 0.0
        return max(0.0, delay - since_key)

    async def pause(self, line: str) -> None:
        """Sleep for `delay(line)`."""
        if (delay := self.delay(line)) > 0:
            await self._sleep(delay)

    def wait_budget(self, elapsed: float) -> float:
        """Return the seconds worth waiting for a generation that has run for `elapsed` seconds; 0 for not at all."""
        if self.answer is None:
            return PRIOR_REUSE * PRIOR_ANSWER
        budget = self.reuse * self.answer
        return budget if self.answer - elapsed <= budget else 0.0


def _average(mean: float | None, value: float) -> float:
    return value if mean is None else mean + WEIGHT * (value - mean)
