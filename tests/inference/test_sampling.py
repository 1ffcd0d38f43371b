"""Samples are those of the nucleus by its definition, with everything sorted."""

from __future__ import annotations

import numpy as np
import pytest

from codegen_lsp.inference.sampling import Logits, first_ranked, sample


def sorted_whole(logits: Logits, temperature: float, top_p: float, random: np.random.Generator, top_k: int = 0) -> int:
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    probabilities = np.exp((logits[order].astype(np.float64) - logits.max()) / temperature)
    probabilities /= probabilities.sum()
    before = np.cumsum(probabilities) - probabilities
    kept = probabilities[before < top_p]
    return int(order[random.choice(len(kept), p=kept / kept.sum())])


@pytest.mark.parametrize("size", [5, 300, 8192])
@pytest.mark.parametrize("top_k", [0, 1, 40, 1_000_000])
@pytest.mark.parametrize("top_p", [0.1, 0.95, 0.999])
def test_a_seed_gives_what_sorting_everything_gives(size: int, top_k: int, top_p: float) -> None:
    """With ties, flat and steep distributions, and few allowed ids."""
    draw = np.random.default_rng(size)
    for seed in range(24):
        logits = (draw.standard_normal(size) * (0.1, 1, 3, 8)[seed % 4]).astype(np.float32)
        logits = np.round(logits) if seed % 3 == 0 else logits
        mask = draw.random(size) < (0.01, 0.5, 1)[seed % 3]
        mask[0] = True
        logits[~mask] = -np.inf
        generators = (np.random.default_rng(seed) for _ in range(2))
        temperature = (0.2, 0.8, 1.5)[seed % 3]
        chosen, expected = (
            function(logits, temperature, top_p, random, top_k)
            for function, random in zip((sample, sorted_whole), generators, strict=True)
        )
        assert chosen == expected
        assert mask[chosen]


def test_the_whole_distribution_is_sampled() -> None:
    logits = np.append(np.log([0.5, 0.3, 0.0001, 0.2]), -np.inf).astype(np.float32)
    random = np.random.default_rng(0)
    counts = np.bincount([sample(logits, 1.0, 1.0, random) for _ in range(4000)], minlength=5)
    assert counts[4] == 0
    assert np.abs(counts[:4] / 4000 - np.array([0.5, 0.3, 0.0, 0.2])).max() < 0.03


@pytest.mark.parametrize("count", [1, 3, 6, 7, 100])
def test_the_first_ones_of_a_stable_sort(count: int) -> None:
    values = np.array([1, 3, 3, -np.inf, 3, 2, -np.inf], dtype=np.float32)
    assert first_ranked(values, count).tolist() == [1, 2, 4, 5, 0, 3, 6][:count]


@pytest.mark.parametrize("size", [8192, 51_200, 50_257])
@pytest.mark.parametrize("count", [1, 40, 256, 5000])
def test_the_first_ones_of_many_values(size: int, count: int) -> None:
    """With ties, whole parts of equals, and fewer finite values than are wanted."""
    draw = np.random.default_rng(size + count)
    values = draw.standard_normal(size).astype(np.float32)
    few = np.where(draw.random(size) < 0.001, values, np.float32(-np.inf))
    padded = np.where(np.arange(size) < size // 8, values, np.float32(-np.inf))
    for kind in (values, np.round(values), np.sort(values), np.zeros_like(values), few, padded, np.round(padded)):
        assert first_ranked(kind, count).tolist() == np.argsort(-kind, kind="stable")[:count].tolist()
