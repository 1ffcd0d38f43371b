"""Documents that are edited at random, as an editor keeps them.

A text is kept as UTF-16 code units, each a character of its own, as in an editor written in JavaScript: so offsets in a
line are the protocol's columns, and an edit may separate the halves of a surrogate pair.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from typing import Any

from codegen_lsp.source.lines import line_starts

PIECES = (
    *("x", "value = 1\n", "    return ", "(", ")", ":\n", "\n", "\r\n", "\r", "\t", '"""', "self."),
    *("😀", "é", "e\u0301", "日本", "\x0c", "\u2028", "\ufeff", "\x00", "👩\u200d👩\u200d👧", "\u202e"),
)
HUGE_LINE = 50_000
"""Characters of an inserted line without a line break."""
MAX_UNITS = 60_000
"""Code units of a text that is then replaced by the one it began with."""
MAX_INTEGER = 2**31 - 1
"""Largest line and column of the protocol."""


class EditedDocument:
    """A document on the editor's side. Its text, and the edits, depend on the random numbers alone."""

    def __init__(self, uri: str, language: str, text: str) -> None:
        self.uri = uri
        self.language = language
        self.version = 1
        self._original = self.units = as_units(text)

    @property
    def text(self) -> str:
        """The text in code points; halves of surrogate pairs that stand alone remain."""
        return as_text(self.units)

    @property
    def digest(self) -> str:
        """SHA-256 of the text, as `codegen-lsp/explain` gives it."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def opened(self) -> dict[str, Any]:
        """Return the params of `textDocument/didOpen`."""
        item = {"uri": self.uri, "languageId": self.language, "version": self.version, "text": self.text}
        return {"textDocument": item}

    def edit(self, choose: random.Random) -> dict[str, Any]:
        """Change the text; return the params of `textDocument/didChange`."""
        self.version += 1
        kind = choose.random()
        if len(self.units) > MAX_UNITS or kind < 0.002:
            self.units = self._original
            changes: list[dict[str, Any]] = [{"text": self.text}]
        elif kind < 0.05:
            changes = [self._change(choose) for _ in range(choose.randint(0, 4))]
        else:
            changes = [self._change(choose)]
        return {"textDocument": {"uri": self.uri, "version": self.version}, "contentChanges": changes}

    def position(self, choose: random.Random) -> dict[str, int]:
        """Return the position of a random place."""
        return _position_at(line_starts(self.units), self._place(choose))

    def _change(self, choose: random.Random) -> dict[str, Any]:
        start = self._place(choose)
        end = start if choose.random() < 0.8 else self._inside(min(start + choose.randint(0, 40), len(self.units)))
        if choose.random() < 0.0005:
            inserted = "".join(choose.choices(("a", "é", "😀", " "), k=HUGE_LINE))
        else:
            inserted = "".join(choose.choices(PIECES, k=choose.randint(0, 4)))
        starts = line_starts(self.units)
        first, last = _position_at(starts, start), _position_at(starts, end)
        if choose.random() < 0.1:
            last = self._beyond(choose, starts, end, last)
        ends = {"start": first, "end": last} if choose.random() < 0.95 else {"start": last, "end": first}
        self.units = self.units[:start] + as_units(inserted) + self.units[end:]
        return {"range": ends, "text": inserted}

    def _beyond(
        self, choose: random.Random, starts: list[int], offset: int, position: dict[str, int]
    ) -> dict[str, int]:
        """Return another position for the end of a line or of the text: beyond it."""
        if offset == len(self.units):
            return {"line": len(starts) + choose.choice((0, 7, MAX_INTEGER - len(starts))), "character": 3}
        if self.units[offset] in "\r\n":
            return {"line": position["line"], "character": choose.choice((position["character"] + 9, MAX_INTEGER))}
        return position

    def _place(self, choose: random.Random) -> int:
        return self._inside(choose.randint(0, len(self.units)))

    def _inside(self, offset: int) -> int:
        """Return the offset, or the one before it between CR and LF, which no position names."""
        return offset - 1 if self.units[offset - 1 : offset + 1] == "\r\n" and offset else offset


def as_units(text: str) -> str:
    """Return a text with two characters in place of each outside the Basic Multilingual Plane."""
    if text.isascii():
        return text
    encoded = text.encode("utf-16-le", "surrogatepass")
    return "".join(map(chr, memoryview(encoded).cast("H")))


def as_text(units: str) -> str:
    """Return the text of code units."""
    return units if units.isascii() else units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _position_at(starts: list[int], offset: int) -> dict[str, int]:
    line = bisect_right(starts, offset) - 1
    return {"line": line, "character": offset - starts[line]}
