"""Sorting in steps, between which other threads run.

`sorted` holds the interpreter's lock until it is done: with the 100,000 files of a large workspace, the thread that
answers the editor would wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 2_000
"""Items that are sorted at once, which takes some milliseconds."""


def sorted_in_steps(items: Iterable[T], key: Callable[[T], Any]) -> Iterator[T]:
    """Yield items in the order of `sorted`: runs of `STEP` items are sorted, then merged item by item."""
    waiting, runs = iter(items), []
    while run := sorted(islice(waiting, STEP), key=key):
        runs.append(run)
    return merge(*runs, key=key)
