"""Where a variable or a function can be inlined."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from codegen_lsp.refactor.python.analysis.evaluation_order import HOSTS, has_effects, is_always_evaluated
from codegen_lsp.refactor.python.analysis.scopes import bindings, is_private, parameters
from codegen_lsp.refactor.python.ast_nodes import SCOPES, Function, docstring_node, parse, path_to, walk_scope
from codegen_lsp.refactor.python.selection import SelectionView, is_variable


def inline_variable_title(view: SelectionView) -> str | None:
    """Return the title for a variable whose value is the same at all its uses; else None."""
    found = variable_to_inline(view)
    return f"Inline variable '{found[1].targets[0].id}'" if found else None  # type: ignore[attr-defined]


def inline_function_title(view: SelectionView) -> str | None:
    """Return the title for a call of a private function of this file that only returns an expression; else None."""
    if view.name is None:
        return None
    name, offset = view.name
    text = view.source.text
    if view.source.text[:offset].rstrip(" ").endswith("."):
        return None
    if not is_private(name) or len(re.findall(rf"^def {name}\b", text, re.MULTILINE)) != 1:
        return None
    called = text[offset + len(name) :].startswith("(")
    return f"Inline function '{name}'" if called and _only_returns(text, name) else None


def _only_returns(text: str, name: str) -> bool:
    """Return whether a function at the top level does nothing but return an expression."""
    start = re.search(rf"^def {name}\b", text, re.MULTILINE)
    assert start is not None
    end = re.compile(r"^[^\s)#]", re.MULTILINE).search(text, start.end())
    tree = parse(text[start.start() : end.start() if end else len(text)])
    if tree is None or not tree.body or not isinstance(function := tree.body[0], ast.FunctionDef):
        return False
    rest = [one for one in function.body if one is not docstring_node(function)]
    return len(rest) == 1 and isinstance(rest[0], ast.Return) and rest[0].value is not None


def variable_to_inline(view: SelectionView) -> tuple[Function, ast.Assign, list[ast.Name]] | None:
    """Return the function, the assignment and the uses of the variable at the cursor, if it can be inlined."""
    function = view.function
    if function is None or view.name is None or not is_variable(view, view.name[1]):
        return None
    name = view.name[0]
    if bindings(function, name) != 1:
        return None
    assigned = [
        node
        for node in walk_scope(function)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
    ]
    if not assigned:
        return None
    (assignment,) = assigned
    uses = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == name and node is not assignment.targets[0]
    ]
    if not uses or not all(isinstance(use.ctx, ast.Load) for use in uses):
        return None
    if not _same_everywhere(function, assignment, uses) or any(_in_f_string(function, use) for use in uses):
        return None
    return function, assignment, uses


def _same_everywhere(function: Function, assignment: ast.Assign, uses: list[ast.Name]) -> bool:
    """Return whether the value is the same, and is evaluated as often, if it is evaluated at each use instead."""
    value = assignment.value
    if isinstance(value, ast.Constant):
        return True
    suite = next((suite for suite in _all_suites(function) if assignment in suite), [])
    after = suite[suite.index(assignment) + 1 :] if assignment in suite else []
    if isinstance(value, ast.Name) or (_is_arithmetic(value) and not has_effects(value)):
        names = {inner.id for inner in ast.walk(value) if isinstance(inner, ast.Name)}
        nodes = [node for node in walk_scope(function) if node is not assignment]
        rebound = {inner.id for inner in nodes if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
        nested = any(isinstance(node, SCOPES) for node in nodes)
        local = {one.arg for one in parameters(function)} | rebound
        return not names & rebound and names <= local and not nested and _within(after, uses)
    if len(uses) != 1 or not after:
        return False
    path = path_to(after[0], uses[0])
    if path is None or not isinstance(after[0], HOSTS) or isinstance(after[0], ast.AugAssign):
        return False
    if not all(is_always_evaluated(above, below) for above, below in pairwise(path)):
        return False
    earlier = [
        inner
        for inner in ast.walk(after[0])
        if isinstance(inner, ast.expr)
        and (inner.end_lineno, inner.end_col_offset) <= (uses[0].lineno, uses[0].col_offset)
    ]
    return not any(has_effects(one) for one in earlier)


def _is_arithmetic(value: ast.expr) -> bool:
    allowed = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    return all(isinstance(inner, allowed) for inner in ast.walk(value))


def _within(after: Sequence[ast.stmt], uses: Sequence[ast.AST]) -> bool:
    below = {id(inner) for statement in after for inner in ast.walk(statement)}
    return all(id(use) in below for use in uses)


def _in_f_string(function: ast.AST, use: ast.AST) -> bool:
    return any(isinstance(node, ast.JoinedStr) for node in path_to(function, use) or [])


def _all_suites(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for inner in [node, *walk_scope(node)]:
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(inner, field, None)
            if isinstance(suite, list):
                yield suite
