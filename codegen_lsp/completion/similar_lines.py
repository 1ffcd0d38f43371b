"""Near-duplicate lines: equal but for a few characters of punctuation."""

from __future__ import annotations

import re

ALLOWED = 0.05
"""Share of a line's characters that may differ, as in Copilot. Lines of fewer than 20 characters must be equal."""

_WORD = re.compile(r"\w+")


def are_similar(one: str, other: str) -> bool:
    """Return true if two lines have the same words and a Levenshtein distance of at most `ALLOWED` of their length.

    Lines that differ in a word, be it by one digit, are often written one below the other.
    """
    most = int(ALLOWED * max(len(one), len(other)))
    if abs(len(one) - len(other)) > most or _WORD.findall(one) != _WORD.findall(other):
        return False
    if one == other:
        return True
    from rapidfuzz.distance import Levenshtein  # loaded late: few lines come this far

    return Levenshtein.distance(one, other, score_cutoff=most) <= most
