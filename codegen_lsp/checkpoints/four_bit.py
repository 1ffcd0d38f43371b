"""Quantization of a matrix to 4 bits.

Each group of columns of a row has one float16 scale, and numbers from -8 to 7. The scale is searched for the least
squared error. Its sign is that of the group's largest weight reversed, or not: -8 reaches further than 7, so both are
tried. Dividing the largest weight by less than 8 or 7 clips it, for smaller errors of all others. After each division,
the best scale for the numbers that it gives is computed by least squares.

With these eight divisors, the squared error is about 1 % above that with ninety (`docs/lab.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.matrices import ZERO, FourBitMatrix

DIVISORS = (-8.8, -8.2, -7.6, -7.0, -6.2, 6.2, 7.0, 7.8)
"""Quotients of a group's largest weight and its scale that are tried."""
LOWEST, HIGHEST = -8, 7
VALUES_AT_ONCE = 1 << 18
"""Weights that a thread works on together: they and the working arrays fit into the caches."""


def quantize(
    floats: Callable[[int, int], Floats], shape: tuple[int, int], group: int, threads: int = 1
) -> FourBitMatrix:
    """Return a matrix in 4 bits with the scale of each group that has the least squared error.

    `floats` returns the rows from one number to before another, as float32; it is called by several threads. `shape` is
    rows and columns, which the group divides. Raises: ConversionError for weights that are no numbers, or beyond what
    float16 scales reach.
    """
    rows, columns = shape
    values = np.empty((rows, columns // 2), np.uint8)
    scales = np.empty((rows, columns // group), np.float16)
    step = max(1, VALUES_AT_ONCE // columns)

    def fill(first: int) -> None:
        end = min(first + step, rows)
        numbers, scales[first:end] = best_numbers(floats(first, end), group)
        values[first:end] = pack(numbers, group)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, rows, step)))
    return FourBitMatrix(values, scales)


def best_numbers(weights: Floats, group: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return the numbers from -8 to 7 for weights (rows, columns), of the same shape, and the scales (rows, groups).

    Raises: as `quantize`.
    """
    groups = weights.reshape(len(weights), -1, group)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    if not np.isfinite(largest).all():
        raise ConversionError("The model has weights that are no numbers.", "Fetch or convert the checkpoint again.")
    if not np.abs(largest).max(initial=0) / min(map(abs, DIVISORS)) <= np.finfo(np.float16).max:
        raise ConversionError("The model has weights that are too large for 4 bits.", "Use the int8 build.")
    least = np.full(largest.shape, np.inf, np.float32)
    best = np.zeros(largest.shape, np.float16)
    for divisor in DIVISORS:
        scale = (largest / np.float32(divisor)).astype(np.float16)
        refined = _least_squares(groups, _numbers(groups, scale), scale)
        for candidate in (scale, refined):
            error = _squared_error(groups, candidate)
            better = error < least
            least, best = np.where(better, error, least), np.where(better, candidate, best)
    return _numbers(groups, best).astype(np.int8).reshape(weights.shape), best[..., 0]


def pack(numbers: NDArray[np.int8], group: int) -> NDArray[np.uint8]:
    """Return numbers from -8 to 7, (rows, columns), as the nibbles of a `FourBitMatrix`: (rows, columns / 2)."""
    nibbles = (numbers + ZERO).astype(np.uint8).reshape(len(numbers), -1, 2, group // 2)
    packed: NDArray[np.uint8] = nibbles[:, :, 0] | np.left_shift(nibbles[:, :, 1], 4, dtype=np.uint8)
    return packed.reshape(len(numbers), -1)


def _numbers(groups: Floats, scale: NDArray[np.float16]) -> Floats:
    """Return the numbers, as floats, that are nearest to the weights with this scale."""
    inverse = np.where(scale == 0, np.float32(0), np.float32(1) / np.where(scale == 0, 1, scale).astype(np.float32))
    numbers: Floats = np.rint(groups * inverse)
    return np.clip(numbers, LOWEST, HIGHEST, out=numbers)


def _squared_error(groups: Floats, scale: NDArray[np.float16]) -> Floats:
    """Return the squared error of each group, (rows, groups, 1)."""
    difference = groups - _numbers(groups, scale) * scale.astype(np.float32)
    error: Floats = np.einsum("rgc,rgc->rg", difference, difference)[..., None]
    return error


def _least_squares(groups: Floats, numbers: Floats, scale: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the scale of least squared error for given numbers; `scale` where all of them are 0."""
    squares = np.einsum("rgc,rgc->rg", numbers, numbers)[..., None]
    products = np.einsum("rgc,rgc->rg", groups, numbers)[..., None]
    refined: NDArray[np.float16] = np.where(squares > 0, products / np.maximum(squares, 1), scale).astype(np.float16)
    return refined
