"""A cursor in a file on disk, as `FILE:LINE[:COL]` says it."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

from codegen_lsp.completion.snapshot import Snapshot, Trigger
from codegen_lsp.errors import CodegenError

LANGUAGE_OF_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".go": "go",
    ".java": "java",
    ".js": "javascript",
    ".cjs": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascriptreact",
    ".ts": "typescript",
    ".tsx": "typescriptreact",
    ".rs": "rust",
    ".rb": "ruby",
    ".php": "php",
    ".lua": "lua",
    ".sh": "shellscript",
}
"""LSP language identifiers by file name extension."""

PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")


class PlaceError(CodegenError):
    """A cursor position that makes no sense, or in a file that can't be read."""


def snapshot_at(place: str, language: str | None = None) -> Snapshot:
    """Read the file and put the cursor there, as if the user had asked for a completion.

    Lines and columns count from 1; the cursor stands before its column, at the end of the line when none is given.
    Raises PlaceError.
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
        language=language or LANGUAGE_OF_SUFFIX.get(path.suffix.lower(), "plaintext"),
        text=text,
        offset=start + column - 1,
        trigger=Trigger.INVOKED,
    )


def read_source(path: Path) -> str:
    """The text of a source file, its line ends kept. Python's encoding comments are honoured. Raises PlaceError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PlaceError(f"{path} can't be read: {error.strerror or error}.", "Check the path.") from error
    encoding = "utf-8-sig"
    if path.suffix in (".py", ".pyi"):
        try:
            encoding, _ = tokenize.detect_encoding(iter(raw.splitlines(keepends=True)).__next__)
        except SyntaxError as error:
            raise PlaceError(f"{path} has an encoding that can't be read: {error.msg}.", "Save it as UTF-8.") from error
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"{path} is no text in {encoding}: byte {error.start} is wrong."
        raise PlaceError(problem, "Save it as UTF-8.") from error


def line_starts(text: str) -> list[int]:
    """Offset of each line's first character; lines end in LF, CRLF or CR, as in LSP."""
    return [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
