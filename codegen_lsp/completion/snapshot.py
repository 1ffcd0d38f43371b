"""The values that completion takes and gives: a document at one instant, and a suggestion for it.

Offsets count code points in `Snapshot.text`, which is the document exactly as the editor has it (line ends and all).
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from codegen_lsp.source.lines import end_of_line, start_of_line


class Trigger(Enum):
    """What made the editor ask."""

    AUTOMATIC = "automatic"
    """The user typed."""
    INVOKED = "invoked"
    """The user asked by a key or command, or looks through alternatives."""


@frozen
class Selected:
    """The entry selected in the editor's own completion list, and the span of the document it would replace."""

    start: int
    end: int
    text: str


@frozen
class Snapshot:
    """A document at one version, with the cursor."""

    uri: str
    version: int
    language: str
    """LSP language identifier, such as `python`."""
    text: str
    offset: int
    """Of the cursor, in code points."""
    trigger: Trigger = Trigger.AUTOMATIC
    selected: Selected | None = None

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

    Accepting it replaces `text[start:end]` of the snapshot by `insert`. `start` is at most and `end` at least the
    cursor; both lie on the cursor's line. `insert` begins with what stands between `start` and the cursor (or, when an
    entry of the editor's own list is selected, with that entry) and has LF line ends.
    """

    start: int
    end: int
    insert: str
    log_probability: float = 0.0
    """Mean over the model's tokens, in nats."""


@frozen
class Refusal:
    """Why there is nothing to show: the name of a rule, and a sentence for a person."""

    rule: str
    reason: str
