"""Mixing of n-grams into the model's prediction of the next token."""

from __future__ import annotations

import math

import numpy as np

from codegen_lsp.inference.engines.base import SamplingParams
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH
from codegen_lsp.inference.engines.native.ngrams import Mixture, NgramMatcher
from codegen_lsp.inference.sampling import Logits


def predictions(
    ngrams: NgramMatcher, sampling: SamplingParams, confidence: float
) -> tuple[Mixture | None, Mixture | None]:
    """Return the predictions to mix in: first the workspace's, then the document's; None where there is none.

    `ngrams` is the document up to the token; `confidence` is the largest probability that the model gives any token.
    """
    workspace, weights = sampling.workspace, sampling.weights
    if workspace is None:
        return None, ngrams.mixture(weights.document_alone) if weights.document_alone else None
    mixture = workspace.mixture(ngrams.tail(DEPTH), weights.workspace_factor(confidence))
    document = ngrams.mixture(weights.document_weights(confidence)) if weights.document else None
    return mixture if weights.admits(mixture) else None, document


def interpolate(logits: Logits, normaliser: float, mixture: Mixture | None) -> float:
    """Mix a prediction of the next token into its logits, (padded vocabulary size,), in place.

    `normaliser` is the log of the sum of the exponentials of the logits. Return the new one. A gain g beside the
    probability p increases exp(logit) by g times that sum.
    """
    if mixture is None:
        return normaliser
    gains = np.log(mixture.gains).astype(np.float32) + np.float32(normaliser)
    logits[mixture.ids] = np.logaddexp(logits[mixture.ids], gains)
    return normaliser + math.log1p(float(mixture.gains.sum()))
