"""Figures with their uncertainty. A share comes with Wilson's interval, anything else with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution, for intervals of 95 %."""
RESAMPLES = 2000


@frozen
class Figure:
    """A measured value, the cases it rests on, and its 95 % interval."""

    value: float
    low: float
    high: float
    cases: int


def share(right: Sequence[bool]) -> Figure | None:
    """Return the share of cases that are right, with Wilson's score interval (1927); None without cases."""
    n = len(right)
    if not n:
        return None
    p = sum(right) / n
    spread = 1 + Z**2 / n
    middle = (p + Z**2 / (2 * n)) / spread
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / spread
    return Figure(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), n)


def mean(values: Sequence[float]) -> Figure | None:
    """Return the mean with a percentile bootstrap interval; None without cases."""
    return ratio(values, [1.0] * len(values))


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Figure | None:
    """Return the sum of the parts over the sum of the wholes, with an interval over the cases.

    The interval is a percentile bootstrap (Efron, 1979), whose draws are the same for equally many cases. None when the
    wholes sum to 0.
    """
    if not sum(wholes):
        return None
    above, below = _resampled(np.asarray(parts, float)), _resampled(np.asarray(wholes, float))
    drawn = above[below > 0] / below[below > 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(sum(parts) / sum(wholes), float(low), float(high), len(parts))


@frozen
class Difference:
    """A ratio before and after a change, and the 95 % interval of the difference."""

    before: float
    after: float
    difference: float
    low: float
    high: float
    cases: float
    """The sum of the wholes."""


def difference(
    parts: Sequence[tuple[float, float]], wholes: Sequence[float], clusters: Sequence[int]
) -> Difference | None:
    """Return the sums of the parts before and after over the sum of the wholes, with an interval over the clusters.

    Cases of one cluster are drawn together (cluster bootstrap). None when the wholes sum to 0.
    """
    if not sum(wholes):
        return None
    rows = np.column_stack((np.asarray(parts, float).reshape(-1, 2), np.asarray(wholes, float)))
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    by_cluster = np.stack([np.bincount(numbers, column) for column in rows.T], axis=1)
    dice = np.random.default_rng(0)
    count = len(by_cluster)
    drawn = by_cluster[dice.integers(count, size=(RESAMPLES, count))].sum(1)
    drawn = drawn[drawn[:, 2] > 0]
    low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / drawn[:, 2], [2.5, 97.5])
    before, after, whole = by_cluster.sum(0)
    return Difference(before / whole, after / whole, (after - before) / whole, float(low), float(high), float(whole))


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of `RESAMPLES` draws with replacement, shape (RESAMPLES,)."""
    dice = np.random.default_rng(0)
    n = len(values)
    return np.array([values[dice.integers(n, size=n)].sum() for _ in range(RESAMPLES)])
