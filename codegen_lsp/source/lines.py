"""Lines of text as in LSP: they end in LF, CRLF or CR, and in nothing else."""

from __future__ import annotations

import re
from itertools import accumulate

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def with_lf(text: str) -> str:
    """Return the text with LF line ends."""
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")


def start_of_line(text: str, offset: int) -> int:
    """Return the offset of the first character of the line that holds an offset."""
    start = text.rfind("\n", 0, offset) + 1
    return max(start, text.rfind("\r", start, offset) + 1)


def end_of_line(text: str, offset: int) -> int:
    """Return the offset just after the last character of the line that holds an offset, its line break left out."""
    end = text.find("\n", offset)
    end = len(text) if end < 0 else end
    carriage_return = text.find("\r", offset, end)
    return end if carriage_return < 0 else carriage_return


def line_starts(text: str) -> list[int]:
    """Return the offset of each line's first character; the last line may be empty."""
    if text.count("\r") == text.count("\r\n"):
        return [0, *accumulate(len(line) + 1 for line in text.split("\n"))][:-1]
    return [0, *(found.end() for found in _LINE_BREAK.finditer(text))]


def slice_between(text: str, start: int, end: int) -> str:
    """Return `text[start:end]`, without the LF at its beginning if `start` lies between CR and LF."""
    if 0 < start < end and text[start] == "\n" and text[start - 1] == "\r":
        start += 1
    return text[start:end]
