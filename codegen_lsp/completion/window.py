"""The text around the cursor that goes into the prompt.

The text before the cursor begins at an anchor that must not move while the user types: a cached prompt can be reused
only while it grows at its end alone. The anchor is computed without memory. Its candidates are a grid of a quarter of
the budget over the document, and on the grid it snaps forward to the outermost definition or statement that begins
there: by the parse tree of the text up to the grid's next line or, without a tree, by indentation. All of this depends
only on text at least half of the budget before the cursor. The anchor moves when the window would overflow, once per
quarter of the budget typed.

The prompt ends at the cursor, possibly in the middle of a word or of an indentation: the worker takes half a token back
and forces the typed characters (token healing), so nothing is stripped here and no indentation is cut from the answer.

The text after the cursor, for models that infill, starts with the rest of the line only if the rest is more than
closing brackets: those come and go with each key and would change the whole prompt (the embedded model reads the text
after the cursor first). Otherwise it starts with the next line. It ends at a line's end.
"""

from __future__ import annotations

import re
from collections import Counter

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.source.blocks import continues_statement
from codegen_lsp.source.brackets import is_rest_of_closers
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import Language
from codegen_lsp.source.lines import slice_between, with_lf
from codegen_lsp.source.parse_tree import block_start, parsed

CHANGE = 0.1
"""Share of the text after the cursor that may change, in lines removed and added, before it is replaced in the
prompt."""

REST_CHARACTERS = 20_000
"""Characters used on either side of the prompt: enough for most of a document's repetitions, and tokenized in 10 ms."""
_LINE_STARTS = re.compile(r"(?:(?<=\n)|(?<=\r)(?!\n))[^\r\n]+")


def window_before(snapshot: Snapshot, budget: int) -> str:
    """Return the document up to the cursor (and the selected entry), cut at its start to at most `budget`
    characters."""
    cursor = snapshot.cursor
    start = anchor(snapshot.text, cursor.start, len(cursor.kept), budget, cursor.language)
    if start > cursor.start:
        return cursor.kept[start - cursor.start :]
    return with_lf(slice_between(snapshot.text, start, cursor.start)) + cursor.kept


def last_characters(snapshot: Snapshot, budget: int) -> str:
    """Return the last `budget` characters up to the cursor: the baseline with which the window is compared."""
    cursor = snapshot.cursor
    return (with_lf(snapshot.text[max(0, cursor.start - budget) : cursor.start]) + cursor.kept)[-budget:]


def anchor(text: str, offset: int, tail: int, budget: int, language: Language) -> int:
    """Return the start for which `text` up to `offset` and `tail` characters more are at most `budget` characters.

    It is the start of a line if there is one.
    """
    end = offset + tail
    if end <= budget:
        return 0
    step = max(1, budget // 4)
    earliest = -(-(end - budget) // step) * step
    latest = min(earliest + step, offset)
    if (at := _block_start(text[:latest], earliest, language)) is not None:
        return at
    region = text[earliest - 1 : latest]
    lines = [match for match in _LINE_STARTS.finditer(region) if match.group().strip()]
    starters = [match for match in lines if not continues_statement(match.group(), language)] or lines
    if not starters:
        return min(earliest, end)
    return earliest - 1 + min(starters, key=lambda match: columns(match.group())).start()


def _block_start(text: str, first: int, language: Language) -> int | None:
    """Return the start of the outermost definition or statement that begins after an offset, judged by that text
    alone."""
    source = parsed(text, language)
    return block_start(source, first, len(text)) if source else None


def steady_suffix(suffix: str, last: str) -> str:
    """Return the text after the cursor for a prompt: the last prompt's, while less than a tenth of it has changed.

    A model that reads it first (the embedded one) then keeps its cache while the cursor moves down a few lines or
    something is changed below. (The constant is Copilot's.)
    """
    if suffix == last or not suffix or not last:
        return suffix
    now, then = Counter(suffix.split("\n")), Counter(last.split("\n"))
    changed = sum(len(line) + 1 for line in ((now - then) + (then - now)).elements())
    return last if changed < CHANGE * len(last) else suffix


def window_after(snapshot: Snapshot, budget: int) -> str:
    """Return the document after the cursor, cut to whole lines of at most `budget` characters; empty if all is
    blank."""
    cursor = snapshot.cursor
    line_end = cursor.end + len(cursor.after)
    rest = "" if is_rest_of_closers(cursor.after) else cursor.after[:budget]
    following = snapshot.text[line_end : line_end + budget]
    if line_end + budget < len(snapshot.text):
        following = following[: max(following.rfind("\n"), following.rfind("\r"), 0)]
    after = rest + with_lf(following)
    return after if after.strip() else ""


def rest_of_document(snapshot: Snapshot, prefix: str, suffix: str) -> tuple[str, ...]:
    """Return the document before `prefix` and after `suffix` (or the cursor's line), at most `REST_CHARACTERS` of each.

    Both stay the same while the user types, so that they are tokenized only once.
    """
    cursor = snapshot.cursor
    reach = REST_CHARACTERS + 2 * len(prefix)
    before = with_lf(slice_between(snapshot.text, max(0, cursor.start - reach), cursor.start)) + cursor.kept
    earlier = before[: len(before) - len(prefix)][-REST_CHARACTERS:]
    line_end = cursor.end + len(cursor.after)
    after = with_lf(snapshot.text[line_end : line_end + REST_CHARACTERS + 2 * len(suffix)])
    inside = len(suffix) if after.startswith(suffix) else max(0, len(suffix) - len(cursor.after))
    later = after[inside : inside + REST_CHARACTERS]
    return tuple(text for text in (earlier, later) if text.strip())
