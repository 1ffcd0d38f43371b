"""Choice of a token from logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""(padded vocabulary size,)."""
MOST_PART, PARTS_PER_WANTED = 64, 4
"""Most values of a part, and least number of parts for each wanted value, in a search for the largest values."""
FIRST_RANKED = 256
"""Ids that are sorted first to find a nucleus. To sort a vocabulary takes half as long as a decode step."""
ROUNDING = 1e-9
"""Bound of the rounding errors in a sum of probabilities."""


def log_sum(logits: Logits) -> float:
    """Return the log of the sum of the exponentials."""
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum()))


def log_softmax(logits: Logits) -> Logits:
    """Return log-probabilities in nats."""
    normalised: Logits = (logits - log_sum(logits)).astype(np.float32)
    return normalised


def alternatives(logits: Logits, mask: NDArray[np.bool_], excluded: Iterable[int], count: int) -> list[int]:
    """Return up to `count` ids that the mask allows, most likely first, without the excluded ones.

    The greedy candidates after the first one begin with these.
    """
    allowed = mask.copy()
    allowed[list(excluded)] = False
    order = first_ranked(np.where(allowed, logits, -np.inf), min(count, int(allowed.sum())))
    return [int(id) for id in order]


def most_likely(logits: Logits, mask: NDArray[np.bool_]) -> int:
    """Return the most likely id that the mask allows."""
    return int(np.where(mask, logits, -np.inf).argmax())


def most_likely_ids(logits: Logits, count: int) -> list[int]:
    """Return the ids of the `count` largest logits, largest first."""
    return [int(id) for id in first_ranked(logits, count)]


def sample(logits: Logits, temperature: float, top_p: float, random: np.random.Generator, top_k: int = 0) -> int:
    """Sample an id from the nucleus (Holtzman et al., 2020): the smallest set with `top_p` of the probability.

    With `top_k`, the nucleus is one of that many most likely ids. Ids that are not allowed have a logit of minus
    infinity.
    """
    if top_k:
        order = first_ranked(logits, top_k)
        weights = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / temperature)
    else:
        all_weights = np.exp((logits - logits.max()) / np.float32(temperature))
        if top_p >= 1:
            return _draw(all_weights, random)
        total = float(all_weights.sum(dtype=np.float64))
        order = first_ranked(logits, FIRST_RANKED)
        weights = all_weights[order].astype(np.float64) / total
        if weights.sum() < top_p + ROUNDING:
            order = first_ranked(logits, len(logits))
            weights = all_weights[order].astype(np.float64) / total
    if top_p < 1:
        if top_k:
            weights /= weights.sum()
        before = np.cumsum(weights) - weights
        weights = weights[before < top_p]
    return int(order[_draw(weights, random)])


def _draw(weights: NDArray[np.floating], random: np.random.Generator) -> int:
    """Return a random index, with probabilities in proportion to the weights."""
    cumulative = weights.cumsum(dtype=np.float64)
    cumulative /= cumulative[-1]
    return int(cumulative.searchsorted(random.random(), side="right"))


def first_ranked(values: Logits, count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` largest values, largest first; of equals, the lower index first.

    The values are divided into several times as many parts as are wanted. The `count` parts with the largest maxima
    have as many values that are no less than the least of those maxima, and hardly more are. This takes half as long as
    a partition of the values, which besides takes twenty times as long as usual where most of them are equal, as the
    minus infinities of a padded vocabulary are.
    """
    size = len(values)
    rows = min(MOST_PART, size // (PARTS_PER_WANTED * max(count, 1)))
    if rows < 2:
        return np.argsort(-values, kind="stable")[:count]
    columns = size // rows
    maxima = values[: rows * columns].reshape(rows, columns).max(axis=0)
    least = np.partition(maxima, columns - count)[columns - count]
    if least == -np.inf:
        found = np.flatnonzero(values > least)
        if len(found) < count:
            found = np.concatenate((found, np.flatnonzero(values == least)[: count - len(found)]))
    else:
        found = np.flatnonzero(values >= least)
    return found[np.argsort(-values[found], kind="stable")][:count]
