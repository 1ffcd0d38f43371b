"""Rules for the beginning of the text and the indentation of its lines."""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.cursor import empty_block
from codegen_lsp.completion.shaping.draft import Draft
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.brackets import code_of
from codegen_lsp.source.indentation import columns, indent_unit, margin, reindented


def refuse_line_after_complete_line(draft: Draft) -> Draft | Refusal:
    """Refuse an answer that begins on the next line where one line was requested: the line is complete as it is."""
    lines = draft.lines
    if draft.block or lines[0].strip() or len(lines) == 1:
        return draft
    if draft.cursor.trigger is Trigger.INVOKED or not draft.cursor.before.strip():
        return draft
    return Refusal("line_is_complete", "The model takes the line to be complete.")


def begin_on_this_line(draft: Draft) -> Draft | Refusal:
    """On an indented blank line, begin the answer there, not on a line further down."""
    before = draft.cursor.before
    if not before or before.strip() or draft.lines[0].strip() or not draft.text.strip():
        return draft
    first = next(number for number, line in enumerate(draft.lines) if line.strip())
    if first == 0:
        return draft
    head, *rest = draft.lines[first:]
    if head.startswith(before):
        return draft.with_lines([head[len(before) :], *rest])
    if draft.cursor.trigger is Trigger.INVOKED:
        return draft
    return Refusal("block_is_complete", "The model takes the block to be complete.")


def drop_doubled_space(draft: Draft) -> Draft:
    """Drop a space that was typed before the cursor already."""
    if draft.cursor.before.strip() and draft.cursor.before.endswith((" ", "\t")):
        return evolve(draft, text=draft.text.lstrip(" \t"))
    return draft


def indent_as_the_block(draft: Draft) -> Draft:
    """On a blank line, move back an answer that is indented deeper than its block."""
    cursor = draft.cursor
    extra = len(margin(draft.lines[0]))
    if cursor.before.strip() or not extra or not draft.lines[0].strip() or empty_block(cursor) is not None:
        return draft
    if columns(cursor.before + draft.lines[0]) <= columns(cursor.line_above) or not _ends_statement(draft):
        return draft
    first, *rest = draft.lines
    return draft.with_lines([first[extra:], *(_moved_back(line, extra) for line in rest)])


def use_the_files_indentation(draft: Draft) -> Draft:
    """Indent later lines with tabs or spaces, and with the step, of the lines around them."""
    cursor = draft.cursor
    first, *rest = draft.lines
    unit = indent_unit([*cursor.above, cursor.before, *cursor.below])
    if unit is None or not rest:
        return draft
    block = empty_block(cursor)
    base = block.margin if block and not first.strip() else margin(cursor.before + first)
    return draft.with_lines([first, *reindented(rest, unit, base)])


def _ends_statement(draft: Draft) -> bool:
    """Return true if the line above ends a statement, so that the text can't be indented deeper."""
    code = code_of(draft.cursor.line_above, draft.cursor.language)
    if draft.cursor.language.is_python:
        return not code.endswith("\\") and not (draft.opened and draft.opened[-1] in "([{")
    return code.endswith((";", "}"))


def _moved_back(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line
