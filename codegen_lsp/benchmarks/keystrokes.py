"""The keys of a typing replay, and the stretch of a file that they write."""

from __future__ import annotations

from typing import Literal

from attrs import define, frozen

KeyKind = Literal["type", "backspace", "accept", "accept line", "accept word", "move"]
"""A typed character or line break; a correction; a suggestion accepted whole, by its first line or by its next word; a
move of the cursor, which changes no text."""


@frozen
class ShownSuggestion:
    """A suggestion on the screen: `text[start:end]` becomes `insert`. Offsets are in code points."""

    start: int
    end: int
    insert: str
    seconds: float
    """Time for which it has been on the screen."""


@frozen
class Key:
    """One key and its effect in the editor: `text[start:end]` becomes `insert`, and the cursor moves to `cursor`."""

    kind: KeyKind
    start: int
    end: int
    insert: str
    cursor: int
    gained: int = 0
    """Characters of the file that a key of an accepting kind brought."""

    @property
    def edits(self) -> bool:
        """Return true if the key changes the text."""
        return self.kind != "move"


@define
class Stretch:
    """A stretch of the file, typed in part. Its text is `typed + pending`, with the cursor between the two."""

    target: str
    done: int = 0
    """Characters of the target that are written."""
    blank: str = ""
    """White space that the editor inserted before the cursor and that the target does not have."""
    typo: str = ""
    """Mistyped characters before the cursor."""
    typo_length: int = 0
    """Characters after which the mistake is noticed."""
    pending: str = ""
    """Text that the editor inserted after the cursor."""
    corrected: int = -1
    """Offset in the target of the last corrected mistake, which is not made twice."""
    left: int = -1
    """Offset in the target at which the person last left the stretch."""

    @property
    def typed(self) -> str:
        return self.target[: self.done] + self.blank + self.typo

    @property
    def line(self) -> str:
        return self.typed.rpartition("\n")[2]

    @property
    def finished(self) -> bool:
        return self.done == len(self.target) and not (self.pending or self.blank or self.typo)
