"""Whether lines put into a Python program leave those below them in the block that they are in.

Whether a program can begin with a suggestion, Python's parser says (`correctness`); this is about what follows. It is
judged by columns alone, and in doubt for the suggestion: a level that is not seen above counts as one that is there.
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
    """Where a statement stands: the columns of the blocks around it and its own, and whether it opens another."""

    columns: tuple[int, ...]
    opens: bool = False

    def then(self, column: int, *, opens: bool = False) -> Nesting | None:
        """After a further statement at a column; None where it has no place."""
        if self.opens and column > self.columns[-1]:
            return Nesting((*self.columns, column), opens)
        if column in self.columns or column < self.columns[0]:
            return Nesting((*(other for other in self.columns if other < column), column), opens)
        return None


def lines_that_fit(lines: Sequence[str], cursor: Cursor, opened: Open) -> int:
    """How many of the lines of a suggestion can be put at the cursor so that the line below keeps its block.

    All of them where that line does not begin a statement, or will not after them, or had no place even before.
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
    while count and not _fits(place, [start for start in starts if start[0] < count], below):
        count = max((number for number, _, _ in starts if number < count), default=0)
    return count


def _statement_below(cursor: Cursor) -> str:
    """Return the nearest line below that has code; comments may stand at any column."""
    lines = (line for line in cursor.below if line.strip() and not is_comment(line, cursor.language))
    return next(lines, "")


def _above(cursor: Cursor) -> Nesting | None:
    """The cursor's place: after its own line, if that is begun, else after the one above."""
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
    """The lines that begin a statement: number, column, and whether the statement opens a block."""
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
    """Whether the line below has a place after statements at these columns."""
    after: Nesting | None = place
    for _, column, opens in starts:
        if _BRANCH.match(below) and column <= columns(below) and not opens:
            return False
        after = after.then(column, opens=opens) if after else None
        if after is None:
            return True  # it has no place itself: that is for the parser to say
    return after is None or after.then(columns(below)) is not None
