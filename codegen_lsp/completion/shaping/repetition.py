"""Rules against loops and against lines that the document already has."""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.shaping.draft import Draft
from codegen_lsp.completion.similar_lines import are_similar
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.blocks import only_closers
from codegen_lsp.source.indentation import columns

REPEATS = 3
"""Equal lines in a row that count as a loop of the model."""
LOOP_CHARACTERS = 24
"""Shortest stretch of equal units within a line that counts as a loop of the model."""
LOOP_PERIOD = 60
"""Longest such unit, in characters."""
RULER_CHARACTERS = frozenset("-=#*_~+.─━═")
RULER_COLUMNS = 80
"""Column at which a line of such characters ends: people draw them on purpose, but not longer."""
GROUP_LINES = 8
"""Most lines of a group whose repetition counts as a loop of the model."""


def cut_circle(draft: Draft) -> Draft:
    """Cut a line that loops after the first unit: `parse(parse(parse(` becomes `parse(`.

    Text before the cursor counts as a unit, but two units must be the model's own: people write `[0, 0], [0, 0], `.
    """
    before = draft.cursor.before
    for number, line in enumerate(draft.lines):
        typed = before if number == 0 else ""
        end = _first_round(typed + line, len(line))
        if end is not None:
            end = max(end, len(typed))
            kept = (typed + line)[:end][len(typed) :]
            return evolve(draft.with_lines([*draft.lines[:number], kept]), ending="truncated")
    return draft


def keep_repeated_line_once(draft: Draft) -> Draft | Refusal:
    """Keep a line once that is repeated three times; refuse it where it is there twice already."""
    above = draft.cursor.above[1 - REPEATS :]
    in_a_row = [*above, draft.cursor.before + draft.lines[0], *draft.lines[1:]]
    first_new = len(above) + (0 if draft.lines[0].strip() else 1)
    for number in range(max(0, first_new - REPEATS + 1), len(in_a_row) - REPEATS + 1):
        group = in_a_row[number : number + REPEATS]
        if not group[0].strip() or only_closers(group[0]) or any(line != group[0] for line in group):
            continue
        if number < first_new:
            return Refusal("repetition", "The model repeats the same line.")
        return draft.with_lines(draft.lines[: number - len(above) + 1])
    return draft


def cut_repeated_group(draft: Draft) -> Draft | Refusal:
    """Cut where a group of lines comes a second time, one directly after the other.

    Of 300,000 lines written by people, 14 begin such a group, most of them in tables of numbers.
    """
    above = [line for line in draft.cursor.above if line.strip()][-GROUP_LINES:]
    numbered = [(number, line) for number, line in enumerate(draft.lines) if line.strip()]
    if not numbered:
        return draft
    row = [*above, *(draft.cursor.before + line if number == 0 else line for number, line in numbered)]
    for end in range(len(above) + 1, len(row) + 1):
        for size in range(2, min(GROUP_LINES, end - len(above), end // 2) + 1):
            group = row[end - size : end]
            if group != row[end - 2 * size : end - size] or len(set(group)) == 1 or all(map(only_closers, group)):
                continue
            if columns(group[0]) > min(map(columns, group)):
                continue  # it begins within a block: the group that begins with the head comes later
            if end - size == len(above):
                return Refusal("repetition", "The model repeats the lines above.")
            return draft.with_lines(draft.lines[: numbered[end - size - len(above)][0]])
    return draft


def refuse_echo_of_next_line(draft: Draft) -> Draft | Refusal:
    """Refuse a line that would equal the next one."""
    if _echoes(draft, draft.cursor.line_below):
        return Refusal("echo_of_next_line", "The suggestion is the line that stands below already.")
    return draft


def refuse_echo_of_line_above(draft: Draft) -> Draft | Refusal:
    """Refuse a line that would equal the one above. Of 1,500 lines written by people none did."""
    if draft.cursor.trigger is Trigger.AUTOMATIC and _echoes(draft, draft.cursor.line_above):
        return Refusal("echo_of_line_above", "The suggestion is the line that stands above, over again.")
    return draft


def _echoes(draft: Draft, neighbour: str) -> bool:
    """Return true if the line would nearly equal a neighbour, and the user has not typed a difference."""
    before, first = draft.cursor.before, draft.lines[0]
    if draft.replaced or not first.strip() or only_closers(before + first) or len(draft.lines) > 1:
        return False
    return neighbour.startswith(before.rstrip()) and are_similar((before + first).rstrip(), neighbour.rstrip())


def _first_round(line: str, new: int) -> int | None:
    """Return the end of the first of at least three equal units with which the line ends; None if there are none.

    The last `new` characters of the line are the model's, and two of the units must be among them.
    """
    for period in range(1, min(LOOP_PERIOD, new // 2) + 1):
        start = len(line)
        while start > period and line[start - 1] == line[start - 1 - period]:
            start -= 1
        start -= period
        if len(line) - start < max(LOOP_CHARACTERS, 3 * period):
            continue
        unit = line[start : start + period]
        if not unit.strip():
            continue
        if not set(unit) <= RULER_CHARACTERS:
            return start + period
        if len(line) > RULER_COLUMNS:
            return RULER_COLUMNS
    return None
