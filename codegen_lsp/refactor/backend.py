"""The interface between the general part of a refactoring and a family of languages.

A backend knows which refactorings apply at a selection (`menu`) and prepares one of them (`prepare`). A prepared
refactoring makes drafts (`make`), checks each draft against the program before (`check`), and runs the tests of the
file with the results (`verify`). A new family of languages implements these two protocols and gets an entry in
`dispatch.BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import CheckFailure
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.results import RefactoringDraft, RefactoringOffer
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult


@frozen
class MenuEntry:
    """A refactoring that applies at a selection."""

    kind: RefactoringKind
    title: str
    action: str
    """LSP code action kind: that of the refactoring, or `quickfix` where it repairs a syntax error."""


class PreparedRefactoring(Protocol):
    """A refactoring that applies at a selection of a parsed document."""

    @property
    def text(self) -> str:
        """The text that drafts are compared with: that of the document, or a repaired one if it did not parse."""
        ...

    async def make(self, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
        """Return possible results. Raises RefactorError, WorkerError and ModelError."""
        ...

    def check(self, draft: RefactoringDraft) -> CheckFailure | None:
        """Return the first check that a draft fails, or None."""
        ...

    async def verify(
        self, offers: Sequence[RefactoringOffer], policy: VerificationPolicy, report: ProgressReport
    ) -> list[VerificationResult] | None:
        """Run the tests of the file with each result; None where tests can't be run. Raises SandboxError."""
        ...


class Backend(Protocol):
    """The refactorings of a family of languages."""

    def menu(self, source: SelectedSource) -> list[MenuEntry]:
        """Return the refactorings that apply at the selection, by syntax alone."""
        ...

    def prepare(self, kind: RefactoringKind, source: SelectedSource) -> PreparedRefactoring:
        """Parse the whole document and check that the refactoring applies.

        Raises RefactorError: `syntax_error` when the document does not parse, `not_here` when the refactoring does not
        apply at the selection.
        """
        ...
