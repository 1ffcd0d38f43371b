"""Scheduling of requests: one at a time, newest first, background work only while no foreground request waits.

While a user types, requests come faster than a model answers them, and only the newest is of use. So a newer request
with the same key supersedes an older one, waiting or running, and among different keys the newest runs first.
Background work is cancelled for any newer request, and never supersedes a foreground request.

Keys belong to an owner: a language server, of which a worker may have several. Owners take turns, the one served
longest ago first, so that none can starve the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import define, field

from codegen_lsp.errors import SupersededError
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled

T = TypeVar("T")
Work = Callable[[CancellationToken, float], T]
"""Called in the computing thread with a cancellation token and the seconds that it waited."""


@define(eq=False)
class _Job(Generic[T]):
    key: str
    work: Work[T]
    future: asyncio.Future[T]
    background: bool
    owner: str
    cancellation: CancellationToken = field(factory=CancellationToken)
    since: float = field(factory=time.perf_counter)


class Scheduler:
    """Runs work in a thread of its own. Made inside the event loop, to which results are posted."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job[Any]] = []
        self._running: _Job[Any] | None = None
        self._turns = 0
        self._turn_of: dict[str, int] = {}
        """Turn at which each owner was last served."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._thread.start()

    async def run(self, key: str, work: Work[T], *, background: bool = False, owner: str = "") -> T:
        """Run work when its turn comes, and return its result. Cancelling the awaiting task cancels the work.

        Raises SupersededError when a newer request of the owner has the same key or, for background work, when any
        other request comes; and whatever the work raises.
        """
        job: _Job[T] = _Job(key, work, self._loop.create_future(), background, owner)
        with self._changed:
            same = [one for one in self._waiting if (one.owner, one.key) == (owner, key)]
            for older in [one for one in same if one.background or not background]:
                self._waiting.remove(older)
                _settle(older, SupersededError())
            running = self._running
            superseded = running and (running.owner, running.key) == (owner, key) and not background
            if running and (running.background or superseded):
                running.cancellation.cancel()
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await job.future
        finally:
            job.cancellation.cancel()
            with self._changed:
                if job in self._waiting:
                    self._waiting.remove(job)

    @property
    def busy(self) -> bool:
        """True while foreground work runs or waits."""
        with self._changed:
            running = self._running
            return (running is not None and not running.background) or any(not job.background for job in self._waiting)

    def forget(self, owner: str) -> None:
        """Drop the state of an owner that has disconnected. Its requests must have been cancelled."""
        with self._changed:
            self._turn_of.pop(owner, None)

    def close(self) -> None:
        """Cancel running work, drop waiting work, and end the thread."""
        with self._changed:
            self._closed = True
            if self._running:
                self._running.cancellation.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _next(self) -> _Job[Any] | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            candidates = [one for one in self._waiting if not one.background] or self._waiting
            # Of equals `min` takes the first: the newest.
            job: _Job[Any] = min(reversed(candidates), key=lambda one: self._turn_of.get(one.owner, 0))
            self._waiting.remove(job)
            self._turns += 1
            self._turn_of[job.owner] = self._turns
            self._running = job
            return job

    def _compute(self) -> None:
        while (job := self._next()) is not None:
            try:
                result = job.work(job.cancellation, time.perf_counter() - job.since)
            except Cancelled:
                self._post(_settle, job, SupersededError())
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
