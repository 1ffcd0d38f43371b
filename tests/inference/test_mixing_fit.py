"""Fitting the mixing weights: rows say what the engine mixes, and the fit finds the minimum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.base import EngineConfig
from codegen_lsp.inference.engines.native import mixing_fit as module
from codegen_lsp.inference.engines.native import ngrams
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.mixing_weights import LARGE_MODEL, SMALL_MODEL, MixingWeights
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH, library
from codegen_lsp.inference.engines.native.ngrams import SINGLE_SUCCESSOR, NgramMatcher
from codegen_lsp.inference.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

FILES = {
    "a.py": "def restock(registry, burrows):\n    for burrow in burrows:\n        registry.enlist(burrow)\n",
    "b.py": "def visit(registry, burrow):\n    registry.enlist(burrow)\n    registry.enlist(None)\n",
    "c.py": "def visit(registry, other):\n    registry.close(other)\n    registry.enlist(other)\n",
}


@pytest.fixture(scope="module")
def engine(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> Iterator[NativeEngine]:
    config = EngineConfig(device="cpu", compute_type="auto", threads=1, cache_bytes=0)
    made = NativeEngine(embedded_build, info, tokenizer, config)
    yield made
    made.close()


def random_rows(seed: int, count: int = 400) -> module.Rows:
    """Return rows as they might come from files: counts that shrink with the order."""
    dice = np.random.default_rng(seed)
    rows = np.zeros((count, module.COLUMNS))
    rows[:, module.CONFIDENCE] = dice.uniform(0.02, 1.0, count)
    rows[:, module.PROBABILITY] = rows[:, module.CONFIDENCE] * dice.choice([1.0, 0.1, 0.01], count)
    for first, orders in ((module.WORKSPACE, 7), (module.DOCUMENT, 5)):
        total = dice.integers(0, 50, count)
        for order in range(orders):
            different = np.minimum(total, dice.integers(1, 9, count))
            token = np.where(different == 1, total * (dice.random(count) < 0.8), total // np.maximum(different, 1))
            rows[:, first + 3 * order : first + 3 * order + 3] = np.stack([token, total, different], axis=1)
            total = total // dice.integers(1, 5, count)
    return rows


def mixed(rows: module.Rows, weights: MixingWeights) -> float:
    """Return the nats per token of rows, one by one, by the definition."""
    total = 0.0
    for row in rows:
        p = row[module.PROBABILITY]
        classes = int(np.searchsorted(module.PROBABILITY_BOUNDS, row[module.CONFIDENCE], side="right"))
        counts = row[module.WORKSPACE : module.DOCUMENT].reshape(-1, 3)
        orders = [(k, counts[at]) for at, k in enumerate(weights.workspace) if math.isfinite(k)]
        ambiguous = weights.unambiguous and any(different > 1 for _, (_, _, different) in orders)
        steps = [] if ambiguous else [(k * weights.workspace_factors[classes], c) for k, c in orders]
        document = row[module.DOCUMENT :].reshape(-1, 3)
        steps += [(k * weights.document_factors[classes], document[at]) for at, k in enumerate(weights.document)]
        for k, (token, occurrences, different) in steps:
            if occurrences:
                weight = occurrences / (occurrences + k * (different if different > 1 else SINGLE_SUCCESSOR))
                p = (1 - weight) * p + weight * token / occurrences
        total -= math.log(max(p, module.LEAST_PROBABILITY))
    return total / len(rows)


@pytest.mark.parametrize("weights", [SMALL_MODEL, LARGE_MODEL, evolve(SMALL_MODEL, document=())])
def test_nats_are_those_of_the_definition(weights: MixingWeights) -> None:
    rows = random_rows(0)
    assert module.nats(rows, weights) == pytest.approx(mixed(rows, weights), rel=1e-9)


def test_the_gradient_is_that_of_the_loss() -> None:
    rows = random_rows(1, 80)
    sources = module._shared_counts(rows)
    parameters = module._logarithms(SMALL_MODEL)
    _, gradient = module._loss(rows, sources, parameters)
    for at in range(len(parameters)):
        step = np.zeros_like(parameters)
        step[at] = 1e-5
        high, low = (module._loss(rows, sources, parameters + sign * step)[0] for sign in (1, -1))
        assert gradient[at] == pytest.approx((high - low) / 2e-5, abs=1e-7)


def test_fitted_weights_are_better_on_other_rows() -> None:
    wrong = evolve(SMALL_MODEL, workspace=tuple(1e4 / k for k in SMALL_MODEL.workspace))
    found = module.fit(random_rows(2, 2_000), random_rows(3, 1_000), wrong)
    assert found.after < found.before - 0.05
    assert found.before == pytest.approx(module.nats(random_rows(3, 1_000), wrong))
    assert len(found.weights.document_alone) == len(ngrams.ORDERS)
    cautious = module.fit(random_rows(2, 2_000), random_rows(3, 1_000), LARGE_MODEL)
    assert cautious.before == pytest.approx(module.nats(random_rows(3, 1_000), LARGE_MODEL))
    assert not cautious.weights.unambiguous
    assert all(map(math.isfinite, cautious.weights.workspace))


def test_rows_say_what_the_engine_mixes(engine: NativeEngine, info: BuildInfo, tokenizer: Tokenizer) -> None:
    index = NgramIndex(SMALL_MODEL.workspace)
    encoded = {path: tokenizer.encode(text) for path, text in FILES.items()}
    index.add((FileVersion(path, 0, 0), ids) for path, ids in encoded.items())
    segment = index.files["a.py"].segment
    ids = encoded["b.py"]
    rows = module.rows_of(engine, ids, 0, info.end_of_text, segment)
    assert len(rows) == len(ids) - 1
    for at, row in enumerate(rows, start=1):
        confidence = float(row[module.CONFIDENCE])
        p = row[module.PROBABILITY]
        for mixture in (
            index.mixture(ids[max(0, at - DEPTH) : at], ["b.py"], SMALL_MODEL.workspace_factor(confidence)),
            NgramMatcher(ids[:at], (), ()).mixture(SMALL_MODEL.document_weights(confidence)),
        ):
            if mixture is not None:
                gain = mixture.gains[mixture.ids == ids[at]].sum()
                p = (p + gain) / (1 + mixture.gains.sum())
        assert -math.log(p) == pytest.approx(module.nats(row[None], SMALL_MODEL), rel=3e-3)
    later = module.rows_of(engine, ids, 4, info.end_of_text, segment, window=8)
    assert len(later) == 7
    np.testing.assert_array_equal(later[:, module.WORKSPACE :], rows[4:11, module.WORKSPACE :])
