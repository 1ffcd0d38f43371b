"""The backend of each language.

Backends are imported on first use: the server starts without tree-sitter and without the analysis of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen_lsp.refactor.backend import Backend, MenuEntry
from codegen_lsp.refactor.edits import SelectedSource


def _python() -> Backend:
    from codegen_lsp.refactor.python.python_backend import PythonBackend

    return PythonBackend()


def _tree_sitter() -> Backend:
    from codegen_lsp.refactor.treesitter import TreeSitterBackend

    return TreeSitterBackend()


BACKENDS: Mapping[str, Callable[[], Backend]] = {
    "python": _python,
    "c": _tree_sitter,
    "cpp": _tree_sitter,
    "go": _tree_sitter,
    "java": _tree_sitter,
    "javascript": _tree_sitter,
    "javascriptreact": _tree_sitter,
}
"""Constructors of backends by LSP language identifier."""


def backend_for(language: str) -> Backend | None:
    """Return a new backend for a language, or None if it has no refactorings."""
    construct = BACKENDS.get(language)
    return construct() if construct is not None else None


def menu(source: SelectedSource) -> list[MenuEntry]:
    """Return the refactorings that apply at the selection. To ask repeatedly about one document, keep a backend."""
    backend = backend_for(source.language)
    return backend.menu(source) if backend is not None else []
