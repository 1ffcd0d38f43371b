"""Quantized matrices of a build: int8 with a scale for each row, or 4 bits with a scale for each group of columns.

Both are views of the mapped file. A build may have both kinds: the stored arrays say which one a matrix is.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.arrays import Floats

ZERO = 8
"""The nibble that stands for 0."""


@frozen
class Matrix:
    """An int8 matrix: row r stands for the floats `values[r] / scales[r]`."""

    values: NDArray[np.int8]
    """(rows, columns)."""
    scales: Floats
    """(rows,): 127 divided by the largest magnitude in the row."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return self.values.nbytes

    def floats(self, first: int = 0, end: int | None = None) -> Floats:
        """Return the rows from `first` to before `end` as floats."""
        return np.divide(self.values[first:end], self.scales[first:end, None], dtype=np.float32)


@frozen
class FourBitMatrix:
    """A matrix of 4-bit numbers from -8 to 7, each multiplied by the scale of its group of columns.

    In a group of G columns, byte j has column j in its low nibble and column j + G / 2 in its high nibble, both plus
    `ZERO`.
    """

    values: NDArray[np.uint8]
    """(rows, columns / 2)."""
    scales: NDArray[np.float16]
    """(rows, columns / G). May be negative or zero."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        return self.values.shape[0], 2 * self.values.shape[1]

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        groups: int = self.scales.shape[1]
        return self.shape[1] // groups

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return self.values.nbytes + self.scales.nbytes

    def floats(self, first: int = 0, end: int | None = None) -> Floats:
        """Return the rows from `first` to before `end` as floats."""
        packed = self.values[first:end].reshape(-1, self.scales.shape[1], self.group // 2)
        numbers = np.concatenate((packed & 15, packed >> 4), -1).astype(np.float32) - np.float32(ZERO)
        numbers *= self.scales[first:end, :, None].astype(np.float32)
        return numbers.reshape(-1, self.shape[1])


QuantizedMatrix = Matrix | FourBitMatrix
