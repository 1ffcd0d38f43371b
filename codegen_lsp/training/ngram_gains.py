"""N-gram gains of a corpus: the terms that the server's n-gram mixture adds to the probability of each token.

The server mixes the model's probability p with the n-grams of the document: the mixed probability is proportional to
p + gain (`codegen_lsp.inference.engines.native.ngrams`). For training, the gain of each token is computed beforehand
from the tokens before it in its file. The objective -log(p + gain) then spends the model's capacity on tokens that
n-grams predict badly. All files are handled at once by sorting, since a loop over tokens would take hours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.ngrams import ORDERS, SINGLE_SUCCESSOR, WITTEN_BELL_K
from codegen_lsp.training.data import EncodedCorpus
from codegen_lsp.training.processes import process_pool

FILES_PER_PASS = 1024
_UNIQUE = np.uint64(0xD6E8FEB86659FD93)
"""Odd factor that makes hashes of places without a context of the order, each of its own."""


def corpus_gains(encoded: EncodedCorpus, workers: int = 1) -> NDArray[np.float16]:
    """Return the gain of each token of the corpus, parallel to its ids, computed by `workers` processes."""
    bounds = [
        encoded.starts[first : first + FILES_PER_PASS + 1] for first in range(0, encoded.documents, FILES_PER_PASS)
    ]
    parts = ((np.asarray(encoded.ids[starts[0] : starts[-1]]), starts - starts[0]) for starts in bounds)
    if workers == 1:
        found = [gains(*part) for part in parts]
    else:
        with process_pool(workers) as pool:
            found = list(pool.map(gains, *zip(*parts, strict=True)))
    return np.concatenate(found) if found else np.zeros(0, np.float16)


def write_gains(encoded: EncodedCorpus, folder: Path, name: str, workers: int = 1) -> None:
    """Compute the gains of a corpus and write NAME.gains.npy beside its ids, at once when complete."""
    partial = folder / f"{name}.gains.partial.npy"
    np.save(partial, corpus_gains(encoded, workers))
    partial.replace(folder / f"{name}.gains.npy")


def gains(ids: NDArray[np.uint16], starts: NDArray[np.int64]) -> NDArray[np.float16]:
    """Return the gains of files stored one after another; file i is `ids[starts[i]:starts[i + 1]]`."""
    gain, _ = mixture_terms(ids, starts)
    return np.minimum(gain, 6e4).astype(np.float16)


@frozen(eq=False)
class ContextHashes:
    """Files stored one after another, with hashes of the tokens before each place; all arrays are (tokens,)."""

    tokens: NDArray[np.uint64]
    file_of: NDArray[np.uint64]
    place: NDArray[np.int64]
    """Number of tokens before it in its file."""

    @classmethod
    def of(cls, ids: NDArray[np.uint16], starts: NDArray[np.int64]) -> ContextHashes:
        """Return the hashes of files; file i is `ids[starts[i]:starts[i + 1]]`."""
        file_of = np.repeat(np.arange(len(starts) - 1, dtype=np.uint64), np.diff(starts))
        place = np.arange(len(ids)) - np.repeat(starts[:-1], np.diff(starts))
        return cls(ids.astype(np.uint64) + np.uint64(1), file_of, place)

    def by_file(self, order: int) -> NDArray[np.uint64]:
        """Return the hashes of the last `order` tokens, different in each file."""
        return self._hashed(self.file_of * np.uint64(0x9E3779B97F4A7C15), order)

    def shared(self, order: int) -> NDArray[np.uint64]:
        """Return the hashes of the last `order` tokens, equal in all files."""
        return self._hashed(np.zeros(len(self.tokens), np.uint64), order)

    def _hashed(self, contexts: NDArray[np.uint64], order: int) -> NDArray[np.uint64]:
        count = len(self.tokens)
        for back in range(1, order + 1):
            shifted = np.zeros(count, dtype=np.uint64)
            shifted[back:] = self.tokens[:-back] if back < count else 0
            contexts = (contexts ^ shifted) * np.uint64(0xBF58476D1CE4E5B9)
            contexts ^= contexts >> np.uint64(29)
        return np.where(self.place >= order, contexts, np.arange(count, dtype=np.uint64) * _UNIQUE)


def mixture_terms(
    ids: NDArray[np.uint16], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gain and share of each token: its mixed probability is (p + gain) * share."""
    hashes = ContextHashes.of(ids, starts)
    gain, share = np.zeros(len(ids)), np.ones(len(ids))
    for order, k in zip(reversed(ORDERS), reversed(WITTEN_BELL_K), strict=True):
        total, same, distinct = earlier_counts(hashes.by_file(order), hashes.tokens)
        valid = (hashes.place >= order) & (total > 0)
        successors = np.where(distinct == 1, SINGLE_SUCCESSOR, distinct)
        weight = np.where(valid, total / np.maximum(total + k * successors, 1), 0.0)
        gain += share * weight * same / np.maximum(total, 1)
        share *= 1 - weight
    return gain / share, share


def earlier_counts(
    contexts: NDArray[np.uint64], tokens: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count earlier occurrences of each place's context: all, with the same successor, and distinct successors."""
    count = len(contexts)
    pairs = (contexts ^ (tokens * np.uint64(0x94D049BB133111EB))) * np.uint64(0xBF58476D1CE4E5B9)
    by_pair = np.argsort(pairs, kind="stable")
    same = np.empty(count, dtype=np.int64)
    same[by_pair] = _ranks(pairs[by_pair])
    by_context = np.argsort(contexts, kind="stable")
    ordered = contexts[by_context]
    total = np.empty(count, dtype=np.int64)
    ranks = _ranks(ordered)
    total[by_context] = ranks
    new = (same[by_context] == 0).astype(np.int64)
    before = np.cumsum(new) - new
    distinct = np.empty(count, dtype=np.int64)
    distinct[by_context] = before - before[np.arange(count) - ranks]
    return total, same, distinct


def _ranks(ordered: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the position of each element within its run of equal elements."""
    places = np.arange(len(ordered))
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, dtype=np.bool_)
    begins: NDArray[np.int64] = np.maximum.accumulate(np.where(first, places, 0))
    return places - begins
