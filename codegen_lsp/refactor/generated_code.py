"""Limits for code that the model writes, and the labels of results in a list to choose from."""

from __future__ import annotations

CODE_CANDIDATES = 5
"""Candidates that the model is asked for."""
CODE_TOKENS = 200
CODE_LINES = 30
LABEL_CHARACTERS = 60


def label_of(code: str) -> str:
    """Return the first line of code as a label."""
    return shortened(code.split("\n", 1)[0].strip())


def shortened(label: str) -> str:
    """Return a label of at most `LABEL_CHARACTERS`."""
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 3] + "..."
