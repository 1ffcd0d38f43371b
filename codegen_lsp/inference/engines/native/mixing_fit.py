"""Fit the weights of the n-grams on a user's files.

For each token of a file, the model's probability is recorded, with the successor counts of its contexts in the document
so far and in the other files of its workspace. The weights minimise the nats per token of the mixture over these rows,
by gradient descent (Adam; Kingma and Ba, 2015) on the logarithms of all k and f, held near the weights to begin with.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.engines.native import ngrams
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.mixing_weights import PROBABILITY_BOUNDS, SMALL_MODEL, MixingWeights
from codegen_lsp.inference.engines.native.ngram_segment import (
    DEPTH,
    GAP,
    ORDERS,
    Segment,
    SegmentView,
    Tokens,
    address,
    required_library,
)

PROBABILITY, CONFIDENCE = 0, 1
"""Columns of a row: probability of the token, and the largest of any token, by the model alone."""
WORKSPACE = 2
"""First of the columns with count of the token, occurrences and different successors, for each order of the workspace;
then those of the document."""
DOCUMENT = WORKSPACE + 3 * len(ORDERS)
COLUMNS = DOCUMENT + 3 * len(ngrams.ORDERS)
WINDOW = 1_024
"""Tokens of a file that are used."""
STEPS, RATE = 250, 0.05
MOMENTUM, SQUARE_MEMORY = 0.9, 0.999
PRIOR_TOKENS = 5.0
"""Strength of the hold on the weights to begin with: each squared logarithm of a ratio costs the nats of this many."""
LEAST_PROBABILITY = 1e-12

Rows = NDArray[np.float64]


@frozen
class FittedWeights:
    """The result of a fit, with nats per token of the held-out rows."""

    weights: MixingWeights
    alone: float
    """The model without n-grams."""
    before: float
    after: float


@frozen
class _Counts:
    """Successor counts of one source of n-grams as columns, and where its parameters lie."""

    token: Rows
    total: Rows
    different: Rows
    """(rows, orders) each."""
    first: int
    """Index of the parameter of the first order."""
    factors: int | None
    """Index of the factor of the lowest class of confidence; None: no factors."""


def rows_of(
    engine: NativeEngine, ids: Sequence[int], start: int, end_of_text: int, workspace: Segment, window: int = WINDOW
) -> Rows:
    """Return a row for each token of a file in a window from `start` on, but for the first of the file.

    `workspace` has the tokens of all files, this one included. Raises ModelError when the runtime fails.
    """
    shown = [end_of_text, *ids[: window - 1]] if start == 0 else list(ids[start : start + window])
    first = 0 if start == 0 else start + 1
    scores = engine.score_with_confidence(shown, CancellationToken()) if len(shown) > 1 else []
    text = np.asarray(ids, np.uint16)
    counts = _WorkspaceCounts(workspace, Segment.build(text))
    rows = [
        (math.exp(score), math.exp(best), *counts.row(text, at), *_document_row(text, at))
        for at, (score, best) in enumerate(scores, start=first)
        if at
    ]
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


def fit(training: Rows, held_out: Rows, current: MixingWeights) -> FittedWeights:
    """Fit weights to rows, and compare them with the current ones on others."""
    begin = SMALL_MODEL if current.unambiguous else current
    shared = _descend(training, _shared_counts(training), _logarithms(begin))
    alone = np.log(begin.document_alone or ngrams.WITTEN_BELL_K)
    alone = _descend(training, [_counts(training, DOCUMENT, len(ngrams.ORDERS), 0, None)], alone)
    parts = np.split(np.exp(shared), np.cumsum([len(ORDERS), len(ngrams.ORDERS), _CLASSES]))
    workspace, document, workspace_factors, document_factors = map(_rounded, parts)
    weights = MixingWeights(workspace, document, workspace_factors, document_factors, _rounded(np.exp(alone)))
    return FittedWeights(
        weights,
        alone=-float(np.log(np.maximum(held_out[:, PROBABILITY], LEAST_PROBABILITY)).mean()),
        before=nats(held_out, current),
        after=nats(held_out, weights),
    )


def nats(rows: Rows, weights: MixingWeights) -> float:
    """Return the nats per token of the mixture with some weights, where there is a workspace."""
    rows = rows.copy()
    finite = np.isfinite(weights.workspace)
    for order in np.flatnonzero(~finite).tolist():
        rows[:, WORKSPACE + 3 * order : WORKSPACE + 3 * order + 3] = 0
    if weights.unambiguous:
        different = rows[:, WORKSPACE + 2 : DOCUMENT : 3]
        rows[different.max(1) > 1, WORKSPACE:DOCUMENT] = 0
    if not weights.document:
        rows[:, DOCUMENT:] = 0
    return _loss(rows, _shared_counts(rows), _logarithms(weights))[0]


_CLASSES = len(PROBABILITY_BOUNDS) + 1


class _WorkspaceCounts:
    """Successor counts over the workspace without one of its files."""

    def __init__(self, whole: Segment, own: Segment) -> None:
        self._segments = (whole, own)
        self._views = (SegmentView * 2)(whole.view(1), own.view(-1))
        self._ranges = np.empty(2 * len(ORDERS) * 2, np.uint64)

    def row(self, text: Tokens, at: int) -> list[int]:
        """Return count of the token at a place, occurrences and successors, for each order of the context before it."""
        context = np.ascontiguousarray(text[max(0, at - DEPTH) : at])
        ranges = self._ranges
        required_library().ng_ranges(ctypes.addressof(self._views), 2, address(context), len(context), address(ranges))
        row: list[int] = []
        for (low, high), (own_low, own_high) in zip(
            *ranges.reshape(2, len(ORDERS), 2).astype(np.int64).tolist(), strict=True
        ):
            if high - low <= own_high - own_low:
                row += [0, 0, 0]
                continue
            whole, own = self._segments
            counts = np.bincount(whole.successors[low:high], minlength=GAP + 1)
            np.subtract.at(counts, own.successors[own_low:own_high], 1)
            counts[GAP] = 0
            row += [int(counts[text[at]]), int(counts.sum()), int(np.count_nonzero(counts))]
        return row


def _document_row(text: Tokens, at: int) -> list[int]:
    """Return count of the token at a place, occurrences and successors, for each order, in the text before it."""
    row: list[int] = []
    places = np.arange(at)
    agreed = 0
    for order in ngrams.ORDERS:
        for back in range(agreed + 1, order + 1):
            places = places[places >= back]
            places = places[text[places - back] == text[at - back]] if back <= at else places[:0]
        agreed = order
        successors = text[places]
        row += [
            int(np.count_nonzero(successors == text[at])),
            len(successors),
            len(np.unique(successors)) if len(successors) else 0,
        ]
    return row


def _counts(rows: Rows, column: int, orders: int, first: int, factors: int | None) -> _Counts:
    columns = rows[:, column : column + 3 * orders]
    return _Counts(columns[:, 0::3], columns[:, 1::3], columns[:, 2::3], first, factors)


def _shared_counts(rows: Rows) -> list[_Counts]:
    """Return the counts of the workspace, then of the document, in the order in which they are mixed in."""
    workspace, document = len(ORDERS), len(ngrams.ORDERS)
    factors = workspace + document
    return [
        _counts(rows, WORKSPACE, workspace, 0, factors),
        _counts(rows, DOCUMENT, document, workspace, factors + _CLASSES),
    ]


def _logarithms(weights: MixingWeights) -> Rows:
    """Return the parameters of weights; those of orders without one are 0."""
    document = weights.document or (1.0,) * len(ngrams.ORDERS)
    workspace = [k if math.isfinite(k) else 1.0 for k in weights.workspace]
    parameters = [*workspace, *document, *weights.workspace_factors, *weights.document_factors]
    return np.log(np.array(parameters, np.float64)).astype(np.float64)


def _loss(rows: Rows, sources: Sequence[_Counts], parameters: Rows) -> tuple[float, Rows]:
    """Return the nats per token of the mixture, and their gradient by the parameters."""
    classes = np.searchsorted(PROBABILITY_BOUNDS, rows[:, CONFIDENCE], side="right")
    probability = rows[:, PROBABILITY]
    steps = []
    for source in sources:
        scale = 1.0 if source.factors is None else np.exp(parameters[source.factors + classes])
        for order in range(source.total.shape[1]):
            total, k = source.total[:, order], np.exp(parameters[source.first + order])
            there = np.maximum(total, 1.0)
            different = source.different[:, order]
            successors = np.where(different == 1, ngrams.SINGLE_SUCCESSOR, different)
            weight = np.where(total > 0, there / (there + k * scale * successors), 0.0)
            share = source.token[:, order] / there
            steps.append((source, order, weight, share, probability))
            probability = (1 - weight) * probability + weight * share
    probability = np.maximum(probability, LEAST_PROBABILITY)
    gradient = np.zeros_like(parameters)
    by_probability = -1 / (probability * len(rows))
    for source, order, weight, share, before in reversed(steps):
        by_logarithm = by_probability * (share - before) * -weight * (1 - weight)
        gradient[source.first + order] += by_logarithm.sum()
        if source.factors is not None:
            place = slice(source.factors, source.factors + _CLASSES)
            gradient[place] += np.bincount(classes, by_logarithm, minlength=_CLASSES)
        by_probability = by_probability * (1 - weight)
    return -float(np.log(probability).mean()), gradient


def _descend(rows: Rows, sources: Sequence[_Counts], begin: Rows) -> Rows:
    """Return the parameters with the least loss, the hold on the beginning included."""
    parameters, momentum, square = begin.copy(), np.zeros_like(begin), np.zeros_like(begin)
    for step in range(1, STEPS + 1):
        gradient = _loss(rows, sources, parameters)[1] + 2 * PRIOR_TOKENS / len(rows) * (parameters - begin)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        square = SQUARE_MEMORY * square + (1 - SQUARE_MEMORY) * gradient**2
        corrected = momentum / (1 - MOMENTUM**step)
        parameters = parameters - RATE * corrected / (np.sqrt(square / (1 - SQUARE_MEMORY**step)) + 1e-10)
    return parameters


def _rounded(values: Rows) -> tuple[float, ...]:
    """Return values with four significant digits."""
    return tuple(float(f"{value:.4g}") for value in values)
