"""Limits for code that the model writes, and its label in a list of results."""

from __future__ import annotations

CODE_CANDIDATES = 5
"""Candidates that the model is asked for."""
CODE_TOKENS = 200
CODE_LINES = 30
_LABEL_CHARACTERS = 60


def label_of(code: str) -> str:
    """Return the first line of code, shortened for a list to choose from."""
    line = code.split("\n", 1)[0].strip()
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS - 3] + "..."
