"""Quantization to 4 bits: the order of the nibbles, and the search for scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codegen_lsp.checkpoints.four_bit import best_numbers, pack, quantize
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.matrices import FourBitMatrix

SHAPES = [(1, 32, 32), (1, 64, 64), (3, 128, 32), (5, 192, 64), (7, 96, 32)]


def random_weights(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def plain_floats(packed: bytes, scales: list[list[float]], rows: int, columns: int, group: int) -> list[list[float]]:
    """Return the floats of a matrix by the words of the format."""
    result = []
    for row in range(rows):
        floats = []
        for column in range(columns):
            start, place = column // group * group, column % group
            byte = packed[row * columns // 2 + start // 2 + place % (group // 2)]
            nibble = byte % 16 if place < group // 2 else byte // 16
            floats.append((nibble - 8) * scales[row][column // group])
        result.append(floats)
    return result


@pytest.mark.parametrize(("rows", "columns", "group"), SHAPES)
def test_nibbles_are_in_the_order_of_the_format(rows: int, columns: int, group: int) -> None:
    random = np.random.default_rng(1)
    numbers = random.integers(-8, 8, (rows, columns)).astype(np.int8)
    scales = random.standard_normal((rows, columns // group)).astype(np.float16)
    packed = pack(numbers, group)
    assert packed.shape == (rows, columns // 2)
    expected = plain_floats(packed.tobytes(), scales.tolist(), rows, columns, group)
    matrix = FourBitMatrix(packed, scales)
    assert (matrix.shape, matrix.group) == ((rows, columns), group)
    assert matrix.floats().tolist() == expected
    assert matrix.floats(rows // 2, rows).tolist() == expected[rows // 2 :]
    assert np.array_equal(matrix.floats(), numbers * np.repeat(scales, group, 1).astype(np.float32))


def errors(weights: Floats, numbers: Floats, scales: Floats, group: int) -> Floats:
    """Return the squared error of each group."""
    found: Floats = np.square(weights - numbers * np.repeat(scales, group, 1)).reshape(len(weights), -1, group).sum(-1)
    return found


@pytest.mark.parametrize("group", [32, 64])
def test_the_search_is_better_than_rounding_and_near_the_best(group: int) -> None:
    rows, columns = 64, 192
    weights = random_weights(rows, columns)
    numbers, scales = best_numbers(weights, group)
    assert numbers.min() >= -8
    assert numbers.max() <= 7
    found = errors(weights, numbers.astype(np.float32), scales.astype(np.float32), group)
    groups = weights.reshape(rows, -1, group)
    best = np.full(found.shape, math.inf, np.float32)
    for divisor in np.concatenate([np.arange(-10, -5, 0.02), np.arange(5, 10, 0.02)]).astype(np.float32):
        scale = np.abs(groups).max(-1) / divisor
        rounded = np.clip(np.rint(weights / np.repeat(scale, group, 1)), -8, 7)
        best = np.minimum(best, errors(weights, rounded, scale, group))
    largest = np.abs(groups).max(-1) / 7
    plain = errors(weights, np.rint(weights / np.repeat(largest, group, 1)), largest, group)
    assert found.sum() < 0.9 * plain.sum()
    assert found.sum() < 1.06 * best.sum()


@pytest.mark.parametrize("extreme", [-8, 7])
@pytest.mark.parametrize("scale", [0.125, 2.0**-9, -0.75])
def test_weights_that_4_bits_hold_exactly_are_kept(extreme: int, scale: float) -> None:
    numbers = np.random.default_rng(2).integers(-7, 7, (4, 64)).astype(np.float32)
    numbers[:, ::32] = extreme
    matrix = quantize(lambda first, end: (numbers * np.float32(scale))[first:end], (4, 64), 32)
    assert np.array_equal(matrix.floats(), numbers * np.float32(scale))


def test_zeros_stay_zeros() -> None:
    weights = random_weights(4, 128)
    weights[1] = 0
    weights[2, 32:64] = -0.0
    matrix = quantize(lambda first, end: weights[first:end], weights.shape, 32)  # type: ignore[arg-type]
    assert not matrix.floats()[1].any()
    assert not matrix.floats()[2, 32:64].any()
    assert np.isfinite(matrix.scales).all()
    assert np.abs(matrix.floats() - weights).max() < 0.5


@pytest.mark.parametrize("magnitude", [1e-38, 1e-9, 1e-6, 1e-3, 1e3, 1e5])
def test_any_magnitude_gives_finite_numbers(magnitude: float) -> None:
    weights = random_weights(3, 64) * np.float32(magnitude)
    matrix = quantize(lambda first, end: weights[first:end], (3, 64), 64)
    assert np.isfinite(matrix.floats()).all()
    assert np.abs(matrix.floats() - weights).max() <= max(0.3 * np.abs(weights).max(), 2.0**-21)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    weights = random_weights(3, 64)
    weights[2, 33] = bad
    with pytest.raises(ConversionError, match="no numbers"):
        quantize(lambda first, end: weights[first:end], (3, 64), 32)


def test_weights_beyond_float16_are_refused() -> None:
    with pytest.raises(ConversionError, match="too large for 4 bits"):
        quantize(lambda first, end: np.full((end - first, 64), 1e6, np.float32), (3, 64), 32)


def test_the_result_does_not_depend_on_blocks_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(50, 128)
    whole = quantize(lambda first, end: weights[first:end], (50, 128), 32)
    monkeypatch.setattr("codegen_lsp.checkpoints.four_bit.VALUES_AT_ONCE", 7 * 128)
    parts = quantize(lambda first, end: weights[first:end], (50, 128), 32, threads=3)
    assert np.array_equal(whole.values, parts.values)
    assert np.array_equal(whole.scales, parts.scales)
