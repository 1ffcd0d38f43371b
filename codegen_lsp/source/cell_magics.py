"""The parts of a notebook's Python cell that are not Python: IPython's magics and shell commands.

A cell magic (`%%bash`) hands the whole cell to something else; a few of them run its Python. A line that begins with
`!` or `%` is a command. IPython's own: https://ipython.readthedocs.io/en/stable/interactive/magics.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from codegen_lsp.source.brackets import scan
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.lines import line_starts

IPYTHON = frozenset({"capture", "debug", "prun", "python", "python3", "time", "timeit"})
PROFILERS = frozenset({"heat", "lprun", "memit", "mprun", "pyinstrument", "scalene", "snakeviz"})
RUN_PYTHON = IPYTHON | PROFILERS
"""Cell magics whose cell is Python: IPython's own, and those of profilers."""

_PYTHON = LANGUAGES["python"]
_CELL_MAGIC = re.compile(r"\s*%%(\S*)")
_COMMAND = re.compile(r"\s*(?:!|%{1,2}[^\W\d]|%%|\?|[\w.]+\?{1,2}\s*$)")
_ASSIGNED = re.compile(r"(\s*[^\W\d][\w., ]*=\s*)(?:!|%[^\W\d]).*")


def foreign_magic(cell: str) -> str | None:
    """Return the cell magic, such as `%%bash`, that hands a cell to something that is not Python; else None."""
    match = _CELL_MAGIC.match(cell)
    if match is None or match.group(1) in RUN_PYTHON:
        return None
    return f"%%{match.group(1)}"


def in_command(cell: str, offset: int) -> bool:
    """Return true if the cursor is in a line of a Python cell that is a magic or a shell command."""
    at, here = 0, ("", False)
    for line, statement in _lines(cell):
        if at > offset:
            break
        at, here = at + len(line), (line, statement)
    line, statement = here
    return statement and (_COMMAND.match(line) or _ASSIGNED.match(line)) is not None


def as_python(cell: str) -> str:
    """Return the Python of a cell, for code below to continue: commands become statements that do nothing."""
    if foreign_magic(cell) is not None:
        return ""
    return "".join(_without_command(line) if statement else line for line, statement in _lines(cell))


def _without_command(line: str) -> str:
    end = line[len(line.rstrip("\r\n")) :]
    if assigned := _ASSIGNED.match(line):
        return f"{assigned.group(1)}None{end}"
    if not _COMMAND.match(line):
        return line
    margin, _, timed = line.partition("%time ")
    if timed and not margin.strip():
        return margin + timed.lstrip()
    margin = line[: len(line) - len(line.lstrip())]
    return f"{margin}pass{end}" if margin else ""


def _lines(cell: str) -> Iterator[tuple[str, bool]]:
    """Yield each line with its line break, and whether a statement may begin there: nothing is open above."""
    opened: tuple[str, ...] = ()
    continued = False
    starts = line_starts(cell)
    for start, end in zip(starts, [*starts[1:], len(cell)], strict=True):
        line = cell[start:end]
        statement = not opened and not continued
        command = statement and _COMMAND.match(line)
        yield line, statement
        if not command:
            opened = scan(line, _PYTHON, opened).open
        continued = line.rstrip("\r\n").endswith("\\")
