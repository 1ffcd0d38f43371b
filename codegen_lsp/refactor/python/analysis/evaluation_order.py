"""When the parts of an expression or statement are evaluated."""

from __future__ import annotations

import ast

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
HOSTS = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Return,
    ast.Expr,
    ast.If,
    ast.For,
    ast.With,
    ast.Assert,
    ast.Raise,
    ast.Match,
)
"""Statements whose expressions are evaluated when the statement begins."""


def is_always_evaluated(above: ast.AST, below: ast.AST) -> bool:
    """Return whether the lower node is evaluated exactly once whenever the upper one is."""
    if isinstance(above, ast.BoolOp):
        return below is above.values[0]
    if isinstance(above, ast.IfExp):
        return below is above.test
    if isinstance(above, _COMPREHENSIONS):
        return below is above.generators[0]
    if isinstance(above, ast.comprehension):
        return below is above.iter
    if isinstance(above, ast.Compare):
        return below is above.left or below is above.comparators[0]
    if isinstance(above, ast.Assert):
        return below is above.test
    if isinstance(above, ast.If):
        return below is above.test
    if isinstance(above, ast.For):
        return below is above.iter
    if isinstance(above, ast.With):
        return below is above.items[0]
    if isinstance(above, ast.Match):
        return below is above.subject
    if isinstance(above, ast.AnnAssign):
        return below is above.value
    return not isinstance(above, ast.Lambda | ast.JoinedStr | ast.FormattedValue | ast.stmt) or isinstance(
        above, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.Raise
    )
