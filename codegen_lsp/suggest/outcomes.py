"""What became of the suggestions that were given: counted for `codegen-lsp stats`.

At most one suggestion of a document is on the screen, so at most one is followed here: from the answer that brought it,
through the changes of the document, until it was accepted, typed over, or made way for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen
from lsprotocol import types

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.suggest.acceptance import Fate, Shown, after_change, is_rest_of, shown
from codegen_lsp.suggest.metrics import Event, Metrics, step_of, today
from codegen_lsp.suggest.service import Outcome

if TYPE_CHECKING:
    from codegen_lsp.lsp.documents import Document


@frozen
class _Followed:
    shown: Shown
    language: str
    model: str


class Outcomes:
    """Follows the suggestions of one connection."""

    def __init__(self, metrics: Metrics, day: Callable[[], str] = today) -> None:
        self._metrics = metrics
        self._day = day
        self._followed: dict[str, _Followed] = {}

    def answered(self, snapshot: Snapshot, outcome: Outcome, suggestion: Suggestion | None, model: str) -> None:
        """A request was answered, with this suggestion first."""
        uri, language = snapshot.uri, snapshot.language
        self._count(language, model, "requests")
        if outcome.source != "none":
            step = step_of(outcome.seconds * 1e3)
            self._metrics.count(Event(self._day(), language, model, f"time {outcome.source}", step))
        before = self._followed.get(uri)
        if before and suggestion and is_rest_of(suggestion, before.shown):
            return
        self.closed(uri)
        if suggestion is None:
            return
        self._followed[uri] = _Followed(shown(suggestion, snapshot.offset), language, model)
        self._count(language, model, "shown")

    def changed(self, document: Document, change: types.TextDocumentContentChangeEvent, end: int) -> None:
        """A document was changed; the change ended at an offset."""
        followed = self._followed.get(document.uri)
        if followed is None:
            return
        now = after_change(followed.shown, document.text, end, change.text)
        if isinstance(now, Shown):
            self._followed[document.uri] = _Followed(now, followed.language, followed.model)
        else:
            self._end(document.uri, now, len(followed.shown.insert) - followed.shown.written)

    def closed(self, uri: str) -> None:
        """The suggestion is gone from the screen, because another came or the document was closed."""
        followed = self._followed.get(uri)
        if followed is None:
            return
        if followed.shown.by_key:
            self._end(uri, "accepted in part", 0)
        else:
            del self._followed[uri]

    def _end(self, uri: str, fate: Fate, rest: int) -> None:
        """`rest`: characters of the suggestion that were not in the text yet."""
        followed = self._followed.pop(uri)
        self._count(followed.language, followed.model, fate)
        brought = followed.shown.by_key + (rest if fate == "accepted" else 0)
        if brought:
            self._count(followed.language, followed.model, "accepted characters", brought)

    def _count(self, language: str, model: str, what: str, by: int = 1) -> None:
        self._metrics.count(Event(self._day(), language, model, what), by)
