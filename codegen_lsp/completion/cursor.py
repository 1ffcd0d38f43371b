"""The text around the cursor, read once per request and in one form: line ends as LF, the selected entry applied.

When an entry of the editor's own completion list is selected, everything is computed as though it had been accepted:
that is what the editor shows, and a suggestion must extend it. Only the neighbourhood of the cursor is read, so the
cost does not grow with the document.
"""

from __future__ import annotations

import re

from attrs import frozen

from codegen_lsp.completion.snapshot import Selected, Snapshot, Trigger
from codegen_lsp.source.blocks import head_of, opens_block
from codegen_lsp.source.brackets import PAIRS, code_of, is_rest_of_closers
from codegen_lsp.source.indentation import columns, margin
from codegen_lsp.source.languages import Language, language_of
from codegen_lsp.source.lines import slice_between, with_lf

REACH = 4_000
"""Characters before and after the cursor's line that rules may look at."""


@frozen
class Cursor:
    """Where the cursor stands."""

    language: Language
    trigger: Trigger
    before: str
    """The line up to the cursor, with the selected entry in place."""
    after: str
    """The rest of the line."""
    above: tuple[str, ...]
    """Lines above, nearest last."""
    below: tuple[str, ...]
    """Lines below, nearest first."""
    start: int
    """Offset in the document at which a suggestion's range begins."""
    end: int
    """Offset in the document of the first character that stands after the cursor (and after the selected entry)."""
    kept: str
    """What a suggestion's text begins with: the document from `start` to the cursor, or the selected entry."""

    @property
    def line_above(self) -> str:
        """The nearest line above that is not blank, or an empty string."""
        return next((line for line in reversed(self.above) if line.strip()), "")

    @property
    def line_below(self) -> str:
        """The nearest line below that is not blank, or an empty string."""
        return next((line for line in self.below if line.strip()), "")


def cursor_of(snapshot: Snapshot) -> Cursor:
    """The surroundings of the snapshot's cursor."""
    text = snapshot.text
    line_start, line_end = snapshot.line_start, snapshot.line_end
    selected = usable_selection(snapshot)
    start = selected.start if selected else line_start
    end = selected.end if selected else snapshot.offset
    kept = with_lf(selected.text) if selected else text[line_start : snapshot.offset]
    before = text[line_start:start] + kept
    above = with_lf(slice_between(text, max(0, line_start - REACH), line_start) + before).split("\n")
    below = with_lf(text[line_end : line_end + REACH]).split("\n")
    if line_end + REACH < len(text):
        below.pop()
    return Cursor(
        language=language_of(snapshot.language),
        trigger=snapshot.trigger,
        before=above[-1],
        after=text[end:line_end],
        above=tuple(above[:-1]),
        below=tuple(below[1:]),
        start=start,
        end=end,
        kept=kept,
    )


@frozen
class EmptyBlock:
    """A block of statements, or a literal over several lines, that is still empty where the cursor stands."""

    margin: str
    """Leading white space of the statement that opens it; the body is indented deeper."""
    closer: str
    """The bracket that ends it; empty where the indentation alone does."""


def empty_block(cursor: Cursor) -> EmptyBlock | None:
    """The block without a body which the cursor's line opens, or in which the cursor's blank line is the first."""
    if not is_rest_of_closers(cursor.after):
        return None
    if cursor.before.strip():
        opener, above = cursor.before, cursor.above
    elif cursor.after.strip():
        return None
    else:
        visible = [number for number, line in enumerate(cursor.above) if line.strip()]
        if not visible:
            return None
        opener, above = cursor.above[visible[-1]], cursor.above[: visible[-1]]
    if not opens_block(opener, cursor.language):
        return None
    head = head_of(opener, above, cursor.language)
    if columns(cursor.line_below) > columns(head):
        return None
    return EmptyBlock(margin(head), PAIRS.get(code_of(opener, cursor.language)[-1:], ""))


def follows_docstring(cursor: Cursor) -> bool:
    """Whether the cursor stands on the first line of a Python body of which there is only the docstring yet."""
    above = cursor.line_above
    if not cursor.language.is_python or cursor.before.strip() or not above.rstrip().endswith(('"""', "'''")):
        return False
    return 0 < columns(cursor.before) == columns(above) > columns(cursor.line_below)


def follows_annotation(cursor: Cursor) -> bool:
    """Whether the line above is a decorator or annotation, which announces a definition."""
    above = cursor.above[-1].strip() if cursor.above else ""
    return cursor.language.annotations and re.match(r"@[\w.]+(\(.*\))?$", above) is not None


def usable_selection(snapshot: Snapshot) -> Selected | None:
    """The snapshot's selected entry, if its span holds the cursor and lies on the cursor's line."""
    selected = snapshot.selected
    if selected is None or not selected.start <= snapshot.offset <= selected.end:
        return None
    if selected.start < snapshot.line_start or selected.end > snapshot.line_end:
        return None
    return selected
