"""The order of the rules, and the shaping of a model's answers by them.

A rule is a function from a draft to a better draft, or to its refusal. A refusal has the name of its rule, so that
`codegen-lsp/explain` can show which one decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codegen_lsp.completion.planning import Plan
from codegen_lsp.completion.shaping.checks import (
    cut_what_does_not_parse,
    keep_the_block_below,
    refuse_comment_only,
    refuse_empty,
    refuse_undefined_names,
)
from codegen_lsp.completion.shaping.closers import (
    close_the_block,
    close_what_the_line_left_open,
    cut_closers_that_stand_below,
    cut_unmatched_closers,
    replace_closers_already_there,
)
from codegen_lsp.completion.shaping.draft import Draft, Ending
from codegen_lsp.completion.shaping.integrity_rules import keep_the_document_parsing, keep_words_apart
from codegen_lsp.completion.shaping.placement import (
    begin_on_this_line,
    drop_doubled_space,
    indent_as_the_block,
    refuse_line_after_complete_line,
    use_the_files_indentation,
)
from codegen_lsp.completion.shaping.repetition import (
    cut_circle,
    cut_repeated_group,
    keep_repeated_line_once,
    refuse_echo_of_line_above,
    refuse_echo_of_next_line,
)
from codegen_lsp.completion.shaping.trim import (
    cut_after_lines,
    cut_at_scope_end,
    cut_broken_characters,
    cut_open_end,
    cut_opener_without_body,
    cut_overlap_below,
    cut_overlap_with_line,
    cut_trailing_space,
    cut_unfinished_line,
    cut_where_unsure,
)
from codegen_lsp.completion.snapshot import Cursor, Refusal, Suggestion
from codegen_lsp.inference.rpc.messages import Candidate, Finish, StopRules
from codegen_lsp.source.brackets import Open, open_at_end
from codegen_lsp.source.lines import with_lf
from codegen_lsp.source.parse_tree import parsed, statement_start

_ENDINGS: dict[Finish, Ending] = {
    "stop": "complete",
    "end": "complete",
    "length": "truncated",
    "unlikely": "unsure",
}
LONGEST_STATEMENT = 50_000
"""Most characters before the cursor that are read to find what is open there."""
Rule = Callable[[Draft], Draft | Refusal]
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
    close_what_the_line_left_open,
    cut_closers_that_stand_below,
    keep_words_apart,
    refuse_empty,
    keep_repeated_line_once,
    cut_repeated_group,
    refuse_echo_of_next_line,
    refuse_echo_of_line_above,
    refuse_comment_only,
    keep_the_block_below,
    cut_what_does_not_parse,
    cut_opener_without_body,
    cut_open_end,
    keep_the_block_below,  # again: what is cut may have hidden lines in an open bracket
    keep_words_apart,  # again: what is cut may end at another word
    keep_the_document_parsing,
    refuse_undefined_names,
)
RULES_OF_REMAINDER: tuple[Rule, ...] = (
    cut_overlap_with_line,
    cut_overlap_below,
    replace_closers_already_there,
    refuse_empty,
)
"""Rules for the rest of a shaped suggestion when the user has typed its beginning."""


def shape_all(candidates: Sequence[Candidate], plan: Plan) -> list[Suggestion] | Refusal:
    """Return the suggestions in the model's answers, each different, or the reason why there is none.

    The first candidate stays first, since it is what is shown unasked; the others follow in the order of their
    likelihood. A suggestion that is the beginning of one before it, apart from white space and the kind of quotes, is
    left out. The refusal is that of the first candidate.
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


def shape_remainder(text: str, cursor: Cursor, opened: Open, stop: StopRules) -> Draft | Refusal:
    """Return the rest of a suggestion whose beginning was typed, adapted to the current text after the cursor."""
    return apply_rules(RULES_OF_REMAINDER, Draft(text, cursor, stop, opened))


def apply_rules(rules: Sequence[Rule], draft: Draft) -> Draft | Refusal:
    """Return the draft after all rules, or the first refusal."""
    shaped: Draft | Refusal = draft
    for rule in rules:
        if isinstance(shaped, Refusal):
            return shaped
        shaped = rule(shaped)
    return shaped


def suggestion_of(draft: Draft, log_probability: float) -> Suggestion:
    """Return the draft as an edit of the document."""
    cursor = draft.cursor
    return Suggestion(cursor.start, cursor.end + draft.replaced, cursor.kept + draft.text, log_probability)


def _draft_of(candidate: Candidate, plan: Plan, opened: Open) -> Draft:
    ending = _ENDINGS[candidate.finish]
    lines = [line.strip() for line in with_lf(candidate.text).split("\n")]
    return Draft(
        text=candidate.text,
        cursor=plan.cursor,
        stop=plan.stop,
        opened=opened,
        ending=ending,
        finished_lines=lines if ending == "complete" else lines[:-1],
        steps=candidate.steps,
        document=plan.document,
        modules=plan.modules,
    )


def _opened_at(plan: Plan) -> Open:
    """Return what is open at the cursor, read from the start of the outermost statement: a window may begin in a
    string."""
    cursor = plan.cursor
    source = parsed(plan.document, cursor.language) if plan.document is not None else None
    if source is None or plan.document is None:
        return open_at_end(plan.prefix, cursor.language)
    start = statement_start(source, cursor.start)
    if cursor.start - start > LONGEST_STATEMENT:
        return open_at_end(plan.prefix, cursor.language)
    return open_at_end(with_lf(plan.document[start : cursor.start]) + cursor.kept, cursor.language)


def _says_no_more(suggestion: Suggestion, other: Suggestion) -> bool:
    """Return true if a suggestion is the beginning of another, apart from white space and the kind of quotes."""
    return _plainly(other.insert).startswith(_plainly(suggestion.insert))


def _plainly(text: str) -> str:
    return "".join(text.split()).replace("'", '"')
