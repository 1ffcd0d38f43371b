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

    N occurrences of a context with U different successors (`SINGLE_SUCCESSOR` instead of 1) weigh N / (N + k f U),
    where f depends on the largest probability that the model gives any token: a model that is sure is trusted more.
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
    workspace=(812.0, 189.0, 59.1, 19.3, 11.5, 11.6, 4.24),
    document=(109.0, 55.4, 66.5, 28.3, 5.47),
    workspace_factors=(0.48, 0.43, 0.54, 0.68, 0.80, 1.08, 1.92, 2.23, 5.38),
    document_factors=(0.52, 0.58, 0.66, 0.67, 0.90, 1.00, 1.87, 1.75, 4.49),
)
"""For models of some ten million parameters. Fitted with the embedded model on 30,835 tokens of 12 packages that it had
not seen, each with 3, with 12 and with all of its other files as the workspace. On 41,184 tokens of 17 other packages,
with all files (`docs/lab.md`): 1.66 nats per token with the model alone, 1.52 with the document's n-grams, 1.27 with
both."""

LARGE_MODEL = MixingWeights(
    workspace=(math.inf, math.inf, math.inf, math.inf, 89.0, 52.0, 9.6),
    document=(),
    workspace_factors=SMALL_MODEL.workspace_factors,
    document_factors=SMALL_MODEL.document_factors,
    document_alone=(),
    unambiguous=True,
)
"""For larger models whose weights were not fitted (`codegen-lsp models tune`): only long and unambiguous matches count,
with two to eight times the k of `SMALL_MODEL`. Not measured: no such model was at hand."""
