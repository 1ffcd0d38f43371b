"""The lifecycle of a suggestion on the screen: shown, then accepted, accepted in part, typed, or typed over.

The changes of the text are the evidence, because editors report only suggestions that were accepted whole, and only
some editors do. A change that inserts more of the suggestion than a key could has accepted it or a part of it; a change
that inserts something else has typed over it. The command `accepted` of an editor counts where no change told it.

At most one suggestion of a document is on the screen, so at most one per document is tracked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from attrs import define, evolve, frozen

from codegen_lsp.completion.snapshot import Suggestion
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.suggest.metrics import Event, Metrics, step_of, today

Fate = Literal["accepted", "accepted in part", "typed", "typed over"]
"""How a suggestion ended; `typed`: all of it was typed by hand."""

_CLOSING = frozenset(")]}'\"`")
_MIN_ACCEPTED = 2
"""Characters of the suggestion that one change must insert to be no key."""
_REMEMBERED = 1_000
"""Suggestions whose acceptance an editor may still report."""


@frozen
class Shown:
    """A suggestion on the screen, and how much of it is in the text already."""

    start: int
    """Offset of the text that it replaces."""
    insert: str
    written: int
    """Characters of `insert` before the cursor."""
    accepted: int = 0
    """Characters that came by accepting."""


def shown(suggestion: Suggestion, offset: int) -> Shown:
    """Return a suggestion just given, with the cursor at an offset."""
    return Shown(suggestion.start, suggestion.insert, offset - suggestion.start)


def is_rest_of(suggestion: Suggestion, before: Shown) -> bool:
    """Return true if a suggestion is the rest of the one before, however many of its lines were written since."""
    return before.insert.endswith(suggestion.insert) and suggestion.start >= before.start


def after_change(before: Shown, text: str, end: int, inserted: str) -> Shown | Fate:
    """Return the suggestion after a change that inserted text up to the offset `end`, or how the suggestion ended."""
    closed = len(inserted) > 1 and inserted[-1] in _CLOSING  # by the editor, perhaps behind the cursor
    for cursor in (end, end - 1) if closed else (end,):
        written = cursor - before.start
        if written < 0 or not before.insert.startswith(text[before.start : cursor]):
            continue
        gained = written - before.written
        accepted = before.accepted + (gained if gained >= _MIN_ACCEPTED and inserted else 0)
        if written < len(before.insert):
            return evolve(before, written=written, accepted=accepted)
        if accepted == 0:
            return "typed"
        return "accepted" if gained >= _MIN_ACCEPTED else "accepted in part"
    return "accepted in part" if before.accepted else "typed over"


@define
class _Tracked:
    shown: Shown
    number: int
    """Under which the editor reports that it was accepted."""
    language: str
    model: str


class AcceptanceTracker:
    """Counts what was shown and accepted, and tracks the suggestion on the screen of each document."""

    def __init__(self, metrics: Metrics | None = None, day: Callable[[], str] = today) -> None:
        self.shown = 0
        """Suggestions given to the editor, alternatives and repetitions included."""
        self.accepted = 0
        """Suggestions that the editor reported as accepted whole."""
        self._metrics = metrics
        self._day = day
        self._tracked: dict[str, _Tracked] = {}
        self._given: OrderedDict[int, str] = OrderedDict()
        """URI of the document by the number of the suggestion."""

    def answered(self, language: str, model: str, source: str, seconds: float) -> None:
        """Count a request, and the time of its answer unless its source is `none`."""
        self._count(language, model, "requests")
        if source != "none":
            self._count(language, model, f"time {source}", step=step_of(seconds * 1e3))

    def give(self, uri: str, count: int) -> range:
        """Count suggestions that are given to the editor; return their numbers."""
        first = self.shown + 1
        self.shown += count
        numbers = range(first, first + count)
        self._given.update(dict.fromkeys(numbers, uri))
        while len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        return numbers

    def track(
        self, uri: str, language: str, model: str, suggestion: Suggestion | None, offset: int, number: int = 0
    ) -> None:
        """Track the suggestion that a document shows from now on, in place of the one before; None if it shows none."""
        before = self._tracked.get(uri)
        if before and suggestion and is_rest_of(suggestion, before.shown):
            before.number = number
            return
        self.closed(uri)
        if suggestion is None:
            return
        self._tracked[uri] = _Tracked(shown(suggestion, offset), number, language, model)
        self._count(language, model, "shown")

    def changed(self, uri: str, text: str, end: int, inserted: str) -> None:
        """Follow a change of a document that inserted text up to the offset `end`."""
        tracked = self._tracked.get(uri)
        if tracked is None:
            return
        now = after_change(tracked.shown, text, end, inserted)
        if isinstance(now, Shown):
            tracked.shown = now
        else:
            self._end(uri, now, len(tracked.shown.insert) - tracked.shown.written)

    def report_accepted(self, number: int) -> bool:
        """Count a suggestion that the editor reports as accepted whole.

        Returns false if it was reported before or never given. One that is still tracked ends as accepted; if the
        change of the text has come first, it has been counted already.
        """
        uri = self._given.pop(number, None)
        if uri is None:
            return False
        self.accepted += 1
        tracked = self._tracked.get(uri)
        if tracked is not None and tracked.number == number:
            self._end(uri, "accepted", len(tracked.shown.insert) - tracked.shown.written)
        return True

    def closed(self, uri: str) -> None:
        """End the tracking: another suggestion took the place of the tracked one, or the document was closed."""
        tracked = self._tracked.get(uri)
        if tracked is None:
            return
        if tracked.shown.accepted:
            self._end(uri, "accepted in part", 0)
        else:
            del self._tracked[uri]

    def _end(self, uri: str, fate: Fate, rest: int) -> None:
        """Count how a suggestion ended; `rest` is the number of its characters that were not in the text before."""
        tracked = self._tracked.pop(uri)
        self._count(tracked.language, tracked.model, fate)
        accepted = tracked.shown.accepted + (rest if fate == "accepted" else 0)
        if accepted:
            self._count(tracked.language, tracked.model, "accepted characters", accepted)

    def _count(self, language: str, model: str, what: str, by: int = 1, step: int = 0) -> None:
        if self._metrics is not None:
            # A document may have any text as its language; only known words are kept.
            language = language if language in LANGUAGES else "other"
            self._metrics.count(Event(self._day(), language, model, what, step), by)
