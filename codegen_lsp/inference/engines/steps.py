"""Running computations in steps: one alone, or each to its end where an engine has no batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from codegen_lsp.inference.engines.base import CancellationToken, Settle, Steps

T = TypeVar("T")


class NoBatch:
    """The batch of an engine without batching: a computation runs to its end when it is added."""

    def __len__(self) -> int:
        return 0

    def add(self, steps: Steps[Any], cancellation: CancellationToken, settle: Settle) -> None:
        """See `EngineBatch.add`."""
        try:
            result = run_alone(steps)
        except BaseException as error:
            settle(error, None)
        else:
            settle(None, result)

    def step(self) -> None:
        """See `EngineBatch.step`."""


def run_alone(steps: Steps[T], perform: Callable[[Any], object] = lambda demand: None) -> T:
    """Run a computation to its end; `perform` runs what it yields. Raises what the computation raises."""
    result: object = None
    failure: BaseException | None = None
    try:
        while True:
            try:
                demand = steps.send(result) if failure is None else steps.throw(failure)
            except StopIteration as end:
                value: T = end.value
                return value
            try:
                result, failure = perform(demand), None
            except BaseException as error:
                failure = error
    finally:
        del failure  # its traceback refers to this frame and to those of the computation, with its memory


def at_once(call: Callable[[], T]) -> Steps[T]:
    """Return a computation that is one call, without steps between."""
    yield from ()
    return call()
