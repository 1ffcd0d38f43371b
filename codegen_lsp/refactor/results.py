"""The results of a refactoring: drafts before the checks, offers after them."""

from __future__ import annotations

from attrs import field, frozen

from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.refusal import RejectedResult
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.verification import VerificationResult
from codegen_lsp.workspace.sources import OtherFile


@frozen
class RefactoringDraft:
    """A result that has not been checked: the whole new text of the document, with LF line ends."""

    text: str
    label: str
    """Distinguishes the result from the others: the new name, or the first line of the new code."""
    allowed: AllowedChanges
    others: list[OtherFile] = field(factory=list)
    """Other files that change along with the document."""


@frozen
class RefactoringOffer:
    """A result that passed all checks."""

    text: str
    """The whole new text of the document, with LF line ends."""
    label: str
    others: list[OtherFile] = field(factory=list)
    """Other files that change along with the document."""


@frozen
class RefactoringOutcome:
    """The results of a refactoring, and what was rejected."""

    kind: RefactoringKind
    offers: list[RefactoringOffer]
    """The likeliest first."""
    rejected: list[RejectedResult] = field(factory=list)
    notes: list[str] = field(factory=list)
    verified: list[VerificationResult] = field(factory=list)
    """The verification of each offer, if tests were run."""
