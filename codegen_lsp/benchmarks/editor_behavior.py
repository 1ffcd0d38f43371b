"""The text that VS Code inserts by default during typing: closing brackets and quotes, and indentation."""

from __future__ import annotations

import re

from codegen_lsp.source.brackets import PAIRS, in_string_or_comment, open_at_end
from codegen_lsp.source.languages import Language

QUOTES = ("'", '"', "`")
CLOSING = frozenset(PAIRS.values()) | frozenset(QUOTES)
"""Characters that VS Code inserts after the cursor and that can be typed over."""
_CLOSES_BEFORE = frozenset(";:.,=}])> \n\t")
"""Characters before which VS Code closes brackets and quotes."""
_NO_QUOTE_AFTER = re.compile(r"(?:\w\w|[^\W_bBfFrRuU]|['\"`\\])$")
"""Ends of lines after which a quote is not closed; string prefixes are not among them."""


def closer_of(typed: str, line: str, following: str, language: Language) -> str:
    """Return the character that is inserted after a typed one; empty for none.

    `line` is the text of the line before the cursor, `following` the character after the cursor.
    """
    if following not in _CLOSES_BEFORE and following not in CLOSING:
        return ""
    if typed in PAIRS:
        return PAIRS[typed]
    if typed not in QUOTES or _NO_QUOTE_AFTER.search(line):
        return ""
    return "" if in_string_or_comment(open_at_end(line, language), language) else typed


def line_break_after(line: str, pending: str, step: str, language: Language) -> tuple[str, str]:
    """Return the indentation that Enter inserts before the cursor, and the text that it inserts after it.

    `pending` is the text after the cursor, `step` one level of indentation.
    """
    margin = line[: len(line) - len(line.lstrip(" \t"))]
    opened = line.rstrip()[-1:]
    deeper = opened in PAIRS or (opened == ":" and language.is_python)
    apart = "\n" + margin if opened in PAIRS and pending.startswith(PAIRS[opened]) else ""
    return margin + (step if deeper else ""), apart


def indentation_step(text: str) -> str:
    """Return the indentation step of a file: a tab, or the fewest spaces of an indented line, at least 2."""
    margins = re.findall(r"^([ \t]+)\S", text, re.MULTILINE)
    if any(margin.startswith("\t") for margin in margins):
        return "\t"
    return " " * max(2, min((len(margin) for margin in margins), default=4))
