"""The refactorings as a table: the name of each, its LSP code action kind, and how its results are presented.

The table holds values only. Where a refactoring applies and how it is made depends on the language: see `backend`.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class RefactoringKind:
    """One refactoring."""

    name: str
    """Name on the command line and in the data of code actions."""
    action: str
    """LSP code action kind."""
    title: str
    """Title for progress reports and questions."""
    needs_model: bool = False
    """The refactoring can't be made without a model."""
    writes_code: bool = False
    """The model writes code that will be executed, so by default results are verified by tests."""
    several_results: bool = True
    """There may be several results to choose from."""
    confirm: bool = False
    """The result is shown for confirmation before it is applied, in every editor."""


EXTRACT_VARIABLE = RefactoringKind("extract-variable", "refactor.extract.variable", "Extract variable")
EXTRACT_FUNCTION = RefactoringKind("extract-function", "refactor.extract.function", "Extract function")
INLINE_VARIABLE = RefactoringKind(
    "inline-variable", "refactor.inline.variable", "Inline variable", several_results=False
)
INLINE_FUNCTION = RefactoringKind(
    "inline-function", "refactor.inline.function", "Inline function", several_results=False
)
RENAME = RefactoringKind("rename", "refactor.rewrite.rename", "Rename")
DOCSTRING = RefactoringKind("docstring", "refactor.rewrite.docstring", "Write docstring", needs_model=True)
TYPE_HINTS = RefactoringKind("type-hints", "refactor.rewrite.typeHints", "Add type hints", several_results=False)
COMPLETE_BODY = RefactoringKind(
    "complete-body", "refactor.rewrite.body", "Write body", needs_model=True, writes_code=True
)
COMMENT_TO_CODE = RefactoringKind(
    "comment-to-code", "refactor.rewrite.comment", "Write code", needs_model=True, writes_code=True
)
SIMPLIFY = RefactoringKind("simplify", "refactor.rewrite.simplify", "Simplify")
REWRITE = RefactoringKind(
    "rewrite", "refactor.rewrite.toComment", "Rewrite", needs_model=True, writes_code=True, confirm=True
)

KINDS: tuple[RefactoringKind, ...] = (
    EXTRACT_VARIABLE,
    EXTRACT_FUNCTION,
    INLINE_VARIABLE,
    INLINE_FUNCTION,
    RENAME,
    DOCSTRING,
    TYPE_HINTS,
    COMPLETE_BODY,
    COMMENT_TO_CODE,
    SIMPLIFY,
    REWRITE,
)
"""In the order of the menu; refactorings in which the model writes code freely come last."""


def kind_named(name: str) -> RefactoringKind | None:
    """Return the refactoring with this name, or None."""
    return next((kind for kind in KINDS if kind.name == name), None)
