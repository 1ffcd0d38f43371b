"""Continuous batching: computations of several requests that run in the same forward passes.

Decode steps of all requests are one pass over the weights, whose reading takes most of the time of a step. Chunks of
prompts are run between two steps, a few layers at a time, so that each prompt delays the others' tokens by no more than
the time of a step each; requests that prefill take turns after each chunk. With one request that decodes and seven
that wait for their prompts, prefill gets seven eighths of the time: a step takes almost as long for one request as for
several, so prompts come first while few requests decode. A chunk that is short enough is run in
the same pass as the steps. Requests join and leave between any two passes.

What a request computes does not depend on its company: each attends to its own sequence, and the arithmetic of a token
is the same in any pass of few tokens.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from attrs import define, frozen

from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, Settle, Steps
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.batch import RowShare
from codegen_lsp.inference.engines.native.forward import Chunk, ForwardPass, Rows
from codegen_lsp.inference.engines.native.kv_cache import SequencePool
from codegen_lsp.inference.engines.native.speculative import LENGTHS


@frozen
class Room:
    """Memory for the keys and values of a number of tokens, which a request waits for. There is no result."""

    tokens: int


@frozen
class Turn:
    """The turn to prefill, for which a request with this number of missing tokens waits. There is no result."""

    tokens: int


Demand = Room | Turn | Rows | Chunk


@define(eq=False)
class Task:
    """One computation."""

    steps: Steps[Any]
    cancellation: CancellationToken
    settle: Settle
    demand: Demand | None = None
    """What it waits for; None when it has ended."""


def run_layer(forward_pass: ForwardPass, chunk: Chunk) -> Floats | None:
    """Run the next layer of a chunk. After the last one, return the result of the chunk."""
    forward_pass.advance(chunk)
    if chunk.layer < forward_pass.layers or not chunk.logits:
        return None
    return forward_pass.logits(forward_pass.output(chunk))


def perform(forward_pass: ForwardPass, demand: Demand, cancellation: CancellationToken) -> Floats | None:
    """Run what a computation waits for, alone, and return the result."""
    result: Floats | None = None
    if isinstance(demand, Rows):
        started = time.perf_counter()
        (result,) = forward_pass.together([demand])
        demand.seconds = time.perf_counter() - started
    elif isinstance(demand, Chunk):
        while demand.layer < forward_pass.layers:
            cancellation.check()
            result = run_layer(forward_pass, demand)
    return result


def as_rows(demand: Demand | None) -> Rows | None:
    """Return the rows that do what a chunk does; None for one that was begun, or whose every output is wanted."""
    if not isinstance(demand, Chunk) or demand.layer or demand.every:
        return None
    return Rows(demand.ids, demand.cache, demand.offset)


class ContinuousBatch:
    """See `EngineBatch`."""

    def __init__(self, forward_pass: ForwardPass, pool: SequencePool, share: RowShare) -> None:
        self._forward_pass = forward_pass
        self._pool = pool
        self._share = share
        self._tasks: deque[Task] = deque()
        """In the order in which they prefill."""

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, steps: Steps[Any], cancellation: CancellationToken, settle: Settle) -> None:
        """See `EngineBatch.add`."""
        task = Task(steps, cancellation, settle)
        self._tasks.append(task)
        self._resume(task, None)

    def step(self) -> None:
        """See `EngineBatch.step`."""
        if len(self._tasks) == 1:
            (task,) = self._tasks
            if isinstance(task.demand, Rows) and not task.cancellation.cancelled:
                # What follows would do the same, and take a fiftieth of a small model's step.
                self._share.rows = LENGTHS[-1] + 1
                self._run_pass([(task, task.demand)])
                return
        for task in list(self._tasks):
            if task.cancellation.cancelled:
                self._resume(task, None, Cancelled())
        for task in list(self._tasks):
            # In order of arrival, so that a large request is not passed by small ones for ever.
            if isinstance(task.demand, Room):
                if not self._pool.has_room(task.demand.tokens):
                    break
                self._resume(task, None)
        for task in list(self._tasks):
            if isinstance(task.demand, Turn) and task.demand.tokens <= self._forward_pass.rows_at_once:
                self._resume(task, None)
        started = time.perf_counter()
        decoding = sum(isinstance(task.demand, Rows) for task in self._tasks)
        self._share.rows = max(1, self._forward_pass.rows_at_once // decoding) if decoding > 1 else LENGTHS[-1] + 1
        for together in self._passes():
            self._run_pass(together)
        prefilling = sum(isinstance(task.demand, Turn | Chunk) for task in self._tasks)
        self._prefill((time.perf_counter() - started) * max(1, prefilling / max(1, decoding)))

    def _passes(self) -> list[list[tuple[Task, Rows]]]:
        """Divide the decode steps into passes, and add short chunks of prompts to a pass with rows to spare."""
        passes: list[list[tuple[Task, Rows]]] = []
        spare = 0
        for task in self._tasks:
            if isinstance(task.demand, Rows):
                if len(task.demand.ids) > spare:
                    passes.append([])
                    spare = self._forward_pass.rows_at_once
                passes[-1].append((task, task.demand))
                spare -= len(task.demand.ids)
        for task in self._tasks:
            rows = as_rows(task.demand)
            if rows is not None and len(rows.ids) <= spare:
                passes[-1].append((task, rows))
                spare -= len(rows.ids)
        return passes

    def _run_pass(self, together: Sequence[tuple[Task, Rows]]) -> None:
        """Run decode steps and short chunks in one pass."""
        rows = [rows for _, rows in together]
        started = time.perf_counter()
        try:
            results = self._forward_pass.together(rows)
        except BaseException as error:
            for task, _ in together:
                self._resume(task, None, error)
            return
        if len(self._tasks) == 1:
            rows[0].seconds = time.perf_counter() - started
        for (task, _), logits in zip(together, results, strict=True):
            wanted = not isinstance(task.demand, Chunk) or task.demand.logits
            self._resume(task, logits if wanted else None)

    def _prefill(self, seconds: float) -> None:
        """Run layers of chunks for about this time, at least one. After each chunk, it is another request's turn."""
        until = time.perf_counter() + seconds
        while (task := next((one for one in self._tasks if isinstance(one.demand, Turn | Chunk)), None)) is not None:
            if isinstance(task.demand, Turn):
                self._resume(task, None)
            if isinstance(task.demand, Chunk) and not self._run_chunk(task, task.demand, until):
                return
            if time.perf_counter() >= until:
                return

    def _run_chunk(self, task: Task, chunk: Chunk, until: float) -> bool:
        """Run layers of a chunk until it ends or the time is over. Return whether it ended."""
        try:
            result = run_layer(self._forward_pass, chunk)
            while chunk.layer < self._forward_pass.layers:
                if time.perf_counter() >= until:
                    return False
                task.cancellation.check()
                result = run_layer(self._forward_pass, chunk)
        except BaseException as error:
            self._resume(task, None, error)
            return True
        self._tasks.remove(task)
        self._tasks.append(task)
        self._resume(task, result)
        return True

    def _resume(self, task: Task, result: Floats | None, failure: BaseException | None = None) -> None:
        """Let a computation go on with the result of its demand, or with a failure, until it waits again or ends."""
        try:
            demand: Any = task.steps.send(result) if failure is None else task.steps.throw(failure)
            task.demand = demand
            return
        except StopIteration as end:
            outcome: tuple[BaseException | None, Any] = None, end.value
        except BaseException as error:
            outcome = error, None
        task.demand = None
        self._tasks.remove(task)
        try:
            task.settle(*outcome)
        finally:
            # An error's traceback refers to this frame and to those of the computation, with its sequences.
            del outcome, failure
