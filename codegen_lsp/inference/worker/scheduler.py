"""Scheduling of requests: as many at once as the engine batches, newest first, background work only while no foreground
request waits or runs.

While a user types, requests come faster than a model answers them, and only the newest is of use. So a newer request
with the same key supersedes an older one, waiting or running, and among different keys the newest runs first.
Background work is cancelled for any newer request, and never supersedes a foreground request.

Keys belong to an owner: a language server, of which a worker may have several. Owners take turns, the one served
longest ago first, so that none can starve the others. So do the users of an owner that serves several; the requests of
such a user are answered in the order in which they came.

Work is a function that returns a result, or a computation in steps (`engines.base.Steps`), which runs in one batch with
others. All work runs in one thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import define, field

from codegen_lsp.errors import SupersededError
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, EngineBatch, Steps
from codegen_lsp.inference.engines.steps import NoBatch

T = TypeVar("T")
Work = Callable[[CancellationToken, float], T | Steps[T]]
"""Called in the computing thread with a cancellation token and the seconds that it waited."""
REMEMBERED_TURNS = 1024
"""Owners and users whose last turns are remembered."""


@define(eq=False)
class _Job(Generic[T]):
    key: str
    work: Work[T]
    future: asyncio.Future[T]
    background: bool
    owner: str
    user: str
    alone: bool
    """Whether nothing else may run meanwhile."""
    cancellation: CancellationToken = field(factory=CancellationToken)
    since: float = field(factory=time.perf_counter)


class Scheduler:
    """Runs work in a thread of its own. Made inside the event loop, to which results are posted."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job[Any]] = []
        self._running: list[_Job[Any]] = []
        self._batch: EngineBatch = NoBatch()
        self._slots = 1
        self._turns = 0
        self._turn_of: dict[tuple[str, str], int] = {}
        """Turn at which each user of each owner was last served."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._thread.start()

    def use(self, batch: EngineBatch, slots: int) -> None:
        """Run up to `slots` computations at once from now on, in this batch. For work that runs alone."""
        with self._changed:
            self._batch, self._slots = batch, slots

    async def run(
        self,
        key: str,
        work: Work[T],
        *,
        background: bool = False,
        owner: str = "",
        user: str = "",
        alone: bool = False,
    ) -> T:
        """Run work when its turn comes, and return its result. Cancelling the awaiting task cancels the work.

        Raises SupersededError when a newer request of the owner has the same key or, for background work, when any
        other request comes; and whatever the work raises.
        """
        job: _Job[T] = _Job(key, work, self._loop.create_future(), background, owner, user, alone)
        with self._changed:
            same = [one for one in self._waiting if (one.owner, one.key) == (owner, key)]
            for older in [one for one in same if one.background or not background]:
                self._waiting.remove(older)
                _settle(older, SupersededError())
            for running in self._running:
                superseded = (running.owner, running.key) == (owner, key) and not background
                if running.background or superseded:
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
            return any(not job.background for job in (*self._running, *self._waiting))

    def forget(self, owner: str) -> None:
        """Drop the state of an owner that has disconnected. Its requests must have been cancelled."""
        with self._changed:
            for served in [one for one in self._turn_of if one[0] == owner]:
                del self._turn_of[served]

    def close(self) -> None:
        """Cancel running work, drop waiting work, and end the thread."""
        with self._changed:
            self._closed = True
            for job in self._running:
                job.cancellation.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _next(self) -> _Job[Any] | None:
        """Return the job that begins next; None if none may begin yet."""
        if len(self._running) >= self._slots or any(job.alone for job in self._running):
            return None
        candidates = [one for one in self._waiting if not one.background]
        if not candidates and not self._running:
            candidates = self._waiting
        if not candidates:
            return None

        def rank(place: int) -> tuple[int, int]:
            job = candidates[place]
            return self._turn_of.get((job.owner, job.user), 0), place if job.user else -place

        job = candidates[min(range(len(candidates)), key=rank)]
        if job.alone and self._running:
            return None
        return job

    def _admitted(self) -> list[_Job[Any]] | None:
        """Return the jobs that begin now, after waiting for one while nothing runs. None at the end."""
        begun = []
        with self._changed:
            while not self._closed and not self._running and not self._waiting:
                self._changed.wait()
            if self._closed and not self._running:
                return None
            while self._waiting and not self._closed and (job := self._next()) is not None:
                self._waiting.remove(job)
                self._running.append(job)
                self._turns += 1
                served = job.owner, job.user
                self._turn_of.pop(served, None)
                self._turn_of[served] = self._turns
                if len(self._turn_of) > REMEMBERED_TURNS:
                    del self._turn_of[next(iter(self._turn_of))]
                begun.append(job)
        return begun

    def _compute(self) -> None:
        while (jobs := self._admitted()) is not None:
            for job in jobs:
                self._begin(job)
            if len(self._batch):
                self._batch.step()

    def _begin(self, job: _Job[Any]) -> None:
        try:
            result = job.work(job.cancellation, time.perf_counter() - job.since)
        except BaseException as error:
            self._end(job, error, None)
            return
        if isinstance(result, Generator):
            self._batch.add(result, job.cancellation, partial(self._end, job))
        else:
            self._end(job, None, result)

    def _end(self, job: _Job[Any], error: BaseException | None, result: Any) -> None:
        with self._changed:
            self._running.remove(job)
        self._post(_settle, job, SupersededError() if isinstance(error, Cancelled) else error, result)

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
