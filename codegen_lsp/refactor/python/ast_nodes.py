"""Parsing, and walks over Python syntax trees that several modules need."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SCOPES = (*DEFINITIONS, ast.Lambda)


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a program, or None if it does not parse."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def suites_of(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements directly below a node."""
    for field in ("body", "orelse", "finalbody"):
        suite = getattr(node, field, None)
        if isinstance(suite, list) and suite and isinstance(suite[0], ast.stmt):
            yield suite
    for field in ("handlers", "cases"):
        for inner in getattr(node, field, None) or []:
            yield inner.body


def walk_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below, but not those inside other functions, classes and lambdas."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, SCOPES):
            yield from walk_scope(child)


def has_line(node: ast.AST, line: int) -> bool:
    """Return whether a node with a position, its decorators included, is on a line, counted from 1."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])  # type: ignore[attr-defined]
    return bool(first <= line <= node.end_lineno)  # type: ignore[attr-defined]


def nodes_near(node: ast.AST, line: int) -> Iterator[ast.AST]:
    """Yield the nodes below, but not those inside statements that are on other lines.

    A statement is on all lines from its first to its last. The places of expressions don't count: before Python 3.12,
    they are wrong inside f-strings.
    """
    left = [node]
    while left:
        for child in ast.iter_child_nodes(left.pop()):
            if not isinstance(child, ast.stmt) or has_line(child, line):
                yield child
                left.append(child)


def docstring_node(node: ast.AST) -> ast.Expr | None:
    """Return the docstring statement of a definition or module, or None."""
    body = getattr(node, "body", None)
    if not body or not isinstance(body, list) or not isinstance(body[0], ast.Expr):
        return None
    value = body[0].value
    return body[0] if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def is_stub(function: Definition) -> bool:
    """Return whether a function has nothing but a docstring, `...`, `pass` or `raise NotImplementedError`."""
    if isinstance(function, ast.ClassDef):
        return False
    rest = [statement for statement in function.body if statement is not docstring_node(function)]
    return all(_is_filler(statement) for statement in rest)


def _is_filler(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and statement.value.value is ...
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return False


def path_to(above: ast.AST, node: ast.AST) -> list[ast.AST] | None:
    """Return the nodes from one to another below it, both included; None if it is not below."""
    if above is node:
        return [above]
    for child in ast.iter_child_nodes(above):
        if (path := path_to(child, node)) is not None:
            return [above, *path]
    return None


def statement_runs(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield every run of consecutive statements below a node."""
    for inner in [node, *walk_scope(node)]:
        for suite in suites_of(inner):
            for first in range(len(suite)):
                for last in range(first, len(suite)):
                    yield suite[first : last + 1]


def lines_of(*nodes: ast.stmt) -> frozenset[int]:
    """Return the numbers of the lines that the statements occupy."""
    return frozenset(number for node in nodes for number in range(node.lineno, (node.end_lineno or node.lineno) + 1))
