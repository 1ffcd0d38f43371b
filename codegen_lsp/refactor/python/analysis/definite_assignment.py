"""Local variables that are read before anything can have given them a value."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from codegen_lsp.refactor.python.analysis.scopes import bound_by, names_in_import, parameters
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Function, walk_scope


def unbound(tree: ast.AST) -> set[str]:
    """Return the local variables that are read where nothing can have given them a value, as `function: name`."""
    return {
        f"{node.name}: {name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in _unbound_in(node)
    }


def _unbound_in(function: Function) -> set[str]:
    nodes = list(walk_scope(function))
    # Names that are bound in other ways than by plain assignments and loops are not examined.
    excluded = {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    excluded |= {name for node in nodes for name in bound_by(node) if not isinstance(node, ast.Name)}
    excluded |= {
        name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in names_in_import(node)
    }
    inner = [node for node in nodes if isinstance(node, ast.comprehension | ast.NamedExpr)]
    excluded |= {one.id for node in inner for one in ast.walk(node.target) if isinstance(one, ast.Name)}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local = stored - excluded - {one.arg for one in parameters(function)}
    found: set[str] = set()
    _read_first(function.body, local, set(), found, sure=True, looping=False)
    return found


def _read_first(
    body: list[ast.stmt], local: set[str], bound: set[str], found: set[str], *, sure: bool, looping: bool
) -> None:
    """Add to `found` the variables that a suite reads before they are in `bound`, to `bound` those that it may bind.

    Args:
        body: the suite.
        local: the variables in question.
        bound: variables that may have a value.
        found: variables that are read before they have one.
        sure: the suite is executed before the statements below it, even in the first iteration of a loop.
        looping: the suite is inside a loop.
    """
    for statement in body:
        if isinstance(statement, DEFINITIONS):
            continue
        suites = list(_suites(statement))
        inner = {id(node) for suite in suites for one in suite for node in ast.walk(one)}
        names = [node for node in walk_scope(statement) if isinstance(node, ast.Name) and id(node) not in inner]
        if sure:
            # An item of a `with` statement may read what an earlier item binds.
            own = {one.id for one in names if isinstance(statement, ast.With | ast.AsyncWith) and not _reads(one)}
            maybe = {id(node) for one in walk_scope(statement) for part in _maybe(one) for node in ast.walk(part)}
            found |= {one.id for one in names if _reads(one) and id(one) not in maybe} & local - bound - own
        bound |= {one.id for one in names if not _reads(one)}
        loop = isinstance(statement, ast.For | ast.AsyncFor | ast.While)
        follows = (loop and not looping) or isinstance(statement, ast.With | ast.AsyncWith | ast.Try)
        for at, suite in enumerate(suites):
            _read_first(suite, local, bound, found, sure=sure and follows and at == 0, looping=looping or loop)


def _maybe(node: ast.AST) -> list[ast.expr]:
    """Return the parts of an expression that may not be evaluated."""
    if isinstance(node, ast.BoolOp):
        return node.values[1:]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Compare):
        return node.comparators[1:]
    return [node] if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) else []


def _reads(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _suites(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    yield getattr(statement, "body", [])
    yield from (one.body for field in ("handlers", "cases") for one in getattr(statement, field, []))
    yield getattr(statement, "orelse", [])
    yield getattr(statement, "finalbody", [])
