"""Places and ranges in files on disk, as arguments of commands name them: `FILE:LINE[:COL]` and `FILE:RANGE`.

Lines and columns count from 1. Lines end in LF, CRLF or CR, as in LSP.
"""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from codegen_lsp.completion.snapshot import Snapshot, Trigger
from codegen_lsp.errors import CodegenError
from codegen_lsp.source.languages import identifier_of
from codegen_lsp.source.lines import line_starts
from codegen_lsp.workspace.decoding import read_source

CURSOR = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")
RANGE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?(?:-(?P<last>\d+)(?::(?P<end>\d+))?)?")


class LocationError(CodegenError):
    """A place or range that is not written as one, or that lies outside its file."""


@frozen
class FileRange:
    """A range in a file, as offsets in the text that was read."""

    path: Path
    text: str
    start: int
    end: int


@frozen
class _Lines:
    """A file's text with the offset of each line."""

    path: Path
    text: str
    starts: list[int]

    @classmethod
    def read(cls, path: Path) -> _Lines:
        text = read_source(path)
        return cls(path, text, line_starts(text))

    def span(self, line: int) -> tuple[int, int]:
        """Return the offsets at which a line starts, and at which the next one does. Raises: LocationError."""
        count = len(self.starts)
        if not 1 <= line <= count:
            raise LocationError(f"{self.path} has {count} lines, not {line}.", f"Give a line from 1 to {count}.")
        return self.starts[line - 1], self.starts[line] if line < count else len(self.text)

    def offset(self, line: int, column: int | None) -> int:
        """Return the offset before a column, or at the end of the line's text. Raises: LocationError."""
        start, after = self.span(line)
        width = len(self.text[start:after].rstrip("\r\n"))
        column = width + 1 if column is None else column
        if not 1 <= column <= width + 1:
            raise LocationError(
                f"Line {line} of {self.path} has {width} characters.", f"Give a column from 1 to {width + 1}."
            )
        return start + column - 1


def snapshot_at(place: str, language: str | None = None) -> Snapshot:
    """Read a file and put the cursor at a place in it, as if the user had invoked completion there.

    The cursor stands before its column, at the end of the line when none is given. Raises: LocationError and
    UnreadableSourceError.
    """
    match = CURSOR.fullmatch(place)
    if match is None:
        raise LocationError(f"{place!r} is not a place in a file.", "Write it as FILE:LINE or FILE:LINE:COLUMN.")
    path = Path(match["file"])
    lines = _Lines.read(path)
    return Snapshot(
        uri=path.absolute().as_uri(),
        version=0,
        language=language or identifier_of(path),
        text=lines.text,
        offset=lines.offset(int(match["line"]), int(match["column"]) if match["column"] else None),
        trigger=Trigger.INVOKED,
    )


def range_at(place: str) -> FileRange:
    """Read a file and find `LINE`, `LINE:COL`, `LINE-LINE` or `LINE:COL-LINE:COL` in it.

    Whole lines are selected where no columns are given; a single line without one is an empty range at the start of its
    text. Raises: LocationError and UnreadableSourceError.
    """
    match = RANGE.fullmatch(place)
    if match is None:
        advice = "Write FILE:LINE, FILE:LINE-LINE or FILE:LINE:COL-LINE:COL."
        raise LocationError(f"{place!r} is not a range in a file.", advice)
    path = Path(match["file"])
    lines = _Lines.read(path)
    line, column = int(match["line"]), match["column"]
    start = lines.offset(line, int(column)) if column else lines.span(line)[0]
    if match["last"]:
        last = int(match["last"])
        end = lines.offset(last, int(match["end"])) if match["end"] else lines.span(last)[1]
        if end < start or last < line:
            raise LocationError(f"The range {place!r} ends before it begins.", "Give the smaller place first.")
        return FileRange(path, lines.text, start, end)
    if not column:
        start += len(lines.text[start:]) - len(lines.text[start:].lstrip(" \t"))
    return FileRange(path, lines.text, start, start)
