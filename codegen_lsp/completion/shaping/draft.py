"""A candidate on its way from the model to the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import evolve, field, frozen

from codegen_lsp.completion.snapshot import Cursor
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.source.blocks import opens_block
from codegen_lsp.source.brackets import Open, in_string_or_comment, is_rest_of_closers
from codegen_lsp.source.open_ends import ends_open

Ending = Literal["complete", "truncated", "unsure"]
"""The way a draft's text ends: for good, by the model or a rule; in the middle of something (token limit, broken
character, loop); or where the model became too unsure."""


@frozen
class Draft:
    """A candidate under way from the model to the screen."""

    text: str
    """Text after the cursor."""
    cursor: Cursor
    stop: StopRules
    opened: Open
    """Brackets, quotes and comments that are open at the cursor."""
    ending: Ending = "complete"
    replaced: int = 0
    """Characters after the cursor that the text replaces."""
    finished_lines: Sequence[str] = ()
    """The lines of the answer that the model ended itself, without white space around them."""
    steps: Sequence[tuple[int, float]] = ()
    """End of each token in the candidate's text, with the token's log-probability in nats."""
    document: str | None = None
    """The whole document; None if correctness is not checked."""
    modules: Modules = field(factory=dict)
    """The names in modules of the workspace."""

    @property
    def lines(self) -> list[str]:
        """The lines of the text; the first continues the cursor's line."""
        return self.text.split("\n")

    @property
    def cut_short(self) -> bool:
        """True if the text may end in the middle of something."""
        return self.ending != "complete"

    @property
    def block(self) -> bool:
        """True if there may be several lines."""
        return self.stop.max_lines > 1 or self.brings_body

    @property
    def brings_body(self) -> bool:
        """True if one line was requested and it opens a block whose body follows."""
        if self.stop.max_lines > 1 or self.stop.opened_lines <= 1:
            return False
        line, _, body = self.text.partition("\n")
        return bool(body.strip() and line.strip()) and opens_block(self.cursor.before + line, self.cursor.language)

    @property
    def ends_open(self) -> bool:
        """True if it ends in a keyword or operator that something must follow, nothing on the line
        does, and the model's line did not."""
        *above, last = self.lines
        if not is_rest_of_closers(self.cursor.after[self.replaced :]):
            return False
        if not above and in_string_or_comment(self.opened, self.cursor.language):
            return False
        line = last if above else self.cursor.before + last
        return last.strip() not in self.finished_lines and ends_open(line, self.cursor.language)

    def with_lines(self, lines: Sequence[str]) -> Draft:
        """Return the draft with these lines as its text."""
        return evolve(self, text="\n".join(lines))


def is_word(character: str) -> bool:
    """Return true for a character that can be part of a word."""
    return character.isalnum() or character == "_"


def splits_word(text: str, at: int) -> bool:
    """Return true if an offset lies inside a word."""
    return 0 < at < len(text) and is_word(text[at - 1]) and is_word(text[at])
