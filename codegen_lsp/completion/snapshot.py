"""The values that completion takes and gives: a document at one instant with the cursor, and a suggestion for it.

Offsets count code points in `Snapshot.text`, which is the document exactly as the editor has it (line ends and all).
The text around the cursor is read once per snapshot and in one form: line ends as LF, the selected entry applied.

When an entry of the editor's own completion list is selected, everything is computed as though it had been accepted:
that is what the editor shows, and a suggestion must extend it. Only the neighbourhood of the cursor is read, so the
cost does not grow with the document.
"""

from __future__ import annotations

from enum import Enum
from functools import cached_property

from attrs import evolve, frozen

from codegen_lsp.source.languages import Language, language_of
from codegen_lsp.source.lines import end_of_line, slice_between, start_of_line, with_lf

REACH = 4_000
"""Characters before and after the cursor's line that rules may look at."""


class Trigger(Enum):
    """The cause of a request."""

    AUTOMATIC = "automatic"
    """The user typed."""
    INVOKED = "invoked"
    """The user pressed a key or ran a command for it, or cycles through alternatives."""


@frozen
class Selected:
    """The entry selected in the editor's own completion list, and the span of the document that it would replace."""

    start: int
    end: int
    text: str


@frozen
class Cursor:
    """The cursor and the text around it, with LF line ends."""

    language: Language
    trigger: Trigger
    before: str
    """The line up to the cursor, with the selected entry in place."""
    after: str
    """The rest of the line."""
    above: tuple[str, ...]
    """Lines above, nearest last."""
    below: tuple[str, ...]
    """Lines below, nearest first."""
    start: int
    """Offset in the document at which a suggestion's range begins."""
    end: int
    """Offset in the document of the first character after the cursor and the selected entry."""
    kept: str
    """Beginning of a suggestion's text: the document from `start` to the cursor, or the selected entry."""

    @property
    def line_above(self) -> str:
        """The nearest line above that is not blank; empty if there is none."""
        return next((line for line in reversed(self.above) if line.strip()), "")

    @property
    def line_below(self) -> str:
        """The nearest line below that is not blank; empty if there is none."""
        return next((line for line in self.below if line.strip()), "")


@frozen
class Snapshot:
    """A document at one version, with the cursor."""

    uri: str
    version: int
    language: str
    """LSP language identifier, such as `python`."""
    text: str
    offset: int
    """The cursor, in code points."""
    trigger: Trigger = Trigger.AUTOMATIC
    selected: Selected | None = None
    prelude: int = 0
    """Length of the text put before the document, such as the cells of a notebook above this one. All offsets of the
    snapshot count it."""

    def to_document(self, suggestion: Suggestion) -> Suggestion:
        """Return a suggestion for this snapshot with offsets in the document, which has no prelude."""
        return evolve(suggestion, start=suggestion.start - self.prelude, end=suggestion.end - self.prelude)

    @cached_property
    def cursor(self) -> Cursor:
        """The cursor and the text around it."""
        return _cursor_of(self)

    @property
    def line_start(self) -> int:
        """Offset of the first character of the cursor's line."""
        return start_of_line(self.text, self.offset)

    @property
    def line_end(self) -> int:
        """Offset just after the last character of the cursor's line, its line break left out."""
        return end_of_line(self.text, self.offset)


@frozen
class Suggestion:
    """Text to show at the cursor.

    Accepting it replaces `text[start:end]` of the snapshot by `insert`. `start` is at or before the cursor and `end` at
    or after it; both are on the cursor's line. `insert` begins with the text between `start` and the cursor (or, when
    an entry of the editor's own list is selected, with that entry) and has LF line ends.
    """

    start: int
    end: int
    insert: str
    log_probability: float = 0.0
    """Mean over the model's tokens, in nats."""


@frozen
class Refusal:
    """The reason why nothing is shown: the name of a rule, and a sentence for the user."""

    rule: str
    reason: str


def _cursor_of(snapshot: Snapshot) -> Cursor:
    """Read the text around the snapshot's cursor."""
    text = snapshot.text
    line_start, line_end = snapshot.line_start, snapshot.line_end
    selected = _usable_selection(snapshot)
    start = selected.start if selected else line_start
    end = selected.end if selected else snapshot.offset
    kept = with_lf(selected.text) if selected else text[line_start : snapshot.offset]
    before = text[line_start:start] + kept
    above = with_lf(slice_between(text, max(0, line_start - REACH), line_start) + before).split("\n")
    below = with_lf(text[line_end : line_end + REACH]).split("\n")
    if line_end + REACH < len(text):
        below.pop()
    return Cursor(
        language=language_of(snapshot.language),
        trigger=snapshot.trigger,
        before=above[-1],
        after=text[end:line_end],
        above=tuple(above[:-1]),
        below=tuple(below[1:]),
        start=start,
        end=end,
        kept=kept,
    )


def _usable_selection(snapshot: Snapshot) -> Selected | None:
    """Return the snapshot's selected entry if its span contains the cursor and is on the cursor's line."""
    selected = snapshot.selected
    if selected is None or not selected.start <= snapshot.offset <= selected.end:
        return None
    if selected.start < snapshot.line_start or selected.end > snapshot.line_end:
        return None
    return selected
