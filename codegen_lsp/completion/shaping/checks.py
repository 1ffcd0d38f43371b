"""Rules that refuse: nothing to add, only a comment, or code that is wrong in its place."""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.correctness import first_undefined, longest_sound
from codegen_lsp.completion.nesting import lines_that_fit
from codegen_lsp.completion.shaping.draft import Draft
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.blocks import only_closers
from codegen_lsp.source.brackets import in_string_or_comment, without_comments


def refuse_empty(draft: Draft) -> Draft | Refusal:
    """Refuse text without a visible character, and text that is already there."""
    if not draft.text.strip():
        return Refusal("empty", "The model has nothing to add here.")
    if draft.replaced and draft.text.strip() == draft.cursor.after[: draft.replaced].strip():
        return Refusal("already_there", "What the model would add already stands after the cursor.")
    return draft


def refuse_comment_only(draft: Draft) -> Draft | Refusal:
    """Refuse comments alone, or with closers only, unless the user began one or asked explicitly."""
    cursor = draft.cursor
    if cursor.trigger is Trigger.INVOKED or in_string_or_comment(draft.opened, cursor.language):
        return draft
    code = without_comments(draft.text, cursor.language, draft.opened)
    if code.strip() and (code == draft.text or not all(map(only_closers, filter(str.strip, code.split("\n"))))):
        return draft
    return Refusal("comment_only", "The model answered with a comment only.")


def keep_the_block_below(draft: Draft) -> Draft | Refusal:
    """In Python, cut what would end the block that the lines below are in."""
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
    """Cut the text back to what parses together with its surroundings."""
    if draft.document is None:
        return draft
    text = longest_sound(draft.text, draft.document, draft.cursor, draft.replaced, draft.opened, draft.ending)
    if text == draft.text:
        return draft
    if not text.strip():
        return Refusal("does_not_parse", "What the model would add does not parse here.")
    return evolve(draft, text=text, replaced=0)


def refuse_undefined_names(draft: Draft) -> Draft | Refusal:
    """In Python, refuse names that nothing defines: a suggestion that can't run is worse than none."""
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
