"""How alike two lines are: the share of characters that insertions and deletions leave in place.

This is the edit similarity of CodeXGLUE and of later line-completion benchmarks (the `ratio` of fuzzywuzzy and its
successors): twice the length of the longest common subsequence over the sum of the lengths, 0 to 1.
"""

from __future__ import annotations


def edit_similarity(found: str, expected: str) -> float:
    """1 for equal texts, 0 for texts without a common character; two empty texts are equal."""
    total = len(found) + len(expected)
    return 2 * common_subsequence(found, expected) / total if total else 1.0


def common_subsequence(one: str, other: str) -> int:
    """Length of the longest common subsequence, one row at a time as the bits of an integer.

    The algorithm is Hyyrö's ("Bit-parallel LCS-length computation revisited", 2004).
    """
    positions: dict[str, int] = {}
    for index, character in enumerate(one):
        positions[character] = positions.get(character, 0) | 1 << index
    mask = (1 << len(one)) - 1
    row = mask
    for character in other:
        matches = row & positions.get(character, 0)
        row = ((row + matches) | (row - matches)) & mask
    return len(one) - row.bit_count()
