"""Whether two lines are the same but for a few signs."""

from __future__ import annotations

import re

ALLOWED = 0.05
"""Share of a line's characters that may differ, as Copilot has it. Lines of less than 20 characters must be equal."""

_WORD = re.compile(r"\w+")


def alike(one: str, other: str) -> bool:
    """Whether two lines have the same words and an edit distance (Levenshtein) of at most `ALLOWED` of their length.

    Lines that differ in a word, be it by one digit, people write one below the other. Takes time in proportion to
    length times allowed distance (Ukkonen, 1985): what lies further off the diagonal can't be near enough.
    """
    most = int(ALLOWED * max(len(one), len(other)))
    if abs(len(one) - len(other)) > most or _WORD.findall(one) != _WORD.findall(other):
        return False
    far = most + 1
    before = {column: column for column in range(min(most, len(other)) + 1)}
    for row, character in enumerate(one, 1):
        now = {0: row} if row <= most else {}
        for column in range(max(1, row - most), min(row + most, len(other)) + 1):
            now[column] = min(
                before.get(column - 1, far) + (character != other[column - 1]),
                before.get(column, far) + 1,
                now.get(column - 1, far) + 1,
            )
        before = now
    return before.get(len(other), far) <= most
