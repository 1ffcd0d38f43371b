"""Choice of a token from logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""(padded vocabulary size,)."""
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
    found = np.argpartition(-logits, min(count, len(logits) - 1))[:count]
    return [int(id) for id in found[np.argsort(-logits[found], kind="stable")]]


def sample(
    logits: Logits,
    mask: NDArray[np.bool_],
    temperature: float,
    top_p: float,
    random: np.random.Generator,
    top_k: int = 0,
) -> int:
    """Sample an id from the nucleus (Holtzman et al., 2020): the smallest set with `top_p` of the probability.

    With `top_k`, the nucleus is one of that many most likely ids.
    """
    scaled = log_softmax(np.where(mask, logits, -np.inf).astype(np.float32) / np.float32(temperature))
    if top_p >= 1 and not top_k:
        probabilities = np.exp(scaled.astype(np.float64))
        return int(random.choice(len(probabilities), p=probabilities / probabilities.sum()))
    count = top_k or FIRST_RANKED
    order = first_ranked(scaled, count)
    probabilities = np.exp(scaled[order].astype(np.float64))
    if top_k:
        probabilities /= probabilities.sum()
    elif probabilities.sum() < top_p + ROUNDING:
        order = first_ranked(scaled, len(scaled))
        probabilities = np.exp(scaled[order].astype(np.float64))
    before = np.cumsum(probabilities) - probabilities
    kept = probabilities[before < top_p]
    return int(order[random.choice(len(kept), p=kept / kept.sum())])


def first_ranked(values: Logits, count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` largest values, largest first; of equals, the lower index first."""
    if not 0 < count < len(values):
        return np.argsort(-values, kind="stable")[:count]
    least = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero(values >= least)
    return found[np.argsort(-values[found], kind="stable")][:count]
