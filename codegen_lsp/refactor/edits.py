"""The selected text that refactorings work on, and edits of the original document.

Refactorings see LF line ends only, and return the whole new text of the document. The edits are computed afterwards by
a diff of lines, and get the document's line ends back. So the checks see every line that a refactoring touches.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from difflib import SequenceMatcher
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.source.lines import line_starts, start_of_line, with_lf

if TYPE_CHECKING:
    from codegen_lsp.workspace.sources import Workspace

_MARGIN = re.compile(r"[ \t]*")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


@frozen
class SelectedSource:
    """The text of a document at one version, with LF line ends, and a selection."""

    text: str
    start: int
    """Offset of the selection in code points; equal to `end` for a cursor."""
    end: int
    language: str = "python"
    """LSP language identifier."""
    path: Path | None = None
    """The file of the document, if it has one; never read for its text."""
    workspace: Workspace | None = None
    """The folder whose files may use the definitions of the document; None where there is none."""

    @property
    def selected(self) -> str:
        """The selected text."""
        return self.text[self.start : self.end]

    @property
    def identifier(self) -> tuple[str, int] | None:
        """The word that the cursor touches or that is selected as a whole, and its offset."""
        start = self.start
        while start > 0 and (self.text[start - 1].isalnum() or self.text[start - 1] == "_"):
            start -= 1
        found = _IDENTIFIER.match(self.text, start)
        if found is None or found.end() < self.end:
            return None
        if self.start < self.end and (found.start() < self.start or found.end() > self.end):
            return None
        return found.group(), found.start()

    def line_of(self, offset: int) -> int:
        """Return the number of the line that the offset is on, from 1 as in Python's syntax trees."""
        return self.text.count("\n", 0, offset) + 1


@frozen
class Edit:
    """Replace `text[start:end]` of the original document by `new`. Offsets count code points."""

    start: int
    end: int
    new: str


@frozen
class Original:
    """The text of a document with its own line ends."""

    text: str

    def normal(self) -> str:
        """Return the text with LF line ends."""
        return with_lf(self.text)

    def normal_offset(self, offset: int) -> int:
        """Return the offset in `normal()` that corresponds to an offset in `text`."""
        if "\r" not in self.text:
            return offset
        head = self.text[:offset]
        # An offset between CR and LF counts as before both.
        if head.endswith("\r") and self.text[offset : offset + 1] == "\n":
            head = head[:-1]
        return len(with_lf(head))

    @property
    def line_break(self) -> str:
        """The most frequent line end."""
        pairs = self.text.count("\r\n")
        single = {"\n": self.text.count("\n") - pairs, "\r\n": pairs, "\r": self.text.count("\r") - pairs}
        return max(single, key=lambda end: single[end]) if self.text else "\n"

    def edits(self, new: str) -> list[Edit]:
        """Return the edits that turn this document into `new`, which has LF line ends.

        Edits replace whole lines, are in order and don't overlap.
        """
        old_lines = split_lines(self.normal())
        new_lines = split_lines(new)
        starts = [*line_starts(self.text), len(self.text)]
        found = []
        for tag, old_from, old_to, new_from, new_to in line_changes(old_lines, new_lines):
            if tag == "equal":
                continue
            text = "".join(new_lines[new_from:new_to]).replace("\n", self.line_break)
            last = len(starts) - 1
            found.append(Edit(starts[min(old_from, last)], starts[min(old_to, last)], text))
        return found


def split_lines(text: str) -> list[str]:
    """Return the lines with their LF; unlike `str.splitlines`, split at LF only."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def line_changes(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return the opcodes of `difflib.SequenceMatcher`, computed quickly for long texts that differ in one place."""
    head = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    rest = min(len(old), len(new)) - head
    tail = next((at for at in range(rest) if old[-1 - at] != new[-1 - at]), rest)
    middle = SequenceMatcher(
        None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False
    ).get_opcodes()
    return [(tag, a + head, b + head, c + head, d + head) for tag, a, b, c, d in middle]


@frozen
class Lines:
    """Conversion between offsets and the lines and columns of Python's syntax trees."""

    text: str
    starts: list[int]
    """Offsets at which lines begin, and the length of the text."""

    @classmethod
    def of(cls, text: str) -> Lines:
        """Index a text with LF line ends."""
        return cls(text, [0, *accumulate(len(line) for line in split_lines(text))])

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line (from 1) and a column in bytes of UTF-8."""
        start = self.starts[min(line, len(self.starts)) - 1]
        rest = self.text[start : start + column]
        if rest.isascii():
            return start + column
        return start + len(rest.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "replace"))

    def line(self, offset: int) -> int:
        """Return the number of the line, from 1, that an offset is on."""
        return bisect_right(self.starts, offset)

    def whole(self, first: int, last: int) -> tuple[int, int]:
        """Return the offsets of the start of the first line and the end of the last, its LF included."""
        return self.starts[first - 1], self.starts[last] if last < len(self.starts) else len(self.text)


def margin_of(text: str, offset: int) -> str:
    """Return the white space at the beginning of the line that the offset is on."""
    found = _MARGIN.match(text, start_of_line(text, offset))
    return found.group() if found else ""
