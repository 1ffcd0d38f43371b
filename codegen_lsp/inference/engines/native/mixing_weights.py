"""Weights of the n-grams against the model: fitted on held-out packages, or by `mixing_fit` on a user's files."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.inference.engines.native.ngrams import WITTEN_BELL_K, Mixture

PROBABILITY_BOUNDS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.96)
"""Bounds between the classes of the model's largest probability."""


@frozen
class MixingWeights:
    """The k of Witten-Bell smoothing for each order, and factors of k by the model's confidence.

    N occurrences of a context with U different successors weigh N / (N + k f U), where f depends on the largest
    probability that the model gives any token: a model that is sure is trusted more.
    """

    workspace: tuple[float, ...]
    """k for contexts of 1, 2, 3, 5, 8, 12 and 16 tokens in the files of the workspace; infinity leaves an order out."""
    document: tuple[float, ...]
    """k for contexts of 1, 2, 3, 5 and 8 tokens in the document, beside the workspace. Empty: it is not mixed in."""
    workspace_factors: tuple[float, ...]
    document_factors: tuple[float, ...]
    """f for each class of confidence."""
    document_alone: tuple[float, ...] = WITTEN_BELL_K
    """k in the document where there is no workspace; without factors. Empty: it is not mixed in."""
    unambiguous: bool = False
    """Mix in the workspace only where all occurrences of the context have the same successor."""

    def workspace_factor(self, confidence: float) -> float:
        """Return f for the workspace's counts, by the model's largest probability."""
        return self.workspace_factors[bisect_right(PROBABILITY_BOUNDS, confidence)]

    def admits(self, mixture: Mixture | None) -> bool:
        """Return whether the workspace's prediction of the next token is to be used."""
        return mixture is not None and not (self.unambiguous and len(mixture.ids) > 1)

    def document_weights(self, confidence: float) -> Sequence[float]:
        """Return k f of each order of the document's counts."""
        factor = self.document_factors[bisect_right(PROBABILITY_BOUNDS, confidence)]
        return [k * factor for k in self.document]


SMALL_MODEL = MixingWeights(
    workspace=(1147.0, 84.5, 39.3, 11.6, 5.9, 3.4, 0.65),
    document=(78.2, 45.6, 25.9, 12.0, 2.0),
    workspace_factors=(0.30, 0.34, 0.45, 0.71, 0.89, 1.29, 1.96, 2.57, 12.6),
    document_factors=(0.48, 0.38, 0.53, 0.71, 0.70, 1.12, 1.62, 2.48, 5.83),
)
"""For models of some ten million parameters. Fitted with the embedded model on 45,364 tokens of 12 packages that it had
not seen, each package a workspace with the scored file left out. On 44,603 tokens of 12 others (`docs/lab.md`): 1.55
nats per token with the model alone, 1.48 with the document's n-grams, 1.27 with both."""

LARGE_MODEL = MixingWeights(
    workspace=(math.inf, math.inf, math.inf, math.inf, 24.0, 14.0, 2.6),
    document=(),
    workspace_factors=SMALL_MODEL.workspace_factors,
    document_factors=SMALL_MODEL.document_factors,
    document_alone=(),
    unambiguous=True,
)
"""For larger models whose weights were not fitted (`codegen-lsp models tune`): only long and unambiguous matches count,
with four times the k of `SMALL_MODEL`. Not measured: no such model was at hand."""
