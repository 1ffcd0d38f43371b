"""Where control flow leaves a run of statements."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from codegen_lsp.refactor.python.ast_nodes import SCOPES, walk_scope

_FRAME = frozenset({"locals", "vars", "eval", "exec", "globals", "super", "__class__", "__debug__"})
"""Names that depend on the frame in which they are used."""
_FRAMES = frozenset({"_getframe", "currentframe", "getouterframes", "print_stack", "extract_stack", "format_stack"})


def leaves_at_end(statements: Sequence[ast.stmt]) -> bool:
    """Return whether control flow leaves the statements only at their end, by an exception, or by a last `return`.

    Statements that depend on their frame (`await`, `yield`, `global`, `locals()`) do not qualify.
    """
    returns = 0
    for statement in statements:
        for inner in [statement, *walk_scope(statement)]:
            if isinstance(inner, ast.Yield | ast.YieldFrom | ast.Await | ast.AsyncFor | ast.AsyncWith):
                return False
            if isinstance(inner, ast.Global | ast.Nonlocal) or _deletes_variable(inner) or _counts_frames(inner):
                return False
            if isinstance(inner, ast.comprehension) and inner.is_async:
                return False
            if isinstance(inner, ast.Name) and inner.id in _FRAME:
                return False
            returns += isinstance(inner, ast.Return)
        if _jumps_out(statement):
            return False
    return returns == 0 or (returns == 1 and isinstance(statements[-1], ast.Return))


def _deletes_variable(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del)


def _counts_frames(node: ast.AST) -> bool:
    """Return whether a node depends on how many functions are being called."""
    return (isinstance(node, ast.keyword) and node.arg == "stacklevel") or (
        isinstance(node, ast.Attribute) and node.attr in _FRAMES
    )


def depends_on_frame(node: ast.AST) -> bool:
    """Return whether an expression gives something else in another function."""
    return any((isinstance(one, ast.Name) and one.id in _FRAME) or _counts_frames(one) for one in ast.walk(node))


def _jumps_out(node: ast.AST) -> bool:
    """Return whether the node has a `break` or `continue` of a loop around it."""
    if isinstance(node, ast.Break | ast.Continue):
        return True
    if isinstance(node, ast.For | ast.While | ast.AsyncFor):
        return any(_jumps_out(one) for one in node.orelse)
    return not isinstance(node, SCOPES) and any(_jumps_out(child) for child in ast.iter_child_nodes(node))
