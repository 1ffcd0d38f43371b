"""Rules that shorten the text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from attrs import evolve

from codegen_lsp.completion.cursor import empty_block, follows_docstring
from codegen_lsp.completion.shaping.draft import Draft, splits_word
from codegen_lsp.completion.similar_lines import are_similar
from codegen_lsp.completion.snapshot import Refusal
from codegen_lsp.source.blocks import continues_statement, only_closers, opens_block
from codegen_lsp.source.brackets import CLOSERS, is_rest_of_closers, scan
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import Language
from codegen_lsp.source.lines import with_lf

WRONG_KEYS = 4.0
"""Cost of a wrong suggestion, in keys. Fitted with the threshold on held-out packages (`docs/lab.md`)."""
_LAST_TOKEN = re.compile(r"(?:\w+|\W)\Z")


def cut_where_unsure(draft: Draft) -> Draft | Refusal:
    """Cut where the model itself finds its text unlikely.

    Of all beginnings that are likely enough, and end with a word, but not with a keyword or operator that something
    must follow, take the one that is expected to save most: its probability times its length less the key that accepts
    it, and the probability that it is wrong times `WRONG_KEYS`. None is shown that costs more than it saves.
    """
    least = draft.stop.threshold
    if not least or not draft.steps:
        return draft
    text, log_probability = draft.text, 0.0
    best, most = 0, 0.0
    for end, step in draft.steps:
        log_probability += step
        visible = len(text[:end].strip())
        probability = math.exp(log_probability)
        if probability < least:
            break
        expected = probability * max(visible - 1, visible / 10) - (1 - probability) * WRONG_KEYS
        if expected > most and not splits_word(text, end) and not evolve(draft, text=text[:end]).ends_open:
            best, most = end, expected
    if not most:
        return Refusal("unlikely", "The model is too unsure of what would come here (setting `threshold`).")
    return draft if best >= len(text.rstrip()) else evolve(draft, text=text[:best], ending="unsure")


def cut_broken_characters(draft: Draft) -> Draft:
    """Cut before half a character or a control character."""
    text = with_lf(draft.text)
    for at, character in enumerate(text):
        if character == "\ufffd" or (character < " " and character not in "\t\n\f") or character == "\x7f":
            return evolve(draft, text=text[:at], ending="truncated")
    return evolve(draft, text=text)


def cut_unfinished_line(draft: Draft) -> Draft:
    """Drop the last line of an answer that ran into the token limit, if there is another line."""
    if draft.ending != "truncated" or not draft.block:
        return draft
    lines = draft.lines
    return draft.with_lines(lines[:-1]) if any(line.strip() for line in lines[:-1]) else draft


def cut_after_lines(draft: Draft) -> Draft:
    """Cut after the requested number of lines; line breaks before the first visible character don't count."""
    lines = draft.lines
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    most = draft.stop.opened_lines if draft.brings_body else draft.stop.max_lines
    return draft.with_lines(lines[: first + most])


def cut_at_scope_end(draft: Draft) -> Draft:
    """End a suggestion of several lines with the block, definition or paragraph that it begins."""
    if not draft.block:
        return draft
    cursor, lines = draft.cursor, draft.lines
    least = draft.stop.opened_indent if draft.brings_body else draft.stop.min_indent or 0
    outside = next((n for n, line in enumerate(lines) if n and line.strip() and columns(line) < least), len(lines))
    if empty_block(cursor) is None and not follows_docstring(cursor):
        outside = min(outside, _end_of_statement(cursor.before, lines, cursor.language))
    return evolve(draft.with_lines(lines[:outside]), ending="complete") if outside < len(lines) else draft


def cut_overlap_with_line(draft: Draft) -> Draft:
    """In the middle of a line, cut before text that already follows the cursor."""
    rest = draft.cursor.after.strip()
    if not rest or is_rest_of_closers(rest):
        return draft
    first = draft.lines[0]
    at = first.find(rest) if len(rest) > 2 else -1
    if at < 0:
        shortest = min(len(rest), 2)
        sizes = range(min(len(rest), len(first)), shortest - 1, -1)
        overlaps = (size for size in sizes if first.endswith(rest[:size]))
        at = len(first) - next((size for size in overlaps if not splits_word(first, len(first) - size)), 0)
    return evolve(draft, text=first[:at])


def cut_overlap_below(draft: Draft) -> Draft:
    """Cut before lines that are already below the cursor."""
    below = [line.rstrip() for line in draft.cursor.below if line.strip()]
    lines = draft.lines
    for number in range(1, len(lines) if below else 0):
        tail = [line.rstrip() for line in lines[number:] if line.strip()]
        if not tail:
            break
        if tail == below[: len(tail)] or (are_similar(tail[0], below[0]) and not only_closers(tail[0])):
            return draft.with_lines(lines[:number])
    return draft


def cut_open_end(draft: Draft) -> Draft | Refusal:
    """Cut back keywords and operators at the end that something must follow, unless the model's own line ends so."""
    while draft.text and draft.ends_open:
        shorter = _LAST_TOKEN.sub("", draft.text).rstrip()
        draft = evolve(draft, text=shorter, replaced=0, ending="unsure")
        if not shorter.strip():
            return Refusal("unlikely", "The model is sure of a keyword or operator only, not of what follows it.")
    return draft


def cut_opener_without_body(draft: Draft) -> Draft:
    """Cut an opener of a block at the end of several lines whose body the text lacks."""
    cursor, lines = draft.cursor, draft.lines
    while len(visible := [number for number, line in enumerate(lines) if line.strip()]) > 1:
        last = lines[visible[-1]]
        has_body = not cursor.after.strip() and columns(cursor.line_below) > columns(last)
        if has_body or not opens_block(last, cursor.language):
            break
        lines = lines[: visible[-1]]
    return draft if lines == draft.lines else evolve(draft, text="\n".join(lines).rstrip(), replaced=0)


def cut_trailing_space(draft: Draft) -> Draft:
    """Remove white space at the end of lines and of the text."""
    return draft.with_lines([line.rstrip() for line in draft.text.rstrip().split("\n")])


def _end_of_statement(before: str, lines: Sequence[str], language: Language) -> int:
    """Return the number of the line at which the definition or paragraph that the lines begin with has ended."""
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    head = before + lines[0] if first == 0 else lines[first]
    opener = opens_block(head, language)
    for number, line in enumerate(lines[first + 1 :], first + 1):
        if not line.strip() or columns(line) > columns(head):
            continue
        closes = line.lstrip()[:1] in CLOSERS
        if opener and closes and not scan("\n".join([head, *lines[first + 1 : number]]), language).open:
            return number  # it would close what is outside of the statement
        if continues_statement(line, language):
            continue
        if opener or not lines[number - 1].strip():
            return number
    return len(lines)
