"""Which request runs when: one at a time, newest first, background work only when nobody waits.

Somebody who types makes requests faster than a model answers them, and only the newest is of use. So a newer request
with the same key replaces an older one, whether that waits or runs, and among different keys the newest goes first.
Background work is given up for any newer request, and never replaces what somebody waits for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

from codegen_lsp.inference.engine import Cancelled, Control

T = TypeVar("T")
Work = Callable[[Control, float], T]
"""Called in the computing thread with a control and the seconds it waited."""


class Replaced(Exception):  # noqa: N818 - no error: the caller asked again
    """A newer request with the same key took this one's place."""


@define(eq=False)
class _Job(Generic[T]):
    key: str
    work: Work[T]
    future: asyncio.Future[T]
    background: bool
    control: Control = field(factory=Control)
    since: float = field(factory=time.perf_counter)


class Scheduler:
    """Runs work in one thread of its own, for one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job] = []  # type: ignore[type-arg]
        self._running: _Job | None = None  # type: ignore[type-arg]
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._thread.start()

    async def run(self, key: str, work: Work[T], *, background: bool = False) -> T:
        """Run the work when its turn comes.

        Raises Replaced when a newer request with the same key came. Cancelling the awaiting task cancels the work.
        """
        job: _Job[T] = _Job(key, work, self._loop.create_future(), background)
        with self._changed:
            for older in [one for one in self._waiting if one.key == key and (one.background or not background)]:
                self._waiting.remove(older)
                _settle(older, Replaced())
            running = self._running
            if running and (running.background or (running.key == key and not background)):
                running.control.cancel()
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            job.control.cancel()
            with self._changed:
                if job in self._waiting:
                    self._waiting.remove(job)

    @property
    def busy(self) -> bool:
        """Whether foreground work runs or waits."""
        with self._changed:
            running = self._running
            return (running is not None and not running.background) or any(not job.background for job in self._waiting)

    def close(self) -> None:
        """End the thread after the token it is at. Waiting work is dropped."""
        with self._changed:
            self._closed = True
            if self._running:
                self._running.control.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _next(self) -> _Job | None:  # type: ignore[type-arg]
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            job = next((one for one in reversed(self._waiting) if not one.background), self._waiting[-1])
            self._waiting.remove(job)
            self._running = job
            return job

    def _compute(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = job.work(job.control, time.perf_counter() - job.since)
            except Cancelled:
                self._post(_settle, job, Replaced())
            except BaseException as error:
                self._post(_settle, job, error)
            else:
                self._post(_settle, job, None, result)
            with self._changed:
                self._running = None

    def _post(self, function: Callable[..., None], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)


def _settle(job: _Job[T], error: BaseException | None, result: T | None = None) -> None:
    if job.future.done():
        return
    if error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)  # type: ignore[arg-type]
