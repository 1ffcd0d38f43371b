"""The heap of the worker, where the C library is glibc: what happens to memory that is freed.

A worker starts with `TUNABLES`: large arrays are mapped apart and go back to the system when they are freed, and all
threads share one heap, so that what one frees serves the others. `trim` returns the rest.
"""

from __future__ import annotations

import ctypes
from typing import Any

MAPPED_BYTES = 2**20
"""Size from which on an array is mapped apart: cached prefixes, not the logits of a step."""
TUNABLES = ":".join(
    (
        "glibc.malloc.arena_max=1",
        f"glibc.malloc.mmap_threshold={MAPPED_BYTES}",
        f"glibc.malloc.trim_threshold={MAPPED_BYTES}",
    )
)
"""Value of the environment variable `GLIBC_TUNABLES`. By default, glibc raises both thresholds to the size of the
largest array that was freed, and keeps several times the cached prefixes (`docs/lab.md`)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of `malloc.h`."""
_LARGEST = 2**31 - 1


def trim() -> None:
    """Return free memory of the heap to the system."""
    _call("malloc_trim", 0)


def keep_freed_memory() -> None:
    """Keep all freed memory in the heap.

    For CTranslate2, which allocates its growing KV cache anew for each token: mapping it each time takes longer than
    filling it.
    """
    _call("mallopt", _MMAP_THRESHOLD, _LARGEST)
    _call("mallopt", _TRIM_THRESHOLD, _LARGEST)


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library if it has it."""
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError):
        return
