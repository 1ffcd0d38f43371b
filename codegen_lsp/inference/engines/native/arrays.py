"""Arrays for the library in C, whose vectors have up to 64 bytes; one in two cache lines takes longer to read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""float32, in row-major order unless a docstring says otherwise."""

CACHE_LINE = 64
"""Alignment of arrays, in bytes. numpy aligns to 16."""


def empty_floats(*shape: int) -> Floats:
    """Return an array of this shape with arbitrary values, at the start of a cache line.

    Raises: MemoryError.
    """
    count = math.prod(shape)
    memory = np.empty(count + CACHE_LINE // 4, dtype=np.float32)
    skipped = -address(memory) % CACHE_LINE // 4
    return memory[skipped : skipped + count].reshape(shape)


def zero_floats(*shape: int) -> Floats:
    """Return an array of zeros, at the start of a cache line. Raises: MemoryError."""
    result = empty_floats(*shape)
    result.fill(0)
    return result


def address(array: NDArray[Any]) -> int:
    """Return the address of the first value."""
    found: int = array.__array_interface__["data"][0]
    return found
