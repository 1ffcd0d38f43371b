"""Detection of exact and near duplicates among files, by MinHash over runs of words.

Two files are near duplicates when the Jaccard similarity of their sets of word 6-grams, estimated by MinHash with 64
permutations (Broder, "On the resemblance and containment of documents", 1997), is at least 0.7.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NEAR_DUPLICATE = 0.7
"""Smallest Jaccard similarity of near duplicates."""
PERMUTATIONS = 64
SHINGLE = 6
"""Words per run."""


@lru_cache(maxsize=1 << 18)
def _word_code(word: str) -> int:
    return int.from_bytes(hashlib.md5(word.encode(), usedforsecurity=False).digest()[:4], "big")


def shingles(text: str) -> NDArray[np.uint64]:
    """Return the distinct 32-bit hashes of all runs of `SHINGLE` words, sorted."""
    words = re.findall(r"\w+", text)
    codes = np.fromiter(map(_word_code, words), dtype=np.uint64, count=len(words))
    if len(codes) < SHINGLE:
        return np.unique(codes)
    mixed = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : len(codes) - SHINGLE + 1 + offset]
    return np.unique(mixed >> np.uint64(32))


def signature(text: str) -> NDArray[np.uint32]:
    """Return the MinHash signature of a text, (PERMUTATIONS,)."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int)
    sketch.update_batch(shingles(text))
    values: NDArray[np.uint32] = sketch.hashvalues
    return values


def digest(text: str) -> bytes:
    """Return a hash of the text without its white space, equal for exact duplicates."""
    return hashlib.sha256(re.sub(r"\s+", "", text).encode()).digest()


class DuplicateIndex:
    """Index of the texts seen so far, queried with each further text before it is added."""

    def __init__(self) -> None:
        from datasketch import MinHashLSH

        self._digests: set[bytes] = set()
        self._index = MinHashLSH(threshold=NEAR_DUPLICATE, num_perm=PERMUTATIONS)
        self._size = 0

    def add(self, text_digest: bytes, text_signature: NDArray[np.uint32]) -> str | None:
        """Return the reason to reject a text ("exact duplicate", "near duplicate"), or None after adding it."""
        from datasketch import MinHash

        if text_digest in self._digests:
            return "exact duplicate"
        self._digests.add(text_digest)
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int)
        sketch.hashvalues = text_signature
        if any(True for _ in self._index.query(sketch)):
            return "near duplicate"
        self._index.insert(self._size, sketch)
        self._size += 1
        return None
