"""The refactorings of Python: where each applies, what makes it, how it is checked and verified.

What makes a refactoring is imported when it is chosen: rope and libcst take long to load, and the menu needs neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor import registry
from codegen_lsp.refactor.backend import MenuEntry
from codegen_lsp.refactor.checks import CheckFailure
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle
from codegen_lsp.refactor.python.extract_conditions import extract_function_title, extract_variable_title
from codegen_lsp.refactor.python.inline_conditions import inline_function_title, inline_variable_title
from codegen_lsp.refactor.python.program_checks import ProgramText, first_failure
from codegen_lsp.refactor.python.rename_conditions import rename_title
from codegen_lsp.refactor.python.repair import with_body
from codegen_lsp.refactor.python.selection import SelectionView, SyntaxTreeCache, evolved, whole_view
from codegen_lsp.refactor.python.writing_conditions import (
    body_title,
    comment_to_code_title,
    docstring_title,
    rewrite_title,
    simplify_title,
    type_hints_title,
)
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.results import RefactoringDraft, RefactoringOffer
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult

Applies = Callable[[SelectionView], str | Obstacle | None]
"""Returns the title of the action at a selection, or what stands in its way; None where it has nothing to work on."""
Make = Callable[[SelectionView, ModelAssistant, ProgressReport], Awaitable[list[RefactoringDraft]]]
"""Returns possible results. Raises RefactorError, WorkerError and ModelError."""


@frozen
class PythonRefactoring:
    """Where a refactoring applies, and what makes it."""

    kind: RefactoringKind
    applies: Applies
    make: Make


async def _extract_variable(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import extract

    return await extract.variable(view, assistant, report)


async def _extract_function(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import extract

    return await extract.function(view, assistant, report)


async def _inline_variable(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import inline

    return await inline.variable(view, assistant, report)


async def _inline_function(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import inline

    return await inline.function(view, assistant, report)


async def _rename(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python.rename import rename

    return await rename(view, assistant, report)


async def _docstring(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python.docstrings import docstring

    return await docstring(view, assistant, report)


async def _type_hints(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python.type_hints import type_hints

    return await type_hints(view, assistant, report)


async def _complete_body(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import bodies

    return await bodies.complete_body(view, assistant, report)


async def _comment_to_code(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python import bodies

    return await bodies.comment_to_code(view, assistant, report)


async def _simplify(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python.simplify import simplify

    return await simplify(view, assistant, report)


async def _rewrite(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    from codegen_lsp.refactor.python.rewrite import rewrite

    return await rewrite(view, assistant, report)


REFACTORINGS: tuple[PythonRefactoring, ...] = (
    PythonRefactoring(registry.EXTRACT_VARIABLE, extract_variable_title, _extract_variable),
    PythonRefactoring(registry.EXTRACT_FUNCTION, extract_function_title, _extract_function),
    PythonRefactoring(registry.INLINE_VARIABLE, inline_variable_title, _inline_variable),
    PythonRefactoring(registry.INLINE_FUNCTION, inline_function_title, _inline_function),
    PythonRefactoring(registry.RENAME, rename_title, _rename),
    PythonRefactoring(registry.DOCSTRING, docstring_title, _docstring),
    PythonRefactoring(registry.TYPE_HINTS, type_hints_title, _type_hints),
    PythonRefactoring(registry.COMPLETE_BODY, body_title, _complete_body),
    PythonRefactoring(registry.COMMENT_TO_CODE, comment_to_code_title, _comment_to_code),
    PythonRefactoring(registry.SIMPLIFY, simplify_title, _simplify),
    PythonRefactoring(registry.REWRITE, rewrite_title, _rewrite),
)
"""In the order of the menu."""

_OF_DEFINITIONS = (registry.DOCSTRING, registry.TYPE_HINTS)
"""Refactorings of a whole definition: anywhere in it, the one around the cursor is meant."""


class PythonBackend:
    """The refactorings of Python; keeps the syntax trees of the text that it was asked about last."""

    def __init__(self) -> None:
        self._trees = SyntaxTreeCache()

    def menu(self, source: SelectedSource) -> list[MenuEntry]:
        """Implement `Backend.menu`."""
        view = self._trees.view(source)
        if view is not None:
            titles = [(one.kind, _title(one, view)) for one in REFACTORINGS]
            return [MenuEntry(kind, title, kind.action) for kind, title in titles if isinstance(title, str)]
        # A function's head without a body does not parse: giving it one is a fix, and all that can be done.
        repaired = with_body(source)
        view = SyntaxTreeCache().view(repaired) if repaired is not None else None
        title = body_title(view) if view is not None else None
        return [MenuEntry(registry.COMPLETE_BODY, title, "quickfix")] if isinstance(title, str) else []

    def prepare(self, kind: RefactoringKind, source: SelectedSource) -> PreparedPythonRefactoring:
        """Implement `Backend.prepare`."""
        view = whole_view(source)
        if view is None and (repaired := with_body(source)) is not None:
            view = whole_view(repaired)
        if view is None:
            raise RefactorError("syntax_error", _syntax_error(source.text), "Mend it first.")
        refactoring = next((one for one in REFACTORINGS if one.kind is kind), None)
        if kind in _OF_DEFINITIONS:
            view = _at_head(view)
        title = None if refactoring is None else _title(refactoring, view)
        if isinstance(title, Obstacle):
            raise RefactorError(title.rule, f"{kind.title} can't be done safely. {title.reason}", title.advice)
        if refactoring is None or title is None:
            raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
        return PreparedPythonRefactoring(refactoring, view, ProgramText(view.source.text))


@frozen
class PreparedPythonRefactoring:
    """A refactoring that applies at a selection of a parsed Python document."""

    refactoring: PythonRefactoring
    view: SelectionView
    before: ProgramText

    @property
    def text(self) -> str:
        """See `PreparedRefactoring.text`."""
        return self.before.text

    async def make(self, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
        """Implement `PreparedRefactoring.make`."""
        return await self.refactoring.make(self.view, assistant, report)

    def check(self, draft: RefactoringDraft) -> CheckFailure | None:
        """Implement `PreparedRefactoring.check`."""
        return first_failure(self.before, draft.text, draft.allowed)

    async def verify(
        self, offers: Sequence[RefactoringOffer], policy: VerificationPolicy, report: ProgressReport
    ) -> list[VerificationResult] | None:
        """Implement `PreparedRefactoring.verify`: doctests, and the test files that are named after the file."""
        from codegen_lsp.refactor.python.run_tests import verify, with_marked_body

        path, function = self.view.source.path, self.view.function
        if path is None:
            return None
        report("Running the tests", 0.9)
        results = [{**{other.path: other.after for other in offer.others}, path: offer.text} for offer in offers]
        marked = None
        if self.refactoring.kind is registry.COMPLETE_BODY and function is not None:
            marked = with_marked_body(self.text, function.lineno)
        return await asyncio.to_thread(verify, path, self.text, results, policy, marked)


def _title(refactoring: PythonRefactoring, view: SelectionView) -> str | Obstacle | None:
    """Return what `applies` returns; an obstacle where expressions are nested too deeply to be walked through."""
    try:
        return refactoring.applies(view)
    except RecursionError:
        return Obstacle("too_complex", "The code is nested too deeply to be analysed.")


def _at_head(view: SelectionView) -> SelectionView:
    """Return the view with the cursor on the head of the definition around; that of a selection as it is."""
    if not view.definitions or view.header is not None or view.source.selected.strip():
        return view
    start = view.span(view.definitions[-1])[0]
    return evolved(view, start, start)


def _syntax_error(text: str) -> str:
    try:
        compile(text, "<document>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"The file does not parse: line {error.lineno}: {error.msg}."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"The file does not parse: {error}."
    return "The file does not parse."
