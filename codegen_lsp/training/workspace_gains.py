"""N-gram gains of a workspace's files: of the other files' n-grams, and of the document's.

In the server, a token's probability is mixed with the n-grams of all files of the workspace but its own, and then with
those of the document up to the token (`codegen_lsp.inference.engines.native.mixing`). The gain of each token is
computed with the same weights, so that training spends the model's capacity on tokens that both predict badly. All
tokens are handled at once by sorting, as in `ngram_gains`.

The weights' factor by the model's confidence is replaced by a constant, since the model is what training changes.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.mixing_weights import MixingWeights
from codegen_lsp.inference.engines.native.ngram_segment import ORDERS as WORKSPACE_ORDERS
from codegen_lsp.inference.engines.native.ngrams import ORDERS, SINGLE_SUCCESSOR
from codegen_lsp.training.ngram_gains import ContextHashes, earlier_counts

CONFIDENCE = 0.6
"""Probability whose class gives the factor of the weights: about the mean of the embedded model's largest ones."""
LARGEST = 6e4
"""Largest gain that float16 holds."""

Hashes = NDArray[np.uint64]
Counts = NDArray[np.int64]
_OWN = np.uint64(0xD6E8FEB86659FD93)


@frozen(eq=False)
class _OtherFiles:
    """Counts in all files but a token's own, each (tokens,): of its context, of both, of different successors."""

    total: Counts
    same: Counts
    distinct: Counts


def workspace_gains(ids: NDArray[np.uint16], starts: Counts, weights: MixingWeights) -> NDArray[np.float16]:
    """Return the gains of the files of a workspace; file i is `ids[starts[i]:starts[i + 1]]`."""
    hashes = ContextHashes.of(ids, starts)
    gain, share = np.zeros(len(ids)), np.ones(len(ids))
    factor = weights.workspace_factor(CONFIDENCE)
    for order, k in zip(WORKSPACE_ORDERS, weights.workspace, strict=True):
        if np.isfinite(k):
            found = _in_other_files(hashes.shared(order), hashes.tokens, hashes.file_of)
            total = np.where(hashes.place >= order, found.total, 0)
            gain, share = _interpolated(gain, share, (total, found.same, found.distinct), k * factor)
    for order, k in zip(ORDERS, weights.document_weights(CONFIDENCE) if weights.document else (), strict=False):
        total, same, distinct = earlier_counts(hashes.by_file(order), hashes.tokens)
        total = np.where(hashes.place >= order, total, 0)
        gain, share = _interpolated(gain, share, (total, same, distinct), k)
    return np.minimum(gain / share, LARGEST).astype(np.float16)


def _interpolated(
    gain: NDArray[np.float64], share: NDArray[np.float64], counts: tuple[Counts, Counts, Counts], k: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mix one order into p * share + gain, with the weights of `MixingWeights`."""
    total, same, distinct = counts
    successors = np.where(distinct == 1, SINGLE_SUCCESSOR, distinct)
    weight = np.where(total > 0, total / np.maximum(total + k * successors, 1e-9), 0.0)
    return gain * (1 - weight) + weight * same / np.maximum(total, 1), share * (1 - weight)


def _in_other_files(contexts: Hashes, tokens: Hashes, file_of: Hashes) -> _OtherFiles:
    own = (file_of + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    pairs = (contexts ^ (tokens * np.uint64(0x94D049BB133111EB))) * np.uint64(0xBF58476D1CE4E5B9)
    by_context, per_context, _ = _groups(contexts)
    by_pair, per_pair, first_of_pair = _groups(pairs)
    by_own_context, per_own_context, _ = _groups((contexts ^ own) * _OWN)
    by_own_pair, per_own_pair, first_of_own_pair = _groups((pairs ^ own) * _OWN)
    here, everywhere = per_own_pair[by_own_pair], per_pair[by_pair]
    distinct = np.bincount(by_context[first_of_pair], minlength=len(per_context))
    here_alone = first_of_own_pair[(here == everywhere)[first_of_own_pair]]
    of_this_file = np.bincount(by_own_context[here_alone], minlength=len(per_own_context))
    return _OtherFiles(
        total=per_context[by_context] - per_own_context[by_own_context],
        same=everywhere - here,
        distinct=distinct[by_context] - of_this_file[by_own_context],
    )


def _groups(keys: Hashes) -> tuple[Counts, Counts, Counts]:
    """Return the number of each key's group, the size of each group, and the place of its first member."""
    _, first, group, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return group, sizes, first
