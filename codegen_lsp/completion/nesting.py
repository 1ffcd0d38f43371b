"""The check that lines inserted into a Python program leave the lines below in their block.

`correctness` checks that a program can begin with a suggestion; this module checks what follows it. It compares columns
only, and in doubt it accepts: a level of indentation that is not seen above counts as open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.completion.snapshot import Cursor
from codegen_lsp.source.blocks import head_of, is_comment, only_closers, opens_block
from codegen_lsp.source.brackets import Open, in_string_or_comment, scan
from codegen_lsp.source.indentation import columns

_BRANCH = re.compile(r"\s*(?:elif|else|except|finally)\b")


@frozen
class Nesting:
    """The place of a statement: the columns of the blocks around it and its own, and whether it opens another block."""

    columns: tuple[int, ...]
    opens: bool = False

    def then(self, column: int, *, opens: bool = False) -> Nesting | None:
        """Return the nesting after a further statement at a column; None where the statement does not fit."""
        if self.opens and column > self.columns[-1]:
            return Nesting((*self.columns, column), opens)
        if column in self.columns or column < self.columns[0]:
            return Nesting((*(other for other in self.columns if other < column), column), opens)
        return None


def lines_that_fit(lines: Sequence[str], cursor: Cursor, opened: Open) -> int:
    """Return the number of lines of a suggestion that can be inserted so that the line below keeps its block.

    That is all of them if the line below does not begin a statement, will not after them, or did not fit even before.
    """
    below = _statement_below(cursor)
    if not below or only_closers(below) or scan(cursor.after + "\n", cursor.language, opened).open:
        return len(lines)
    place = _above(cursor)
    if place is None or place.then(columns(below)) is None:
        return len(lines)
    if scan("\n".join(lines) + cursor.after + "\n", cursor.language, opened).open:
        return len(lines)
    starts = _starts(lines, cursor, opened)
    count = len(lines)
    if takes_in(lines, cursor, below):
        return count
    while count and not _fits(place, [start for start in starts if start[0] < count], below):
        count = max((number for number, _, _ in starts if number < count), default=0)
    return count


def takes_in(lines: Sequence[str], cursor: Cursor, below: str) -> bool:
    """Return true for a head on the cursor's blank line, where the line below is indented deeper than the cursor.

    The user has put the cursor outside of the block below: nothing but its head fits there.
    """
    if len(lines) != 1 or cursor.before.strip() or not cursor.language.is_python:
        return False
    head = cursor.before + lines[0]
    return columns(head) < columns(below) and opens_block(head, cursor.language)


def _statement_below(cursor: Cursor) -> str:
    """Return the nearest line below that has code; comments may stand at any column."""
    lines = (line for line in cursor.below if line.strip() and not is_comment(line, cursor.language))
    return next(lines, "")


def _above(cursor: Cursor) -> Nesting | None:
    """Return the nesting of the cursor's line if it has text, else of the nearest statement above; None without any."""
    lines = [line for line in (*cursor.above, cursor.before) if line.strip() and not is_comment(line, cursor.language)]
    if not lines:
        return None
    head = head_of(lines[-1], lines[:-1], cursor.language)
    levels = [columns(head)]
    for line in reversed(lines[:-1]):
        if columns(line) < levels[-1]:
            levels.append(columns(line))
    return Nesting(tuple(reversed(levels)), opens_block(lines[-1], cursor.language))


def _starts(lines: Sequence[str], cursor: Cursor, opened: Open) -> list[tuple[int, int, bool]]:
    """Return the lines that begin a statement: number, column, and whether the statement opens a block."""
    starts: list[tuple[int, int, bool]] = []
    for number, line in enumerate(lines):
        whole = cursor.before + line if number == 0 else line
        if whole.strip() and not opened and not (number == 0 and cursor.before.strip()):
            starts.append((number, columns(whole), False))
        opened = scan(line + "\n", cursor.language, opened).open
        if starts and not opened and opens_block(whole, cursor.language):
            starts[-1] = (*starts[-1][:2], True)
    return [] if in_string_or_comment(opened, cursor.language) else starts


def _fits(place: Nesting, starts: Sequence[tuple[int, int, bool]], below: str) -> bool:
    """Return true if the line below stays in its block after statements at these columns."""
    after: Nesting | None = place
    opened_by_place = place.opens and columns(below) > place.columns[-1]
    for _, column, opens in starts:
        if _BRANCH.match(below) and column <= columns(below) and not opens:
            return False
        if column < columns(below) and not (opened_by_place and column > place.columns[-1]):
            return False  # the block of the line below ends before it
        after = after.then(column, opens=opens) if after else None
        if after is None:
            return True  # it has no place itself: that is for the parser to say
    return after is None or after.then(columns(below)) is not None
