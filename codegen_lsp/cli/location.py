"""A cursor in a file on disk, as `FILE:LINE[:COL]` says it."""

from __future__ import annotations

import re
from pathlib import Path

from codegen_lsp.completion.snapshot import Snapshot, Trigger
from codegen_lsp.errors import CodegenError
from codegen_lsp.source.languages import identifier_of
from codegen_lsp.source.lines import line_starts
from codegen_lsp.workspace.decoding import read_source

PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")


class PlaceError(CodegenError):
    """A cursor position that makes no sense, or in a file that can't be read."""


def snapshot_at(place: str, language: str | None = None) -> Snapshot:
    """Read the file and put the cursor there, as if the user had asked for a completion.

    Lines and columns count from 1; the cursor stands before its column, at the end of the line when none is given.
    Raises: PlaceError; UnreadableSourceError.
    """
    match = PLACE.fullmatch(place)
    if match is None:
        raise PlaceError(f"{place!r} is not a place in a file.", "Write it as FILE:LINE or FILE:LINE:COLUMN.")
    path = Path(match["file"])
    text = read_source(path)
    line = int(match["line"])
    starts = line_starts(text)
    if not 1 <= line <= len(starts):
        raise PlaceError(f"{path} has {len(starts)} lines, not {line}.", f"Give a line from 1 to {len(starts)}.")
    start = starts[line - 1]
    end = starts[line] if line < len(starts) else len(text)
    width = len(text[start:end].rstrip("\r\n"))
    column = int(match["column"]) if match["column"] else width + 1
    if not 1 <= column <= width + 1:
        raise PlaceError(f"Line {line} of {path} has {width} characters.", f"Give a column from 1 to {width + 1}.")
    return Snapshot(
        uri=path.absolute().as_uri(),
        version=0,
        language=language or identifier_of(path),
        text=text,
        offset=start + column - 1,
        trigger=Trigger.INVOKED,
    )
