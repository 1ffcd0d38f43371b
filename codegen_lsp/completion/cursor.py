"""The text around the cursor, read once per request and in one form: line ends as LF, the selected entry applied.

When an entry of the editor's own completion list is selected, everything is computed as though it had been accepted:
that is what the editor shows, and a suggestion must extend it. Only the neighbourhood of the cursor is read, so the
cost does not grow with the document.
"""

from __future__ import annotations

from attrs import frozen

from codegen_lsp.completion.snapshot import Selected, Snapshot, Trigger
from codegen_lsp.source.languages import Language, language_of

REACH = 4_000
"""Characters before and after the cursor's line that rules may look at."""


@frozen
class Cursor:
    """Where the cursor stands."""

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
    """Offset in the document of the first character that stands after the cursor (and after the selected entry)."""
    kept: str
    """What a suggestion's text begins with: the document from `start` to the cursor, or the selected entry."""

    @property
    def line_above(self) -> str:
        """The nearest line above that is not blank, or an empty string."""
        return next((line for line in reversed(self.above) if line.strip()), "")

    @property
    def line_below(self) -> str:
        """The nearest line below that is not blank, or an empty string."""
        return next((line for line in self.below if line.strip()), "")


def cursor_of(snapshot: Snapshot) -> Cursor:
    """The surroundings of the snapshot's cursor."""
    text = snapshot.text
    line_start, line_end = snapshot.line_start, snapshot.line_end
    selected = usable_selection(snapshot)
    start = selected.start if selected else line_start
    end = selected.end if selected else snapshot.offset
    kept = with_lf(selected.text) if selected else text[line_start : snapshot.offset]
    before = text[line_start:start] + kept
    above = with_lf(cut_at(text, max(0, line_start - REACH), line_start) + before).split("\n")
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


def usable_selection(snapshot: Snapshot) -> Selected | None:
    """The snapshot's selected entry, if its span holds the cursor and lies on the cursor's line."""
    selected = snapshot.selected
    if selected is None or not selected.start <= snapshot.offset <= selected.end:
        return None
    if selected.start < snapshot.line_start or selected.end > snapshot.line_end:
        return None
    return selected


def with_lf(text: str) -> str:
    """The text with each line end as LF."""
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cut_at(text: str, start: int, end: int) -> str:
    """`text[start:end]`, moved on past a line feed whose carriage return stands just before `start`."""
    if 0 < start < end and text[start] == "\n" and text[start - 1] == "\r":
        start += 1
    return text[start:end]
