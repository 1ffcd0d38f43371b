"""Properties of the cursor's place that decide how much is suggested there."""

from __future__ import annotations

import re

from attrs import frozen

from codegen_lsp.completion.snapshot import Cursor
from codegen_lsp.source.blocks import head_of, opens_block
from codegen_lsp.source.brackets import PAIRS, code_of, is_rest_of_closers
from codegen_lsp.source.indentation import columns, margin


@frozen
class EmptyBlock:
    """A block of statements, or a literal over several lines, that is still empty at the cursor."""

    margin: str
    """Leading white space of the statement that opens it; the body is indented deeper."""
    closer: str
    """The bracket that ends it; empty where the end of the indentation does."""


def empty_block(cursor: Cursor) -> EmptyBlock | None:
    """Return the block without a body that the cursor's line opens, or that is opened above the cursor's blank line."""
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
    """Return true on the first line of a Python body that has only a docstring so far."""
    above = cursor.line_above
    if not cursor.language.is_python or cursor.before.strip() or not above.rstrip().endswith(('"""', "'''")):
        return False
    return 0 < columns(cursor.before) == columns(above) > columns(cursor.line_below)


def follows_annotation(cursor: Cursor) -> bool:
    """Return true below a decorator or annotation, which announces a definition."""
    above = cursor.above[-1].strip() if cursor.above else ""
    return cursor.language.annotations and re.match(r"@[\w.]+(\(.*\))?$", above) is not None
