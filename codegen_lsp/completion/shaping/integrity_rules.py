"""Rules that keep a document whole that was whole: it parses with the suggestion in it, and words stay apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attrs import evolve

from codegen_lsp.completion.integrity import intact_judge
from codegen_lsp.completion.shaping.closers import replace_closers_already_there
from codegen_lsp.completion.shaping.draft import Draft, is_word
from codegen_lsp.completion.shaping.repetition import cut_repeated_group
from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.source.blocks import is_head, opens_block
from codegen_lsp.source.brackets import PAIRS, is_rest_of_closers, scan
from codegen_lsp.source.indentation import margin

TRIES = 12
"""Shorter texts that are tried before a suggestion is refused."""
_LAST_TOKEN = re.compile(r"(?:\w+|\s+|[^\w\s])\Z")


def keep_words_apart(draft: Draft) -> Draft | Refusal:
    """Put a space before a word after the cursor that the text would run into; cut the text's last word in a word."""
    cursor, text = draft.cursor, draft.text
    rest = cursor.after[draft.replaced :]
    if not (text and is_word(text[-1]) and rest and is_word(rest[0])):
        return draft
    if not (cursor.before and is_word(cursor.before[-1])):
        return evolve(draft, text=text + " ")
    shorter = text
    while shorter and is_word(shorter[-1]):
        shorter = shorter[:-1]
    if not shorter.strip():
        return Refusal("runs_into_word", "What the model would add runs into the word after the cursor.")
    return evolve(draft, text=shorter)


def keep_the_document_parsing(draft: Draft) -> Draft | Refusal:
    """Complete or shorten a text with which the document no longer parses, or the code below leaves its block.

    Text that was not asked for may still leave its end to the user, where the model became unsure and where a single
    line opens something.
    """
    intact = intact_judge(draft.document, draft.cursor) if draft.document is not None else None
    if intact is None or intact(draft.text, draft.replaced):
        return draft
    if _goes_on(draft) and any(intact(draft.text + _closers(draft) + end, draft.replaced) for end in _ends(draft)):
        return draft
    shorter: Draft | None = draft
    for _ in range(TRIES):
        if shorter is None:
            break
        mended = next((one for one in _mended(shorter) if intact(one.text, one.replaced)), None)
        if mended is not None:
            once = cut_repeated_group(mended)  # what was added may complete another round
            if once is mended or isinstance(once, Refusal):
                return once
            shorter = once
            continue
        for body in _bodies(draft) if shorter is draft and _may_stay_open(draft) else ():
            if intact(draft.text + body, draft.replaced):
                return draft
        shorter = _shortened(shorter)
    return Refusal("does_not_parse", "The document, which parses, would not with what the model would add.")


def _mended(draft: Draft) -> Iterator[Draft]:
    """Yield the draft as it is, and with endings that complete it."""
    for ending in _endings(draft):
        yield evolve(draft, text=draft.text.rstrip(",") + ending) if ending else draft


def _may_stay_open(draft: Draft) -> bool:
    """Return true if the user is expected to type what is missing at the end: unasked, where the model became unsure
    and after a single line of its own."""
    if draft.cursor.trigger is Trigger.INVOKED:
        return False
    return draft.ending == "unsure" or draft.text.strip() in draft.finished_lines


def _goes_on(draft: Draft) -> bool:
    """Return true if what the text opened is for the user to close."""
    return _may_stay_open(draft) and (draft.cut_short or draft.text.endswith(("(", "[", "{", ",")))


def _endings(draft: Draft) -> Iterator[str]:
    """Yield endings that complete a text: nothing, and the closers of what it opened."""
    yield ""
    if draft.cursor.after[draft.replaced :].strip() and not is_rest_of_closers(draft.cursor.after):
        return
    if draft.cursor.language.braces and draft.text.endswith("{"):
        return  # a block without a body
    closers = _closers(draft)
    if closers:
        yield closers
    if ";" in _ends(draft) and not draft.cursor.after.strip():
        yield closers + ";"


def _ends(draft: Draft) -> Sequence[str]:
    """Return what may end the statement at the end of a text."""
    line = draft.lines[-1] if len(draft.lines) > 1 else draft.cursor.before + draft.text
    return ("", ";") if draft.cursor.language.braces and not is_head(line) else ("",)


def _bodies(draft: Draft) -> Iterator[str]:
    """Yield the shortest continuations of a text that the user may continue."""
    closers, language = _closers(draft), draft.cursor.language
    if language.is_python:
        indent = margin(draft.cursor.before + draft.lines[0])
        yield from (f"{closers} pass", f"{closers}: pass", f" x{closers}", f" x{closers}: pass", f"x{closers}")
        yield f"{closers}\n{indent}def f(): pass"
    else:
        yield from (f"{closers} {{}}", f" x{closers};", f" x{closers} {{}}", f"x{closers}", f"{closers} void x();")
        if language.preprocessor:
            yield "\n#endif"


def _closers(draft: Draft) -> str:
    """Return the closers of what a text opened; those of blocks of several lines go on lines of their own."""
    language, cursor = draft.cursor.language, draft.cursor
    opened = draft.opened
    stack: list[tuple[str, str]] = [(symbol, "") for symbol in opened]  # with what stands before the closer
    outer = len(opened)
    for number, line in enumerate(draft.lines):
        whole = cursor.before + line if number == 0 else line
        now = scan(line if number + 1 == len(draft.lines) else line + "\n", language, opened).open
        shared = next((at for at, (one, other) in enumerate(zip(now, opened, strict=False)) if one != other), None)
        kept = min(len(now), len(opened)) if shared is None else shared
        lead = "\n" + margin(whole) if language.braces and whole.rstrip().endswith("{") else ""
        stack = [*stack[:kept], *((symbol, lead if symbol == "{" else "") for symbol in now[kept:])]
        outer, opened = min(outer, kept), now
    return "".join(
        lead + PAIRS.get(symbol, symbol if symbol in language.quotes else "")
        for symbol, lead in reversed(stack[outer:])
    )


def _shortened(draft: Draft) -> Draft | None:
    """Return the draft without its last line or, if there is one only, without its last token; None if nothing is
    left."""
    text, language = draft.text, draft.cursor.language
    line_start = text.rfind("\n") + 1
    one_line = not text[:line_start].strip()
    if one_line and opens_block(draft.cursor.before + text if not line_start else text[line_start:], language):
        return None
    shorter = _LAST_TOKEN.sub("", text.rstrip()) if one_line else text[:line_start]
    shorter = shorter.rstrip()
    if not shorter.strip():
        return None
    cut = keep_words_apart(replace_closers_already_there(evolve(draft, text=shorter, replaced=0)))
    return None if isinstance(cut, Refusal) else cut
