"""From the model's text to what is shown.

Each rule is a function from a draft to a better draft, or to the refusal of it. `RULES` holds them in the order in
which they run; a refusal carries the name of its rule, so `codegen-lsp/explain` can say which one spoke.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from codegen_lsp.completion.blocks import closer_of, continues_block, is_comment, only_closers, opens_block
from codegen_lsp.completion.brackets import (
    Open,
    in_string_or_comment,
    is_rest_of_closers,
    open_at_end,
    scan,
    split_closers,
)
from codegen_lsp.completion.cursor import Cursor, with_lf
from codegen_lsp.completion.indentation import columns, indent_unit, margin, step_of, written_with
from codegen_lsp.completion.planning import Plan
from codegen_lsp.completion.policy import innermost_opener
from codegen_lsp.completion.snapshot import Refusal, Suggestion, Trigger
from codegen_lsp.inference.messages import Candidate, Finish, StopRules

REPEATS = 3
"""Equal lines in a row that count as a model going round in circles."""
LOOP_CHARACTERS = 48
"""Length of a loop within a line that counts as one."""
LOOP_PERIOD = 24
"""Longest unit of such a loop, in characters."""


@frozen
class Draft:
    """A candidate on its way to the screen."""

    text: str
    """To stand after the cursor."""
    cursor: Cursor
    stop: StopRules
    opened: Open
    """What is open at the cursor."""
    finish: Finish = "stop"
    replaced: int = 0
    """Characters after the cursor that the text replaces."""

    @property
    def lines(self) -> list[str]:
        """The lines of the text; the first continues the cursor's line."""
        return self.text.split("\n")

    @property
    def block(self) -> bool:
        """Whether several lines were asked for."""
        return self.stop.max_lines > 1

    def with_lines(self, lines: Sequence[str]) -> Draft:
        """The draft with these lines for its text."""
        return evolve(self, text="\n".join(lines))


Rule = Callable[[Draft], Draft | Refusal]


def cut_broken_characters(draft: Draft) -> Draft:
    """Text ends before what is no text: half a character, or a control character."""
    text = with_lf(draft.text)
    for at, character in enumerate(text):
        if character == "\ufffd" or (character < " " and character not in "\t\n\f") or character == "\x7f":
            return evolve(draft, text=text[:at], finish="length")
    return evolve(draft, text=text)


def cut_unfinished_line(draft: Draft) -> Draft:
    """An answer that ran into the token limit ends with its last whole line, if it has one."""
    if draft.finish != "length" or not draft.block:
        return draft
    lines = draft.lines
    return draft.with_lines(lines[:-1]) if any(line.strip() for line in lines[:-1]) else draft


def cut_after_lines(draft: Draft) -> Draft:
    """No more lines than asked for; line breaks before the first visible character don't count."""
    lines = draft.lines
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return draft.with_lines(lines[: first + draft.stop.max_lines])


def refuse_line_after_complete_line(draft: Draft) -> Draft | Refusal:
    """Where one line was asked for and the answer begins on the next, the line is complete as it is."""
    lines = draft.lines
    if draft.block or lines[0].strip() or len(lines) == 1:
        return draft
    if draft.cursor.trigger is Trigger.INVOKED or not draft.cursor.before.strip():
        return draft
    return Refusal("line_is_complete", "The model takes the line to be complete.")


def drop_doubled_space(draft: Draft) -> Draft:
    """A space typed before the cursor is not doubled."""
    if draft.cursor.before.strip() and draft.cursor.before.endswith((" ", "\t")):
        return evolve(draft, text=draft.text.lstrip(" \t"))
    return draft


def indent_as_the_line(draft: Draft) -> Draft:
    """On a line of white space, an answer indented deeper than any block there may be is moved back."""
    cursor = draft.cursor
    if cursor.before.strip() or not draft.text[:1].isspace() or draft.text.startswith("\n"):
        return draft
    extra = len(margin(draft.lines[0]))
    at, above = columns(cursor.before), cursor.line_above
    if innermost_opener(cursor) is not None or at + extra <= columns(above):
        return draft
    first, *rest = draft.lines
    return draft.with_lines([first[extra:], *(_moved_back(line, extra) for line in rest)])


def use_the_files_indentation(draft: Draft) -> Draft:
    """Later lines are indented with tabs or spaces, as the lines around are."""
    first, *rest = draft.lines
    around = [*draft.cursor.above, draft.cursor.before, *draft.cursor.below]
    unit = indent_unit(around, draft.cursor.language.indent)
    step = step_of(rest)
    return draft.with_lines([first, *(written_with(unit, line, step=step) for line in rest)])


def cut_at_scope_end(draft: Draft) -> Draft:
    """A suggestion of several lines ends where the block or the statement it is about ends."""
    if not draft.block:
        return draft
    lines = draft.lines
    if draft.stop.min_indent is not None:
        outside = [n for n, line in enumerate(lines) if n and line.strip() and columns(line) < draft.stop.min_indent]
        if outside:
            return evolve(draft.with_lines(lines[: outside[0]]), finish="stop")
    head = draft.cursor.before + lines[0]
    if draft.cursor.before.strip() or not opens_block(head, draft.cursor.language):
        return draft
    for number, line in enumerate(lines[1:], 1):
        if line.strip() and columns(line) <= columns(head) and not continues_block(line):
            return evolve(draft.with_lines(lines[:number]), finish="stop")
    return draft


def close_the_block(draft: Draft) -> Draft:
    """A body that is complete gets the bracket that ends it, unless that stands below already."""
    opener = innermost_opener(draft.cursor)
    if opener is None or not draft.block or draft.finish == "length" or not draft.text.strip():
        return draft
    closer = closer_of(opener, draft.cursor.language)
    visible = [line for line in draft.lines if line.strip()]
    if not closer or len(visible) >= draft.stop.max_lines or "\n" not in draft.cursor.before + draft.text:
        return draft
    below = draft.cursor.line_below
    if below.lstrip().startswith(closer) and columns(below) == columns(opener):
        return draft
    if scan(draft.text, draft.cursor.language, draft.opened).open != draft.opened:
        return draft
    return evolve(draft, text=draft.text.rstrip() + "\n" + margin(opener) + closer)


def cut_trailing_space(draft: Draft) -> Draft:
    """No white space at the end of lines nor of the text."""
    lines = [line.rstrip() for line in draft.text.rstrip().split("\n")]
    return draft.with_lines(lines)


def cut_unmatched_closers(draft: Draft) -> Draft:
    """The text ends before a bracket that closes nothing."""
    for closer in scan(draft.text, draft.cursor.language, draft.opened).closers:
        line = draft.text[draft.text.rfind("\n", 0, closer.at) + 1 : closer.at]
        alone = not line.strip() and ("\n" in draft.text[: closer.at] or not draft.cursor.before.strip())
        if not closer.opened and not alone:
            return evolve(draft, text=draft.text[: closer.at].rstrip())
    return draft


def replace_closers_already_there(draft: Draft) -> Draft:
    """`print(│)` + `x)` shows `x)` and replaces the `)`, as an editor that closes brackets by itself expects."""
    rest, language = draft.cursor.after, draft.cursor.language
    if not rest.strip() or not is_rest_of_closers(rest):
        return draft
    waiting = split_closers(rest, language)
    replaced, matched_end = 0, 0
    for closer in scan(draft.text, language, draft.opened).closers:
        if waiting and closer.text == waiting[0][0]:
            replaced, matched_end = waiting.pop(0)[1], closer.end
    punctuation = rest[replaced:].strip()
    if not waiting and punctuation and draft.text[matched_end:].split("\n", 1)[0].rstrip().endswith(punctuation):
        replaced = len(rest)
    if not rest[replaced:].strip():
        replaced = len(rest)
    return evolve(draft, replaced=replaced)


def cut_overlap_with_line(draft: Draft) -> Draft:
    """In the middle of a line the text ends before what already follows the cursor."""
    rest = draft.cursor.after.strip()
    if not rest or is_rest_of_closers(rest):
        return draft
    first = draft.lines[0]
    at = first.find(rest) if len(rest) > 2 else -1
    if at < 0:
        overlaps = (size for size in range(min(len(rest), len(first)), 1, -1) if first.endswith(rest[:size]))
        size = next((size for size in overlaps if not _splits_word(first, len(first) - size)), 0)
        at = len(first) - size
    return evolve(draft, text=first[:at])


def cut_overlap_below(draft: Draft) -> Draft:
    """The text ends before lines that already stand below the cursor."""
    below = [line.rstrip() for line in draft.cursor.below if line.strip()]
    lines = draft.lines
    if not below:
        return draft
    for number in range(1, len(lines)):
        tail = [line.rstrip() for line in lines[number:] if line.strip()]
        same = tail == below[: len(tail)] or (tail[:1] == below[:1] and not only_closers(tail[0]))
        if tail and same:
            return draft.with_lines(lines[:number])
    return draft


def refuse_empty(draft: Draft) -> Draft | Refusal:
    """Nothing visible is left, or only what stands there already."""
    if not draft.text.strip():
        return Refusal("empty", "The model has nothing to add here.")
    if draft.replaced and draft.text.strip() == draft.cursor.after[: draft.replaced].strip():
        return Refusal("already_there", "What the model would add already stands after the cursor.")
    return draft


def refuse_repetition(draft: Draft) -> Draft | Refusal:
    """The same line three times over, or a line that runs in a circle."""
    lines = [draft.cursor.before + draft.lines[0], *draft.lines[1:]]
    in_a_row = [*draft.cursor.above[1 - REPEATS :], *lines]
    for number in range(len(in_a_row) - REPEATS + 1):
        group = in_a_row[number : number + REPEATS]
        if group[0].strip() and not only_closers(group[0]) and all(line == group[0] for line in group):
            return Refusal("repetition", "The model repeats the same line.")
    if any(_runs_in_a_circle(line) for line in draft.lines):
        return Refusal("repetition", "The model repeats the same words.")
    return draft


def refuse_echo_of_next_line(draft: Draft) -> Draft | Refusal:
    """The line as it would be already stands below."""
    cursor = draft.cursor
    line = (cursor.before + draft.lines[0]).rstrip()
    if len(draft.lines) > 1 or draft.replaced or not line.strip() or line.lstrip() != cursor.line_below.strip():
        return draft
    if only_closers(line) and line != cursor.line_below.rstrip():
        return draft
    return Refusal("echo_of_next_line", "The suggestion is the line that stands below already.")


def refuse_comment_only(draft: Draft) -> Draft | Refusal:
    """Comments alone are not what a user waits for who did not begin one."""
    language = draft.cursor.language
    if draft.cursor.trigger is Trigger.INVOKED or in_string_or_comment(draft.opened, language):
        return draft
    first, *rest = draft.lines
    added = [line for line in ([draft.cursor.before + first, *rest] if first.strip() else rest) if line.strip()]
    if not all(is_comment(line, language) for line in added) or is_comment(draft.cursor.before, language):
        return draft
    return Refusal("comment_only", "The model answered with a comment only.")


RULES: tuple[Rule, ...] = (
    cut_broken_characters,
    cut_unfinished_line,
    cut_after_lines,
    refuse_line_after_complete_line,
    drop_doubled_space,
    indent_as_the_line,
    use_the_files_indentation,
    cut_at_scope_end,
    cut_overlap_with_line,
    cut_overlap_below,
    cut_unmatched_closers,
    close_the_block,
    cut_trailing_space,
    replace_closers_already_there,
    refuse_empty,
    refuse_repetition,
    refuse_echo_of_next_line,
    refuse_comment_only,
)

RULES_OF_REMAINDER: tuple[Rule, ...] = (
    cut_overlap_with_line,
    cut_overlap_below,
    replace_closers_already_there,
    refuse_empty,
)
"""For what is left of a suggestion that was shaped already, when the user has typed its beginning."""


def shape_all(candidates: Sequence[Candidate], plan: Plan) -> list[Suggestion] | Refusal:
    """What to show of the model's answers: different suggestions, likeliest first, or why there is none.

    The refusal is that of the first candidate, the one the model itself puts first.
    """
    opened = open_at_end(plan.prefix, plan.cursor.language)
    refusals: list[Refusal] = []
    shown: dict[tuple[int, str], Suggestion] = {}
    for candidate in sorted(candidates, key=lambda candidate: -candidate.log_probability):
        draft = apply_rules(RULES, Draft(candidate.text, plan.cursor, plan.stop, opened, candidate.finish))
        if isinstance(draft, Refusal):
            refusals.append(draft)
            continue
        suggestion = suggestion_of(draft, candidate.log_probability)
        shown.setdefault((suggestion.end, suggestion.insert), suggestion)
    if shown:
        return list(shown.values())[: plan.candidates]
    return refusals[0] if refusals else Refusal("no_answer", "The model gave no answer.")


def shape_remainder(text: str, cursor: Cursor, opened: Open, stop: StopRules) -> Draft | Refusal:
    """What is left of a suggestion after its beginning was typed, fitted to what stands after the cursor now."""
    return apply_rules(RULES_OF_REMAINDER, Draft(text, cursor, stop, opened))


def apply_rules(rules: Sequence[Rule], draft: Draft) -> Draft | Refusal:
    """The draft after all rules, or the first refusal."""
    shaped: Draft | Refusal = draft
    for rule in rules:
        if isinstance(shaped, Refusal):
            return shaped
        shaped = rule(shaped)
    return shaped


def suggestion_of(draft: Draft, log_probability: float) -> Suggestion:
    """The draft as an edit of the document."""
    cursor = draft.cursor
    return Suggestion(cursor.start, cursor.end + draft.replaced, cursor.kept + draft.text, log_probability)


def _moved_back(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _is_word(text[at - 1]) and _is_word(text[at])


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _runs_in_a_circle(line: str) -> bool:
    tail = line[-LOOP_CHARACTERS:]
    if len(tail) < LOOP_CHARACTERS:
        return False
    return any(
        tail[period:] == tail[:-period] and any(_is_word(character) for character in tail[:period])
        for period in range(1, LOOP_PERIOD // 2 + 1)
    )
