"""Where a variable or a function can be inlined without changing what the program does."""

from __future__ import annotations

import ast
import re

from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.analysis.escapes import dynamic_uses
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle
from codegen_lsp.refactor.python.analysis.postponing import obstacle_to_postponing
from codegen_lsp.refactor.python.analysis.scopes import is_private
from codegen_lsp.refactor.python.ast_nodes import Function, docstring_node, parse, path_to
from codegen_lsp.refactor.python.selection import SelectionView, is_variable


def inline_variable_title(view: SelectionView) -> str | Obstacle | None:
    """Return the title for a variable whose value can as well be computed at its uses; else why not, or None."""
    found = variable_to_inline(view)
    if found is None or isinstance(found, Obstacle):
        return found
    return f"Inline variable '{found[1].targets[0].id}'"  # type: ignore[attr-defined]


def variable_to_inline(view: SelectionView) -> tuple[Function, ast.Assign, list[ast.Name]] | Obstacle | None:
    """Return the function, the assignment and the uses of the variable at the cursor, or why it can't be inlined."""
    function = view.function
    if function is None or view.name is None or not is_variable(view, view.name[1]):
        return None
    name = view.name[0]
    scope = view.facts.scope(function)
    if name not in scope.bound or name in scope.parameters:
        return None
    occurrences = scope.uses(name)
    bindings = [one for one in occurrences if one.kind != "read"]
    assignment = _plain_assignment(scope, bindings[0].node)
    if len(bindings) > 1:
        line = bindings[1].line
        return Obstacle("several_values", f"{name} is bound again on line {line}.", "Inline a variable with one value.")
    if assignment is None:
        return Obstacle("several_values", f"Line {bindings[0].line} does not just assign {name}.")
    uses = [one.node for one in occurrences if one.kind == "read" and isinstance(one.node, ast.Name)]
    if not uses:
        return None
    if (dynamic := next(dynamic_uses(scope), None)) is not None:
        return Obstacle("dynamic_names", f"The code on line {dynamic.lineno} may see the variables of the function.")
    for use in uses:
        if any(isinstance(node, ast.JoinedStr) for node in path_to(function, use) or []):
            return Obstacle("in_f_string", f"It is used in an f-string on line {use.lineno}.", "Take it out of there.")
    flow = view.facts.flow(function)
    if flow is None:
        return Obstacle("too_complex", "The function is too large to be analysed.")
    if (obstacle := obstacle_to_postponing(flow, assignment, uses)) is not None:
        return obstacle
    if _is_whole_suite(function, assignment):
        reason = f"Line {assignment.lineno} is the only statement of its block, which would be left empty."
        return Obstacle("only_statement", reason, "Move the assignment out of the block first.")
    return function, assignment, uses


def _plain_assignment(scope: Scope, target: ast.AST) -> ast.Assign | None:
    """Return the assignment that gives a value to one variable and does nothing else, or None."""
    for node in ast.walk(scope.node):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and node.targets[0] is target:
            return node
    return None


def _is_whole_suite(function: Function, statement: ast.stmt) -> bool:
    """Return whether a statement is alone in its suite."""
    return any(
        isinstance(suite := getattr(node, field, None), list) and len(suite) == 1 and suite[0] is statement
        for node in ast.walk(function)
        for field in ("body", "orelse", "finalbody")
    )


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
