"""The refactorings there are, as a table: where each applies, by syntax alone, and what does it.

`menu` is all that is asked while a cursor moves. What does the work is named, not imported: it costs rope and libcst,
which nobody shall wait for before a refactoring is chosen.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python import applicability as at
from codegen_lsp.refactor.python.selection import SelectionView, SyntaxTreeCache, with_body

Applies = Callable[[SelectionView], str | None]
"""The title of the action at this place, or None where it does not apply."""


@frozen
class RefactoringKind:
    """One refactoring."""

    name: str
    """On the command line."""
    action: str
    """LSP code action kind."""
    title: str
    """What is being done, for progress and questions."""
    applies: Applies
    make: str
    """`module:function` below this package."""
    needs_model: bool = False
    """Whether nothing can be made without a model."""
    confirm: bool = False
    """Whether the result is shown for confirmation before it is applied, whatever the editor."""

    @property
    def writes_code(self) -> bool:
        """Whether the model writes what is to be run."""
        return self.name in ("complete-body", "comment-to-code", "rewrite")

    @property
    def several_results(self) -> bool:
        """Whether there may be several results to choose from."""
        return self.name not in ("inline-variable", "inline-function", "type-hints")


KINDS: tuple[RefactoringKind, ...] = (
    RefactoringKind(
        "extract-variable",
        "refactor.extract.variable",
        "Extract variable",
        at.extract_variable,
        "extract:variable",
    ),
    RefactoringKind(
        "extract-function",
        "refactor.extract.function",
        "Extract function",
        at.extract_function,
        "extract:function",
    ),
    RefactoringKind(
        "inline-variable", "refactor.inline.variable", "Inline variable", at.inline_variable, "inline:variable"
    ),
    RefactoringKind(
        "inline-function", "refactor.inline.function", "Inline function", at.inline_function, "inline:function"
    ),
    RefactoringKind("rename", "refactor.rewrite.rename", "Rename", at.rename, "rename:rename"),
    RefactoringKind(
        "docstring", "refactor.rewrite.docstring", "Write docstring", at.docstring, "docstrings:docstring", True
    ),
    RefactoringKind(
        "type-hints", "refactor.rewrite.typeHints", "Add type hints", at.type_hints, "type_hints:type_hints"
    ),
    RefactoringKind(
        "complete-body", "refactor.rewrite.body", "Write body", at.complete_body, "bodies:complete_body", True
    ),
    RefactoringKind(
        "comment-to-code",
        "refactor.rewrite.comment",
        "Write code",
        at.comment_to_code,
        "bodies:from_comment",
        True,
    ),
    RefactoringKind("simplify", "refactor.rewrite.simplify", "Simplify", at.simplify, "simplify:simplify"),
    RefactoringKind(
        "rewrite", "refactor.rewrite.toComment", "Rewrite", at.rewrite, "rewrite:rewrite", True, confirm=True
    ),
)
"""In the order of the menu; what a model writes freely comes last."""


@frozen
class MenuEntry:
    """What may be chosen at a place."""

    kind: RefactoringKind
    title: str
    action: str
    """LSP code action kind: the refactoring's own, or `quickfix` where it mends the program."""


def kind_named(name: str) -> RefactoringKind | None:
    """The kind with this name."""
    return next((kind for kind in KINDS if kind.name == name), None)


def menu(source: SelectedSource, trees: SyntaxTreeCache | None = None) -> list[MenuEntry]:
    """What may be done at the selection, by syntax alone. `trees` are those of the same text."""
    if source.language != "python":
        return _menu_of_braces(source)
    view = (trees or SyntaxTreeCache()).view(source)
    if view is not None:
        return [MenuEntry(kind, title, kind.action) for kind in KINDS if (title := kind.applies(view))]
    # A function's head without a body is no program: giving it one is a fix, and all that can be done.
    mended = with_body(source)
    view = SyntaxTreeCache().view(mended) if mended is not None else None
    body = kind_named("complete-body")
    if view is None or body is None or not (title := body.applies(view)):
        return []
    return [MenuEntry(body, title, "quickfix")]


def _menu_of_braces(source: SelectedSource) -> list[MenuEntry]:
    """The menu for the languages that have only their syntax to go by."""
    from codegen_lsp.refactor import treesitter as braces

    if source.language not in braces.LANGUAGES:
        return []
    titles = {"docstring": braces.docstring_title(source), "complete-body": braces.body_title(source)}
    return [MenuEntry(kind, title, kind.action) for kind in KINDS if (title := titles.get(kind.name))]
