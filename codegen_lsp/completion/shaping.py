"""From the model's text to what is shown.

Each rule is a function from a draft to a better draft, or to the refusal of it. `RULES` holds them in the order in
which they run; a refusal carries the name of its rule, so `codegen-lsp/explain` can say which one spoke.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import evolve, field, frozen

from codegen_lsp.completion.correctness import first_undefined, longest_sound
from codegen_lsp.completion.cursor import Cursor, empty_block, follows_docstring
from codegen_lsp.completion.nesting import lines_that_fit
from codegen_lsp.completion.planning import Plan
from codegen_lsp.completion.similar_lines import alike
from codegen_lsp.completion.snapshot import Refusal, Suggestion, Trigger
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.inference.rpc.messages import Candidate, Finish, StopRules
from codegen_lsp.source.blocks import continues_statement, only_closers, opens_block
from codegen_lsp.source.brackets import (
    CLOSERS,
    Open,
    closes,
    code_of,
    in_string_or_comment,
    is_rest_of_closers,
    open_at_end,
    scan,
    split_closers,
    without_comments,
)
from codegen_lsp.source.indentation import columns, indent_unit, margin, reindented
from codegen_lsp.source.languages import Language
from codegen_lsp.source.lines import with_lf
from codegen_lsp.source.parse_tree import parsed, statement_start

REPEATS = 3
"""Equal lines in a row that count as a model going round in circles."""
LONGEST_STATEMENT = 50_000
"""Characters before the cursor that are read for what is open there."""
LOOP_CHARACTERS = 24
"""Shortest stretch of equal units within a line that counts as a model going round in circles."""
LOOP_PERIOD = 60
"""Longest such unit, in characters."""


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
    steps: Sequence[tuple[int, float]] = ()
    """Where in the candidate's text each token ends, and its log-probability in nats."""
    document: str | None = None
    """The whole document, where correctness is asked for."""
    modules: Modules = field(factory=dict)
    """The names that modules of the workspace define."""

    @property
    def lines(self) -> list[str]:
        """The lines of the text; the first continues the cursor's line."""
        return self.text.split("\n")

    @property
    def cut_short(self) -> bool:
        """Whether the text ends where nothing ends, because the model was not allowed to go on or is too unsure."""
        return self.finish in ("length", "unlikely")

    @property
    def block(self) -> bool:
        """Whether there may be several lines."""
        return self.stop.max_lines > 1 or self.brings_body

    @property
    def brings_body(self) -> bool:
        """Whether one line was asked for, and it opens a block whose body follows."""
        if self.stop.max_lines > 1 or self.stop.opened_lines <= 1:
            return False
        line, _, body = self.text.partition("\n")
        return bool(body.strip() and line.strip()) and opens_block(self.cursor.before + line, self.cursor.language)

    def with_lines(self, lines: Sequence[str]) -> Draft:
        """The draft with these lines for its text."""
        return evolve(self, text="\n".join(lines))


Rule = Callable[[Draft], Draft | Refusal]


def cut_where_unsure(draft: Draft) -> Draft | Refusal:
    """What the model itself finds unlikely is not shown, but what comes before may be.

    Of all beginnings that end with a word and are likely enough, the one is taken that can be expected to save most
    keys: its probability times its length, less the key that accepts it.
    """
    least = draft.stop.threshold
    if not least or not draft.steps:
        return draft
    text, log_probability = draft.text, 0.0
    best, most = 0, 0.0
    for end, step in draft.steps:
        log_probability += step
        visible = len(text[:end].strip())
        if math.exp(log_probability) < least:
            break
        expected = math.exp(log_probability) * max(visible - 1, visible / 10)
        if expected > most and not _splits_word(text, end):
            best, most = end, expected
    if not most:
        return Refusal("unlikely", "The model is too unsure of what would come here (setting `threshold`).")
    return draft if best >= len(text.rstrip()) else evolve(draft, text=text[:best], finish="unlikely")


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
    most = draft.stop.opened_lines if draft.brings_body else draft.stop.max_lines
    return draft.with_lines(lines[: first + most])


def refuse_line_after_complete_line(draft: Draft) -> Draft | Refusal:
    """Where one line was asked for and the answer begins on the next, the line is complete as it is."""
    lines = draft.lines
    if draft.block or lines[0].strip() or len(lines) == 1:
        return draft
    if draft.cursor.trigger is Trigger.INVOKED or not draft.cursor.before.strip():
        return draft
    return Refusal("line_is_complete", "The model takes the line to be complete.")


def begin_on_this_line(draft: Draft) -> Draft | Refusal:
    """On an indented blank line the answer begins there, not on a line further down."""
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
    """A space typed before the cursor is not doubled."""
    if draft.cursor.before.strip() and draft.cursor.before.endswith((" ", "\t")):
        return evolve(draft, text=draft.text.lstrip(" \t"))
    return draft


def indent_as_the_block(draft: Draft) -> Draft:
    """On a blank line, an answer indented deeper than the block it is in is moved back."""
    cursor = draft.cursor
    extra = len(margin(draft.lines[0]))
    if cursor.before.strip() or not extra or not draft.lines[0].strip() or empty_block(cursor) is not None:
        return draft
    if columns(cursor.before + draft.lines[0]) <= columns(cursor.line_above) or not _ends_statement(draft):
        return draft
    first, *rest = draft.lines
    return draft.with_lines([first[extra:], *(_moved_back(line, extra) for line in rest)])


def use_the_files_indentation(draft: Draft) -> Draft:
    """Later lines are indented with tabs or spaces, and by as many, as the lines around are."""
    cursor = draft.cursor
    first, *rest = draft.lines
    unit = indent_unit([*cursor.above, cursor.before, *cursor.below])
    if unit is None or not rest:
        return draft
    block = empty_block(cursor)
    base = block.margin if block and not first.strip() else margin(cursor.before + first)
    return draft.with_lines([first, *reindented(rest, unit, base)])


def cut_at_scope_end(draft: Draft) -> Draft:
    """A suggestion of several lines ends where the block, the definition or the paragraph it begins ends."""
    if not draft.block:
        return draft
    cursor, lines = draft.cursor, draft.lines
    least = draft.stop.opened_indent if draft.brings_body else draft.stop.min_indent or 0
    outside = next((n for n, line in enumerate(lines) if n and line.strip() and columns(line) < least), len(lines))
    if empty_block(cursor) is None and not follows_docstring(cursor):
        outside = min(outside, _end_of_statement(cursor.before, lines, cursor.language))
    return evolve(draft.with_lines(lines[:outside]), finish="stop") if outside < len(lines) else draft


def close_the_block(draft: Draft) -> Draft:
    """A body that is complete gets the bracket that ends it, unless that stands below already.

    What may follow the bracket on its line (`;`, a name, further arguments) is for the model to say.
    """
    cursor = draft.cursor
    block = empty_block(cursor)
    if block is None or not block.closer or not draft.block or draft.cut_short:
        return draft
    body = draft.text.rstrip()
    if not body or draft.text.lstrip().count("\n") + 1 >= draft.stop.max_lines:
        return draft
    if cursor.before.strip() and "\n" not in body:
        return draft
    below = cursor.line_below
    if below.lstrip().startswith(block.closer) and columns(below) == columns(block.margin):
        return draft
    if scan(body, cursor.language, draft.opened).open != draft.opened or _preprocessed(draft):
        return draft
    return evolve(draft, text=body + "\n" + block.margin + block.closer)


def cut_circle(draft: Draft) -> Draft:
    """A line that runs in a circle ends after the first round: `parse(parse(parse(` is `parse(` and nothing more.

    What stands before the cursor counts as a round, but two must be the model's own: people write `[0, 0], [0, 0], `.
    """
    before = draft.cursor.before
    for number, line in enumerate(draft.lines):
        typed = before if number == 0 else ""
        end = _first_round(typed + line, len(line))
        if end is not None:
            kept = (typed + line)[:end][len(typed) :]
            return evolve(draft.with_lines([*draft.lines[:number], kept]), finish="length")
    return draft


def cut_trailing_space(draft: Draft) -> Draft:
    """No white space at the end of lines nor of the text."""
    return draft.with_lines([line.rstrip() for line in draft.text.rstrip().split("\n")])


def cut_unmatched_closers(draft: Draft) -> Draft:
    """The text ends before a bracket that closes nothing; one on a line of its own may close what is far above."""
    for at in scan(draft.text, draft.cursor.language, draft.opened).unmatched:
        line = (draft.cursor.before + draft.text[:at]).rsplit("\n", 1)[-1]
        if line.strip():
            return evolve(draft, text=draft.text[:at].rstrip())
    return draft


def replace_closers_already_there(draft: Draft) -> Draft:
    """`print(│)` + `x)` shows `x)` and replaces the `)`, as an editor that closes brackets by itself expects.

    As many closers stay as fit what the text leaves open; those before them have been written by the text.
    """
    rest, language = draft.cursor.after, draft.cursor.language
    if not rest.strip() or not is_rest_of_closers(rest):
        return draft
    closers, depth = _closers_that_fit(rest, draft.opened, language)
    left_open = scan(draft.text, language, draft.opened).open[depth:]
    written = next(number for number in range(len(closers) + 1) if _close(closers[number:], left_open))
    replaced = closers[written - 1][1] if written else 0
    remaining = rest[replaced:].strip()
    if written == len(closers) and _ends_with(draft.text, remaining):
        replaced = len(rest)
    return evolve(draft, replaced=replaced)


def cut_closers_that_stand_below(draft: Draft) -> Draft | Refusal:
    """The text ends before a bracket that closes what the next line closes already."""
    below = draft.cursor.line_below
    if not below or not only_closers(below):
        return draft
    rest = draft.cursor.after

    def too_many(text: str, replaced: int) -> int:
        return len(scan(f"{text}{rest[replaced:]}\n{below}", draft.cursor.language, draft.opened).unmatched)

    allowed = too_many("", 0)
    if too_many(draft.text, draft.replaced) <= allowed:
        return draft
    for at in reversed([at for at, character in enumerate(draft.text) if character in CLOSERS]):
        cut = replace_closers_already_there(evolve(draft, text=draft.text[:at].rstrip(), replaced=0))
        if too_many(cut.text, cut.replaced) <= allowed:
            break
    else:
        return draft
    if not cut.text.strip():
        return Refusal("already_there", "What the model would add already stands below.")
    return cut


def cut_overlap_with_line(draft: Draft) -> Draft:
    """In the middle of a line the text ends before what already follows the cursor."""
    rest = draft.cursor.after.strip()
    if not rest or is_rest_of_closers(rest):
        return draft
    first = draft.lines[0]
    at = first.find(rest) if len(rest) > 2 else -1
    if at < 0:
        shortest = min(len(rest), 2)
        sizes = range(min(len(rest), len(first)), shortest - 1, -1)
        overlaps = (size for size in sizes if first.endswith(rest[:size]))
        at = len(first) - next((size for size in overlaps if not _splits_word(first, len(first) - size)), 0)
    return evolve(draft, text=first[:at])


def cut_overlap_below(draft: Draft) -> Draft:
    """The text ends before lines that already stand below the cursor."""
    below = [line.rstrip() for line in draft.cursor.below if line.strip()]
    lines = draft.lines
    for number in range(1, len(lines) if below else 0):
        tail = [line.rstrip() for line in lines[number:] if line.strip()]
        if not tail:
            break
        if tail == below[: len(tail)] or (alike(tail[0], below[0]) and not only_closers(tail[0])):
            return draft.with_lines(lines[:number])
    return draft


def refuse_empty(draft: Draft) -> Draft | Refusal:
    """Nothing visible is left, or only what stands there already."""
    if not draft.text.strip():
        return Refusal("empty", "The model has nothing to add here.")
    if draft.replaced and draft.text.strip() == draft.cursor.after[: draft.replaced].strip():
        return Refusal("already_there", "What the model would add already stands after the cursor.")
    return draft


def keep_repeated_line_once(draft: Draft) -> Draft | Refusal:
    """The same line three times over is kept once; nothing is shown where it has stood twice already."""
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


def refuse_echo_of_next_line(draft: Draft) -> Draft | Refusal:
    """The line as it would be already stands below."""
    if _echoes(draft, draft.cursor.line_below):
        return Refusal("echo_of_next_line", "The suggestion is the line that stands below already.")
    return draft


def refuse_echo_of_line_above(draft: Draft) -> Draft | Refusal:
    """The line as it would be already stands above. Of 1,500 lines that people wrote none was such a line."""
    if draft.cursor.trigger is Trigger.AUTOMATIC and _echoes(draft, draft.cursor.line_above):
        return Refusal("echo_of_line_above", "The suggestion is the line that stands above, over again.")
    return draft


def _echoes(draft: Draft, neighbour: str) -> bool:
    """Whether the line would be another over again, as far as it is not the user who has written it otherwise."""
    before, first = draft.cursor.before, draft.lines[0]
    if draft.replaced or not first.strip() or only_closers(before + first) or len(draft.lines) > 1:
        return False
    return neighbour.startswith(before.rstrip()) and alike((before + first).rstrip(), neighbour.rstrip())


def refuse_comment_only(draft: Draft) -> Draft | Refusal:
    """Comments alone, or with nothing but closers, are not what a user waits for who did not begin one."""
    cursor = draft.cursor
    if cursor.trigger is Trigger.INVOKED or in_string_or_comment(draft.opened, cursor.language):
        return draft
    code = without_comments(draft.text, cursor.language, draft.opened)
    if code.strip() and (code == draft.text or not all(map(only_closers, filter(str.strip, code.split("\n"))))):
        return draft
    return Refusal("comment_only", "The model answered with a comment only.")


def keep_the_block_below(draft: Draft) -> Draft | Refusal:
    """On Python, the lines below stay in the block that they are in: what would end it is not shown."""
    if not draft.cursor.language.is_python or draft.document is None:
        return draft
    lines = draft.lines
    fit = lines_that_fit(lines, draft.cursor, draft.opened)
    if fit == len(lines):
        return draft
    text = "\n".join(lines[:fit]).rstrip()
    if not text.strip():
        return Refusal("ends_block_below", "What the model would add ends the block that the lines below are in.")
    return evolve(draft, text=text, replaced=0)


def cut_what_does_not_parse(draft: Draft) -> Draft | Refusal:
    """What is shown parses together with its surroundings, or is cut back to what does."""
    if draft.document is None:
        return draft
    text = longest_sound(draft.text, draft.document, draft.cursor, draft.replaced, draft.opened, draft.finish)
    if text == draft.text:
        return draft
    if not text.strip():
        return Refusal("does_not_parse", "What the model would add does not parse here.")
    return evolve(draft, text=text, replaced=0)


def refuse_undefined_names(draft: Draft) -> Draft | Refusal:
    """On Python, names that nothing defines: a suggestion that can't run is worse than none."""
    if draft.document is None:
        return draft
    found = first_undefined(
        draft.text,
        draft.document,
        draft.cursor,
        draft.replaced,
        draft.opened,
        draft.modules,
        cut_short=draft.cut_short,
    )
    if found is None:
        return draft
    return Refusal("undefined_name", f"The model would use `{found.name}`, which nothing defines.")


RULES: tuple[Rule, ...] = (
    cut_where_unsure,
    cut_broken_characters,
    cut_unfinished_line,
    cut_after_lines,
    refuse_line_after_complete_line,
    begin_on_this_line,
    drop_doubled_space,
    indent_as_the_block,
    use_the_files_indentation,
    cut_at_scope_end,
    cut_circle,
    cut_overlap_with_line,
    cut_overlap_below,
    cut_unmatched_closers,
    close_the_block,
    cut_trailing_space,
    replace_closers_already_there,
    cut_closers_that_stand_below,
    refuse_empty,
    keep_repeated_line_once,
    refuse_echo_of_next_line,
    refuse_echo_of_line_above,
    refuse_comment_only,
    keep_the_block_below,
    cut_what_does_not_parse,
    refuse_undefined_names,
)

RULES_OF_REMAINDER: tuple[Rule, ...] = (
    cut_overlap_with_line,
    cut_overlap_below,
    replace_closers_already_there,
    refuse_empty,
)
"""For what is left of a suggestion that was shaped already, when the user has typed its beginning."""


def shape_all(candidates: Sequence[Candidate], plan: Plan) -> list[Suggestion] | Refusal:
    """What to show of the model's answers: different suggestions, or why there is none.

    The first of them stays the first, since that is what was shown unasked; those after it come in the order of their
    likelihood. One that says no more than another before it, but for blanks and the kind of quotes, is left out. The
    refusal is that of the first candidate.
    """
    opened = _opened_at(plan)
    refusals: list[Refusal] = []
    shown: list[Suggestion] = []
    for candidate in [*candidates[:1], *sorted(candidates[1:], key=lambda one: -one.log_probability)]:
        draft = apply_rules(RULES, _draft_of(candidate, plan, opened))
        if isinstance(draft, Refusal):
            refusals.append(draft)
            continue
        suggestion = suggestion_of(draft, candidate.log_probability)
        if not any(_says_no_more(suggestion, other) for other in shown):
            shown.append(suggestion)
    if shown:
        return shown[: plan.candidates]
    return refusals[0] if refusals else Refusal("no_answer", "The model gave no answer.")


def _says_no_more(suggestion: Suggestion, other: Suggestion) -> bool:
    """Whether a suggestion is the beginning of another, but for blanks and the kind of quotes."""
    return _plainly(other.insert).startswith(_plainly(suggestion.insert))


def _plainly(text: str) -> str:
    return "".join(text.split()).replace("'", '"')


def _opened_at(plan: Plan) -> Open:
    """What is open at the cursor: read from the statement of the outer level, since a window may begin in a string."""
    cursor = plan.cursor
    source = parsed(plan.document, cursor.language) if plan.document is not None else None
    if source is None or plan.document is None:
        return open_at_end(plan.prefix, cursor.language)
    start = statement_start(source, cursor.start)
    if cursor.start - start > LONGEST_STATEMENT:
        return open_at_end(plan.prefix, cursor.language)
    return open_at_end(with_lf(plan.document[start : cursor.start]) + cursor.kept, cursor.language)


def _draft_of(candidate: Candidate, plan: Plan, opened: Open) -> Draft:
    return Draft(
        text=candidate.text,
        cursor=plan.cursor,
        stop=plan.stop,
        opened=opened,
        finish=candidate.finish,
        steps=candidate.steps,
        document=plan.document,
        modules=plan.modules,
    )


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


def _end_of_statement(before: str, lines: Sequence[str], language: Language) -> int:
    """The number of the line at which the definition or paragraph that the lines begin with has ended."""
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    head = before + lines[0] if first == 0 else lines[first]
    opener = opens_block(head, language)
    for number, line in enumerate(lines[first + 1 :], first + 1):
        if not line.strip() or columns(line) > columns(head) or continues_statement(line, language):
            continue
        if opener or not lines[number - 1].strip():
            return number
    return len(lines)


def _preprocessed(draft: Draft) -> bool:
    """Whether lines of the text or below it are for the C preprocessor, under which braces need not pair."""
    return draft.cursor.language.preprocessor and any(
        line.startswith("#") for line in [*draft.lines, draft.cursor.line_below]
    )


def _closers_that_fit(rest: str, opened: Open, language: Language) -> tuple[list[tuple[str, int]], int]:
    """The closers in `rest` that close something open, each with its end; and how much stays open after the last."""
    stack = list(opened)
    fitting: list[tuple[str, int]] = []
    for symbol, end in split_closers(rest, language):
        opener = next((at for at in range(len(stack) - 1, -1, -1) if closes(stack[at], symbol)), None)
        if opener is not None:
            del stack[opener:]
            fitting.append((symbol, end))
    return fitting, len(stack)


def _close(closers: Sequence[tuple[str, int]], opened: Open) -> bool:
    """Whether the closers one after the other close the innermost of what is open."""
    innermost = opened[::-1]
    return len(closers) <= len(opened) and all(
        closes(opener, symbol) for (symbol, _), opener in zip(closers, innermost, strict=False)
    )


def _ends_with(text: str, punctuation: str) -> bool:
    first, last = text.split("\n", 1)[0], text.rstrip()
    return last.endswith(punctuation) or (punctuation in ":{" and first.rstrip().endswith(punctuation))


def _ends_statement(draft: Draft) -> bool:
    """Whether the line above ends a statement, so that what follows can't be indented deeper."""
    code = code_of(draft.cursor.line_above, draft.cursor.language)
    if draft.cursor.language.is_python:
        return not code.endswith("\\") and not (draft.opened and draft.opened[-1] in "([{")
    return code.endswith((";", "}"))


def _moved_back(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _is_word(text[at - 1]) and _is_word(text[at])


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _first_round(line: str, new: int) -> int | None:
    """Where the first of at least three equal units ends, if the line ends going round in them; else None.

    Of the line the last `new` characters are the model's, and two of the units must be.
    """
    for period in range(1, min(LOOP_PERIOD, new // 2) + 1):
        start = len(line)
        while start > period and line[start - 1] == line[start - 1 - period]:
            start -= 1
        start -= period
        if len(line) - start < max(LOOP_CHARACTERS, 3 * period):
            continue
        if any(_is_word(character) for character in line[start : start + period]):
            return start + period
    return None
