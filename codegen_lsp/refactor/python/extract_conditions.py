"""Where a variable or a function can be extracted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from codegen_lsp.refactor.python.analysis.control_flow import leaves_at_end
from codegen_lsp.refactor.python.analysis.evaluation_order import HOSTS, has_effects, is_always_evaluated
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, docstring_node, path_to
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.source.lines import start_of_line


def extract_variable_title(view: SelectionView) -> str | None:
    """Return the title for an expression that is evaluated exactly once, when its statement begins; else None."""
    node, host = view.expression, view.statement
    if (
        node is None
        or not isinstance(host, HOSTS)
        or isinstance(node, ast.Name | ast.Starred | ast.Slice | ast.NamedExpr)
    ):
        return None
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or _is_docstring(host, node):
        return None
    if not _begins_its_line(view, host) or _is_elif(view, host):
        return None
    path = path_to(host, node)
    if path is None or not all(is_always_evaluated(above, below) for above, below in pairwise(path)):
        return None
    if any(isinstance(inner, ast.NamedExpr | ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        return None
    if has_effects(node) and any(has_effects(one) for one in _before(view, host, node)):
        return None
    return "Extract variable"


def extract_function_title(view: SelectionView) -> str | None:
    """Return the title for statements that control flow enters at their start and leaves at their end; else None."""
    statements = view.statements
    inner = view.definitions[-1] if view.definitions else None
    if not statements or isinstance(inner, ast.ClassDef) or not leaves_at_end(statements):
        return None
    if docstring_node(inner or view.tree) in statements:
        return None
    if all(isinstance(one, ast.Pass | ast.Import | ast.ImportFrom) for one in statements):
        return None
    if any(isinstance(one, DEFINITIONS) for one in statements):
        return None
    if inner is not None and inner in statements:
        return None
    in_method = len(view.definitions) > 1 and isinstance(view.definitions[-2], ast.ClassDef)
    return "Extract method" if in_method else "Extract function"


def _before(view: SelectionView, host: ast.AST, node: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions that are evaluated before the node within its statement."""
    start = view.span(node)[0]
    for inner in ast.walk(host):
        if isinstance(inner, ast.expr) and view.span(inner)[1] <= start:
            yield inner


def _is_docstring(host: ast.AST, node: ast.AST) -> bool:
    """Return whether the expression may be a docstring: a constant that is a statement of its own."""
    return isinstance(host, ast.Expr) and host.value is node and isinstance(node, ast.Constant)


def _begins_its_line(view: SelectionView, host: ast.stmt) -> bool:
    start = view.span(host)[0]
    return not view.source.text[start_of_line(view.source.text, start) : start].strip()


def _is_elif(view: SelectionView, host: ast.stmt) -> bool:
    return isinstance(host, ast.If) and view.source.text.startswith("elif", view.span(host)[0])
