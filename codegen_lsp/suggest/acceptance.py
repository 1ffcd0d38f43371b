"""What became of a suggestion, judged by the changes of the text alone.

Editors tell when a suggestion was accepted whole, and only some of them. Everything else shows in what is typed: a
change that writes more of the suggestion than one key could, accepts it or a part; one that writes something else has
typed over it.
"""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from codegen_lsp.completion.snapshot import Suggestion

Fate = Literal["accepted", "accepted in part", "typed", "typed over"]
"""`typed`: all of it was written, by hand."""

_CLOSING = frozenset(")]}'\"`")
_LEAST_ACCEPTED = 2
"""Characters of the suggestion that one change must bring to be no key."""


@frozen
class Shown:
    """A suggestion on the screen, and how much of it stands in the text already."""

    start: int
    """Offset of the text that it replaces."""
    insert: str
    written: int
    """Characters of `insert` before the cursor."""
    by_key: int = 0
    """Characters that accepting brought."""


def shown(suggestion: Suggestion, offset: int) -> Shown:
    """A suggestion just given, the cursor being at an offset."""
    return Shown(suggestion.start, suggestion.insert, offset - suggestion.start)


def is_rest_of(suggestion: Suggestion, before: Shown) -> bool:
    """Whether a suggestion is what is left of the one before, however many lines of it were written since."""
    return before.insert.endswith(suggestion.insert) and suggestion.start >= before.start


def after_change(before: Shown, text: str, end: int, inserted: str) -> Shown | Fate:
    """The suggestion after a change that ended at `end` and put in `inserted`, or what became of it."""
    closed = len(inserted) > 1 and inserted[-1] in _CLOSING  # by the editor, perhaps behind the cursor
    for cursor in (end, end - 1) if closed else (end,):
        written = cursor - before.start
        if written < 0 or not before.insert.startswith(text[before.start : cursor]):
            continue
        gained = written - before.written
        accepted = before.by_key + (gained if gained >= _LEAST_ACCEPTED and inserted else 0)
        if written < len(before.insert):
            return evolve(before, written=written, by_key=accepted)
        if accepted == 0:
            return "typed"
        return "accepted" if gained >= _LEAST_ACCEPTED else "accepted in part"
    return "accepted in part" if before.by_key else "typed over"
