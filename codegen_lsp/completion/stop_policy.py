"""Limits on the length of an answer.

Several lines are requested where a block begins (Cody's rule), after a comment, docstring or decorator that announces
code, and on an empty line if the user asks explicitly. Everywhere else it is one line, because that is the line that
small models get right, unless that line opens a block: then the body may follow.
"""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.cursor import EmptyBlock, empty_block, follows_annotation, follows_docstring
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.snapshot import Cursor, Snapshot, Trigger
from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.source.blocks import is_comment
from codegen_lsp.source.indentation import columns

LARGE_DOCUMENT = 400_000
"""Characters (about 8,000 lines) beyond which only single lines are suggested, as in Cody."""


def stop_rules(snapshot: Snapshot, options: Options) -> StopRules:
    """Return the limits on an answer."""
    cursor, is_large = snapshot.cursor, len(snapshot.text) > LARGE_DOCUMENT
    if not wants_block(cursor) or is_large:
        stop = StopRules(max_tokens=options.line_tokens, max_lines=1, strings=_ends_of_line(cursor))
        return stop if is_large else _with_body(stop, cursor, options)
    block = empty_block(cursor)
    strings = ["\n\n\n"]
    if block is None and columns(cursor.before) == 0 and not cursor.before.strip():
        strings += ["\n" + beginning for beginning in cursor.language.top_level]
    return StopRules(
        max_tokens=options.max_tokens,
        max_lines=options.max_lines,
        strings=strings,
        min_indent=_least_indent(cursor, block),
    )


def wants_block(cursor: Cursor) -> bool:
    """Return true if several lines are wanted at the cursor."""
    if empty_block(cursor) is not None:
        return True
    if cursor.before.strip() or cursor.after.strip():
        return False
    if cursor.trigger is Trigger.INVOKED or follows_docstring(cursor) or follows_annotation(cursor):
        return True
    return is_comment(cursor.above[-1] if cursor.above else "", cursor.language)


def _with_body(stop: StopRules, cursor: Cursor, options: Options) -> StopRules:
    """Extend the rules for one line so that a line that opens a block may be followed by its body (as in Cody)."""
    indent = columns(cursor.before)
    if cursor.after.strip() or options.max_lines == 1 or columns(cursor.line_below) > indent:
        return stop
    return evolve(
        stop,
        max_tokens=options.max_tokens if options.threshold else options.line_tokens,
        openers=["{"] if cursor.language.braces else [":"],
        opened_lines=options.max_lines,
        opened_indent=indent if cursor.language.braces else indent + 1,
    )


def _ends_of_line(cursor: Cursor) -> list[str]:
    """Return the strings that end an answer of one line.

    An answer that begins with a line break means that the line is complete; the next line was not requested.
    """
    return ["\n"] if cursor.before.strip() and cursor.trigger is Trigger.AUTOMATIC else []


def _least_indent(cursor: Cursor, block: EmptyBlock | None) -> int:
    typed = 0 if cursor.before.strip() else columns(cursor.before)
    return typed if block is None else max(typed, columns(block.margin) + 1)
