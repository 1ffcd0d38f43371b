"""How long a server usually takes to answer, and from when on an answer is late.

The mean and the mean deviation are averaged as TCP does for its retransmission timeout (RFC 6298): late is an answer
that takes longer than the mean and four mean deviations.
"""

from __future__ import annotations

import asyncio

from attrs import define

GAIN, DEVIATION_GAIN, DEVIATIONS = 1 / 8, 1 / 4, 4.0
"""Weights of a new time in the mean and in the mean deviation, and the multiple of the latter (RFC 6298, section 2)."""
FIRST_LIMIT = 1.0
"""Seconds allowed before any answer was measured (RFC 6298, section 2.1)."""
MIN_LIMIT, MAX_LIMIT = 0.2, 1.5
"""Seconds: about the time between two keys, and the time for which a user who stopped typing still waits."""


@define
class AnswerTimes:
    """Moving averages of the times of one kind of answers, in seconds."""

    mean: float | None = None
    """None before the first answer."""
    deviation: float = 0.0

    def add(self, seconds: float) -> None:
        """Count an answer; or, with the time waited in vain, one that was given up."""
        if self.mean is None:
            self.mean, self.deviation = seconds, seconds / 2
            return
        self.deviation += DEVIATION_GAIN * (abs(self.mean - seconds) - self.deviation)
        self.mean += GAIN * (seconds - self.mean)

    @property
    def limit(self) -> float:
        """Seconds after which an answer is late."""
        if self.mean is None:
            return FIRST_LIMIT
        return min(max(self.mean + DEVIATIONS * self.deviation, MIN_LIMIT), MAX_LIMIT)


@define
class Silence:
    """The time for which requests were open since the last answer."""

    _open: int = 0
    _since: float = 0.0
    _before: float = 0.0
    """Seconds of earlier requests, which were cancelled."""

    @property
    def seconds(self) -> float:
        """Seconds, with those of the open requests."""
        return self._before + (_now() - self._since if self._open else 0.0)

    def asked(self) -> None:
        """Note that a request was sent."""
        if not self._open:
            self._since = _now()
        self._open += 1

    def ended(self) -> None:
        """Note that a request has ended, answered or not."""
        self._before = self.seconds
        self._open, self._since = self._open - 1, _now()

    def broken(self) -> None:
        """Note an answer."""
        self._before, self._since = 0.0, _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
