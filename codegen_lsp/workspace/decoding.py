"""Source files read from disk, in the encoding that they declare."""

from __future__ import annotations

import tokenize
from pathlib import Path

from codegen_lsp.errors import CodegenError


class UnreadableSourceError(CodegenError):
    """A source file that can't be read or decoded."""


def read_source(path: Path) -> str:
    """Return the text of a source file, line ends as they are. Python's encoding declarations are honoured.

    Raises: UnreadableSourceError when the file can't be read or is not text in its encoding.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableSourceError(f"{path} can't be read: {error.strerror or error}.", "Check the path.") from error
    return decode_source(raw, path)


def decode_source(raw: bytes, path: Path) -> str:
    """Return the text of a source file with these bytes, line ends as they are.

    Raises: UnreadableSourceError when it is not text in its encoding.
    """
    encoding = "utf-8-sig"
    if path.suffix in (".py", ".pyi"):
        try:
            encoding, _ = tokenize.detect_encoding(iter(raw.splitlines(keepends=True)).__next__)
        except SyntaxError as error:
            raise UnreadableSourceError(
                f"{path} has an encoding that can't be read: {error.msg}.", "Save it as UTF-8."
            ) from error
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"{path} is not text in {encoding}: byte {error.start} is wrong."
        raise UnreadableSourceError(problem, "Save it as UTF-8.") from error
