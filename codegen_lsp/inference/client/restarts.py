"""When a worker that died is started again, and when no longer."""

from __future__ import annotations

import time
from collections import deque

from attrs import define, field

CRASHES = 5
CRASH_WINDOW_SECONDS = 60.0
"""After `CRASHES` deaths within this time the worker stays down until it is restarted by hand (as Tabby does). Where
nobody is there to do that, it is started less and less often."""
BACKOFF_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Delay before the first, second, … restart."""
UNATTENDED_SECONDS, MOST_UNATTENDED_SECONDS = 10.0, 60.0
"""Delay before the restart after `CRASHES` failures in succession, and the limit up to which it doubles with each more.
A start costs seconds of all cores, and more memory than there is, if that was why the worker died."""


@define
class Restarts:
    """The failures of a worker: its unexpected deaths, and starts that failed. Times are monotonic seconds."""

    unattended: bool = False
    """True where nobody restarts the worker by hand: then no failure is the last one."""
    times: deque[float] = field(factory=lambda: deque(maxlen=CRASHES))
    """Of the recent deaths."""
    succession: int = 0
    """Failures since a worker last lived for the time of the window."""
    ready_at: float | None = None
    """When the running worker became ready."""

    def ready(self) -> None:
        """Note that the worker is ready."""
        if self.ready_at is None:
            self.ready_at = time.monotonic()

    def failed(self) -> float | None:
        """Note a failure; return the seconds until the next start, None if there is to be none."""
        now = time.monotonic()
        if self.ready_at is not None and now - self.ready_at >= CRASH_WINDOW_SECONDS:
            self.succession = 0
        self.ready_at = None
        self.succession += 1
        self.times.append(now)
        if self.unattended:
            return unattended_delay(self.succession)
        deaths = sum(now - at < CRASH_WINDOW_SECONDS for at in self.times)
        return None if deaths >= CRASHES else BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS)) - 1]


def unattended_delay(failures: int) -> float:
    """Return the seconds until the next start after so many failures in succession."""
    if failures < CRASHES:
        return BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
    doublings = min(failures - CRASHES, 16)  # more would be above the limit, and some day no float
    return min(MOST_UNATTENDED_SECONDS, UNATTENDED_SECONDS * 2.0**doublings)
