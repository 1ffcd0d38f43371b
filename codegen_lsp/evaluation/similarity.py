"""Edit similarity of two texts, as in CodeXGLUE and later benchmarks of line completion."""

from __future__ import annotations

from rapidfuzz.distance import Indel


def edit_similarity(found: str, expected: str) -> float:
    """Return the share of characters that insertions and deletions leave in place, from 0 to 1.

    This is twice the length of the longest common subsequence over the sum of the lengths, the `ratio` of fuzzywuzzy
    and its successors; two empty texts are equal.
    """
    return Indel.normalized_similarity(found, expected)
