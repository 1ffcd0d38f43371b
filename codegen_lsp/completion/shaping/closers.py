"""Rules for closing brackets and quotes: missing ones, and those that are already there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from attrs import evolve

from codegen_lsp.completion.cursor import empty_block
from codegen_lsp.completion.shaping.draft import Draft
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.blocks import only_closers
from codegen_lsp.source.brackets import CLOSERS, PAIRS, Open, closes, is_rest_of_closers, scan, split_closers
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import Language
from codegen_lsp.source.open_ends import ends_open


def close_the_block(draft: Draft) -> Draft:
    """Add the bracket that ends a complete body, unless it is already below.

    The rest of the bracket's line (`;`, a name, further arguments) is left to the model.
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


def cut_unmatched_closers(draft: Draft) -> Draft | Refusal:
    """Cut before a bracket that closes nothing.

    One on a line of its own may close something far above, unless another bracket is open.
    """
    language = draft.cursor.language
    for at in scan(draft.text, language, draft.opened).unmatched:
        before = draft.text[:at]
        if (draft.cursor.before + before).rsplit("\n", 1)[-1].strip():
            return evolve(draft, text=before.rstrip())
        if scan(before, language, draft.opened).open:
            if not before.strip():
                return Refusal("does_not_parse", "What the model would add does not parse here.")
            return evolve(draft, text=before.rstrip())
    return draft


def replace_closers_already_there(draft: Draft) -> Draft:
    """Replace closers after the cursor that the text contains: `print(│)` + `x)` shows `x)` and replaces the `)`.

    Editors that close brackets automatically expect that. The closers that fit what the text leaves open are kept;
    those before them are in the text.
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


def close_what_the_line_left_open(draft: Draft) -> Draft:
    """Close the brackets of a finished line for which the closers after the cursor don't suffice.

    `join(│)` + `a, join(b` becomes `a, join(b)`; by key, so does a line that nothing follows. A line that ends in an
    opener or a comma goes on below, and one where the model became unsure is for the user to end.
    """
    cursor, text, outer = draft.cursor, draft.text.rstrip(), draft.opened
    if draft.cut_short or draft.replaced or "\n" in text or not is_rest_of_closers(cursor.after):
        return draft
    if not text or text[-1] in ",([{":
        return draft
    if not cursor.after.strip() and (cursor.trigger is Trigger.AUTOMATIC or _goes_on_below(draft)):
        return draft
    language = cursor.language
    opened = scan(text, language, outer).open
    missing = len(scan(text + cursor.after, language, outer).open) > len(scan(cursor.after, language, outer).open)
    own = opened[len(outer) :]
    if not missing or opened[: len(outer)] != outer or not all(symbol in PAIRS for symbol in own):
        return draft
    return evolve(draft, text=text + "".join(PAIRS[symbol] for symbol in reversed(own)))


def _goes_on_below(draft: Draft) -> bool:
    """Return true if the text ends in an operator or keyword that something must follow."""
    return ends_open(draft.cursor.before + draft.text, draft.cursor.language)


def cut_closers_that_stand_below(draft: Draft) -> Draft | Refusal:
    """Cut before a bracket that closes what the next lines close already."""
    lines = (line for line in draft.cursor.below if line.strip())
    below = "\n".join(takewhile(only_closers, lines))
    if not below:
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


def _preprocessed(draft: Draft) -> bool:
    """Return true if lines of the text or below it are for the C preprocessor, under which braces need not pair."""
    return draft.cursor.language.preprocessor and any(
        line.startswith("#") for line in [*draft.lines, draft.cursor.line_below]
    )


def _closers_that_fit(rest: str, opened: Open, language: Language) -> tuple[list[tuple[str, int]], int]:
    """Return the closers in `rest` that close something open, each with its end, and how much is still open after the
    last."""
    stack = list(opened)
    fitting: list[tuple[str, int]] = []
    for symbol, end in split_closers(rest, language):
        opener = next((at for at in range(len(stack) - 1, -1, -1) if closes(stack[at], symbol)), None)
        if opener is not None:
            del stack[opener:]
            fitting.append((symbol, end))
    return fitting, len(stack)


def _close(closers: Sequence[tuple[str, int]], opened: Open) -> bool:
    """Return true if the closers, one after the other, close the innermost open brackets and quotes."""
    innermost = opened[::-1]
    return len(closers) <= len(opened) and all(
        closes(opener, symbol) for (symbol, _), opener in zip(closers, innermost, strict=False)
    )


def _ends_with(text: str, punctuation: str) -> bool:
    first, last = text.split("\n", 1)[0], text.rstrip()
    return last.endswith(punctuation) or (punctuation in ":{" and first.rstrip().endswith(punctuation))
