"""A document with a selection, and the way from the text that refactorings work on back to the document's own.

Refactorings see LF line ends only. What they make is a whole new text; the edits are read off afterwards, line by line,
and get the document's line ends back. So no refactoring can touch a line by accident without the checks seeing it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from codegen_lsp.workspace.sources import Workspace

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@frozen
class SelectedSource:
    """A document at one version, with LF line ends, and what is selected in it."""

    text: str
    start: int
    """Offset of the selection in code points; equal to `end` for a cursor."""
    end: int
    language: str = "python"
    """LSP language identifier."""
    path: Path | None = None
    """The file, when it is one; never read for its text."""
    key: str = "refactor"
    """What tells this document's requests to the model from those of others."""
    workspace: Workspace | None = None
    """Where other files may use what the document defines; None where there is no folder to look in."""

    @property
    def selected(self) -> str:
        """The selected text."""
        return self.text[self.start : self.end]

    def line_of(self, offset: int) -> int:
        """Number of the line that the offset is on, from 1 as in Python's syntax trees."""
        return self.text.count("\n", 0, offset) + 1


@frozen
class Edit:
    """Replace `text[start:end]` of the original document by `new`. Offsets count code points."""

    start: int
    end: int
    new: str


@frozen
class Original:
    """A document as it is, line ends and all."""

    text: str

    def normal(self) -> str:
        """The text with LF line ends."""
        return self.text if "\r" not in self.text else _LINE_BREAK.sub("\n", self.text)

    def normal_offset(self, offset: int) -> int:
        """The offset in `normal()` of an offset here."""
        if "\r" not in self.text:
            return offset
        head = self.text[:offset]
        # Between CR and LF is before both.
        if head.endswith("\r") and self.text[offset : offset + 1] == "\n":
            head = head[:-1]
        return len(_LINE_BREAK.sub("\n", head))

    @property
    def line_break(self) -> str:
        """The line end that most lines have."""
        pairs = self.text.count("\r\n")
        single = {"\n": self.text.count("\n") - pairs, "\r\n": pairs, "\r": self.text.count("\r") - pairs}
        return max(single, key=lambda end: single[end]) if self.text else "\n"

    def edits(self, new: str) -> list[Edit]:
        """What makes `new` (with LF line ends) of this document: whole lines, in order, not overlapping."""
        old_lines = split_lines(self.normal())
        new_lines = split_lines(new)
        starts = [0, *(found.end() for found in _LINE_BREAK.finditer(self.text)), len(self.text)]
        found = []
        for tag, old_from, old_to, new_from, new_to in line_changes(old_lines, new_lines):
            if tag == "equal":
                continue
            text = "".join(new_lines[new_from:new_to]).replace("\n", self.line_break)
            last = len(starts) - 1
            found.append(Edit(starts[min(old_from, last)], starts[min(old_to, last)], text))
        return found


def split_lines(text: str) -> list[str]:
    """The lines with their LF; unlike `splitlines`, nothing else ends a line."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def line_changes(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    """As `SequenceMatcher.get_opcodes`, quick for long texts that differ in one place."""
    head = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    room = min(len(old), len(new)) - head
    tail = next((at for at in range(room) if old[-1 - at] != new[-1 - at]), room)
    middle = SequenceMatcher(
        None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False
    ).get_opcodes()
    return [(tag, a + head, b + head, c + head, d + head) for tag, a, b, c, d in middle]


@frozen
class Lines:
    """From line and column, as Python's syntax trees count them, to offsets."""

    text: str
    starts: list[int]

    @classmethod
    def of(cls, text: str) -> Lines:
        """The lines of a text with LF line ends."""
        return cls(text, [0, *accumulate(len(line) for line in split_lines(text))])

    def offset(self, line: int, column: int) -> int:
        """Offset of a line (from 1) and a column in bytes of UTF-8."""
        start = self.starts[min(line, len(self.starts)) - 1]
        rest = self.text[start : start + column]
        if rest.isascii():
            return start + column
        return start + len(rest.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "replace"))

    def line(self, offset: int) -> int:
        """Number of the line, from 1, of an offset."""
        return bisect_right(self.starts, offset)

    def whole(self, first: int, last: int) -> tuple[int, int]:
        """Offsets of the start of the first line and the end of the last, its LF included."""
        return self.starts[first - 1], self.starts[last] if last < len(self.starts) else len(self.text)
