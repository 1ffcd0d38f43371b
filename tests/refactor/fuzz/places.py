"""The selections at which each refactoring is tried: every one that a person could mean."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping

from codegen_lsp.refactor import registry
from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.registry import RefactoringKind

Place = tuple[int, int]
"""The start and the end of a selection."""
ENTRY = "target"
"""The function of a program that is called from outside."""
LONGEST_RUN = 4
"""Most statements that are selected together."""
_NAME = re.compile(r"[^\W\d]\w*")


def places(kind: RefactoringKind, text: str) -> list[Place]:
    """Return the selections in a text at which a refactoring is tried."""
    tree = ast.parse(text)
    return list(dict.fromkeys(_PLACES[kind.name](tree, Lines.of(text), text)))


def _span(lines: Lines, node: ast.AST) -> Place:
    start = lines.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
    return start, lines.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def _expressions(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not isinstance(node, ast.Name):
            yield _span(lines, node)


def _runs(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(node, field, None)
            if isinstance(suite, list):
                for first in range(len(suite)):
                    for last in range(first, min(len(suite), first + LONGEST_RUN)):
                        yield _span(lines, suite[first])[0], _span(lines, suite[last])[1]


def _suites(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(node, field, None)
            if isinstance(suite, list) and suite:
                yield _span(lines, suite[0])[0], _span(lines, suite[-1])[1]


def _names(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for found in _NAME.finditer(text):
        if found.group() != ENTRY:
            yield found.start(), found.start()


def _private_names(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for found in re.finditer(r"\b_[^\W\d]\w*", text):
        yield found.start(), found.start()


def _heads(tree: ast.Module, lines: Lines, text: str) -> Iterator[Place]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            start = _span(lines, node)[0]
            yield start, start


_PLACES: Mapping[str, Callable[[ast.Module, Lines, str], Iterator[Place]]] = {
    registry.EXTRACT_VARIABLE.name: _expressions,
    registry.EXTRACT_FUNCTION.name: _runs,
    registry.INLINE_VARIABLE.name: _names,
    registry.INLINE_FUNCTION.name: _private_names,
    registry.RENAME.name: _names,
    registry.TYPE_HINTS.name: _heads,
    registry.DOCSTRING.name: _heads,
    registry.SIMPLIFY.name: _suites,
}
KINDS = tuple(kind for kind in registry.KINDS if kind.name in _PLACES)
"""The refactorings that must not change what a program does; the others write code that is meant to."""
