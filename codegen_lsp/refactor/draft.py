"""A result on its way through the checks, and where it came from."""

from __future__ import annotations

from attrs import field, frozen

from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.workspace.sources import OtherFile


@frozen
class RefactoringDraft:
    """A whole new text of the document (LF line ends)."""

    text: str
    label: str
    """What tells it from the others: the name, or the first line of what is new."""
    allowed: AllowedChanges
    others: list[OtherFile] = field(factory=list)
    """Files that change along with it."""
