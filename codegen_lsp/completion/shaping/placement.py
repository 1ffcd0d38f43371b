"""Rules for the beginning of the text and the indentation of its lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import evolve

from codegen_lsp.completion.cursor import empty_block
from codegen_lsp.completion.shaping.draft import Draft
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.blocks import continues_statement, ends_statement, head_of, opens_block
from codegen_lsp.source.brackets import in_string_or_comment, scan
from codegen_lsp.source.indentation import columns, indent_unit, margin, reindented

_CONTINUED = (".", "?", ":", "&", "|", "+", "*", "/", "=", "<", ")", "]")
"""Beginnings of lines that continue a statement."""
_UNINDENTED = re.compile(r"\s*(?:namespace|extern)\b")
"""Heads of blocks that are often not indented."""
WIDEST_UNIT = 4
"""Most spaces of a level that blocks are given; deeper steps are more often continued lines than blocks."""


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
    """On a blank line, move an answer that is indented deeper than its block back to it.

    A body that begins is one level deeper than its head, in the file's unit, unless the user typed more.
    """
    cursor = draft.cursor
    first, *rest = draft.lines
    typed = margin(first)
    if cursor.before.strip() or not first.strip() or not typed:
        return draft
    wanted = _margin_of_block(draft)
    if wanted is None or cursor.before + typed == wanted:
        return draft
    if columns(cursor.before + typed) <= columns(wanted):
        wanted = _outer_margin(columns(cursor.before + typed), draft)
    missing = wanted[len(cursor.before) :] if wanted.startswith(cursor.before) else ""
    from_left = _is_relative(typed, rest, draft)
    column = columns(typed if from_left else cursor.before + typed)
    moved = (_moved(line, column, wanted, len(typed) - len(missing)) for line in rest)
    return draft.with_lines([missing + first.lstrip(" \t"), *moved])


def _margin_of_block(draft: Draft) -> str | None:
    """Return the margin of a statement on the cursor's blank line; None if it can't be told."""
    cursor = draft.cursor
    block = empty_block(cursor)
    if block is not None:
        unit = _unit(draft)
        if unit is None and columns(cursor.before) > columns(block.margin):
            return None
        return block.margin + (unit or cursor.language.indent)
    if opens_block(cursor.line_above, cursor.language):
        return margin(cursor.line_below) if cursor.line_below else None
    if draft.opened and draft.opened[-1] != "{":
        return None
    if not ends_statement(cursor.line_above, cursor.language) or draft.text.lstrip().startswith(_CONTINUED):
        return None
    visible = [line for line in cursor.above if line.strip()]
    return margin(head_of(visible[-1], visible[:-1], cursor.language)) if visible else ""


def _outer_margin(column: int, draft: Draft) -> str:
    """Return the deepest margin of a block around the cursor that is not beyond a column."""
    levels = {"", *_margins_around(draft)}
    return max((lead for lead in levels if columns(lead) <= column), key=columns)


def _margins_around(draft: Draft) -> list[str]:
    """Return the margins of the blocks around the cursor's line, innermost first."""
    found: list[str] = []
    for line in reversed([*draft.cursor.above, draft.cursor.before]):
        if line.strip() and (not found or columns(line) < columns(found[-1])):
            found.append(margin(line))
    return found


def use_the_files_indentation(draft: Draft) -> Draft:
    """Indent later lines with tabs or spaces, and with the step, of the lines around them."""
    cursor = draft.cursor
    first, *rest = draft.lines
    unit = _unit(draft)
    if unit is None or not rest:
        return draft
    block = empty_block(cursor)
    base = block.margin if block and not first.strip() else margin(cursor.before + first)
    lines = [first, *reindented(rest, unit, base)]
    return draft.with_lines(lines if len(unit) > WIDEST_UNIT else _with_steps_of(unit, base, lines, draft))


def _unit(draft: Draft) -> str | None:
    """Return one level of indentation as in the file around the cursor."""
    cursor = draft.cursor
    return indent_unit([*cursor.above, cursor.before, *cursor.below])


def _is_relative(typed: str, rest: Sequence[str], draft: Draft) -> bool:
    """Return true if the text's own margin is where the model takes its first line to be, as the next line shows."""
    following = next((line for line in rest if line.strip()), "")
    column, absolute = columns(following), columns(draft.cursor.before + typed)
    if not opens_block(draft.lines[0], draft.cursor.language):
        return columns(typed) <= column < absolute
    return columns(typed) < column <= absolute


def _moved(line: str, column: int, wanted: str, extra: int) -> str:
    """Return a line that the model indented below a line at a column, which is moved to the margin `wanted`."""
    if columns(line) < column or not line.strip():
        return line[extra:] if extra > 0 and not line[:extra].strip() else line
    return wanted + " " * (columns(line) - column) + line.lstrip(" \t")


def _with_steps_of(unit: str, base: str, lines: Sequence[str], draft: Draft) -> list[str]:
    """Return the lines with each block that they open one unit deeper than its head.

    Lines in strings and comments are kept; those that continue a statement move with its first line.
    """
    cursor, language = draft.cursor, draft.cursor.language
    levels = [(columns(base), base)]
    head = cursor.before + lines[0]
    opened = scan(lines[0] + "\n", language, draft.opened).open
    opens = opens_block(head, language) if head.strip() else empty_block(cursor) is not None
    upper = head if head.strip() else cursor.line_above
    ended = not language.is_python and (ends_statement(upper, language) or (not opens and opens_block(upper, language)))
    placed = [lines[0]]
    for line in lines[1:]:
        inside = opened
        opened = scan(line + "\n", language, opened).open
        if in_string_or_comment(inside, language) or not line.strip():
            placed.append(line)
            continue
        column = columns(line)
        within = column > levels[-1][0] or not (language.is_python or continues_statement(line, language))
        if opens and within and not _UNINDENTED.match(placed[-1]):
            levels.append((column, levels[-1][1] + unit))
        while len(levels) > 1 and column < levels[-1][0]:
            levels.pop()
            ended = True
        was, now = levels[-1]
        if column > was and ended and not set(inside) & {"(", "["} and not line.lstrip().startswith(_CONTINUED):
            was, now = levels[-1] = (column, now)  # between two levels: it belongs to the outer one
        if column < was and not set(inside) & {"(", "["}:
            around = {"", *(lead for lead in _margins_around(draft) if columns(lead) <= columns(now))}
            was, now = levels[-1] = (column, min(around, key=lambda lead: (abs(columns(lead) - column), -len(lead))))
        if column == was:
            line = now + line.lstrip(" \t")
        elif column > was and "\t" not in margin(line):
            line = now + " " * (column - was) + line.lstrip(" ")
        placed.append(line)
        opens = opens_block(line, language)
        ended = ends_statement(line, language) and not language.is_python
    return placed
