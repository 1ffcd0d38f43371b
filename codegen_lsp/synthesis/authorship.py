"""Tell the code that the person wrote into an open document from the model's.

A person edits a session in an editor as any other file, without saying so. Code that was neither there when the session
was opened nor proposed since is theirs, and is marked so that it is not written anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, evolve, field

from codegen_lsp.synthesis.dialogue import Dialogue


@define
class Authorship:
    """The code in one document that is not the person's."""

    _known: set[str] | None = field(init=False, default=None)

    def wrote(self, codes: Iterable[str]) -> None:
        """Note code that the model wrote."""
        self._known = (self._known or set()) | set(codes)

    def marked(self, dialogue: Dialogue) -> Dialogue:
        """Return a dialogue whose turns with code of the person are marked as edited.

        The first one is the session as it was opened: its code counts as marked in the file.
        """
        if self._known is None:
            self._known = {turn.code for turn in dialogue.turns}
        known = self._known
        marked = [
            evolve(turn, edited=turn.edited or bool(turn.code and turn.code not in known)) for turn in dialogue.turns
        ]
        return evolve(dialogue, turns=tuple(marked))
