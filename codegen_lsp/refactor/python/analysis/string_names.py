"""Strings that name a variable, class or function: hints, `NewType`, `getattr`, doctests.

A string that reads as an expression with the name counts where code may take it for a name: in a hint, as an argument,
as a key of a namespace. Prose, keys of other dictionaries and `__all__` do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Literal

from codegen_lsp.refactor.python.analysis.escapes import doctest_has, names_in_string
from codegen_lsp.refactor.python.ast_nodes import docstring_node

Reach = Literal["local", "private", "public"]
"""Who can name a symbol in a string. A local one is named by hints and the like only; where a string has the name of a
public one, it may as well mean something else."""
_MAKERS = frozenset(
    {"cast", "NewType", "TypeVar", "ParamSpec", "TypeVarTuple", "namedtuple", "NamedTuple", "TypedDict", "Enum", "type"}
)
"""Functions that take the name of a type, or of the variable that their result is assigned to."""
_PLAIN_METHODS = frozenset(
    {"get", "pop", "setdefault", "startswith", "endswith", "join", "split", "strip", "replace", "format", "append"}
    | {
        "add",
        "index",
        "count",
        "remove",
        "discard",
        "debug",
        "info",
        "warning",
        "error",
        "exception",
        "write",
        "encode",
    }
    | {"find", "add_argument", "print", "len", "str", "repr", "ValueError", "TypeError", "KeyError", "RuntimeError"}
)
"""Functions that take a string for what it is."""


def uses_in_strings(tree: ast.AST, name: str, reach: Reach = "private") -> list[ast.Constant]:
    """Return the strings that may name a variable.

    Args:
        tree: the program, or the part of it in which the variable is known.
        name: the variable.
        reach: who can name it in a string.
    """
    found = list(_in_docstrings(tree, name))
    above = {id(child): (node, field) for node in ast.walk(tree) for field, child in _children(node)}
    docstrings = {id(one) for one in found}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if name not in node.value:
            continue
        dotted = reach != "local" and re.search(rf"[.:]{re.escape(name)}$", node.value)
        if dotted or (name in names_in_string(node.value) and _counts(node, above, reach)):
            found.append(node)
    return sorted(found, key=lambda one: (one.lineno, one.col_offset))


def debug_uses(tree: ast.AST, name: str) -> Iterator[ast.AST]:
    """Yield the f-strings that print the name of a variable: `f"{name=}"`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for text, value in zip(node.values, node.values[1:], strict=False):
                if (
                    isinstance(text, ast.Constant)
                    and isinstance(value, ast.FormattedValue)
                    and str(text.value).rstrip().endswith("=")
                    and name in str(text.value)
                    and any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(value))
                ):
                    yield node


def _in_docstrings(tree: ast.AST, name: str) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        text = docstring_node(node)
        if text is not None and isinstance(text.value, ast.Constant) and doctest_has(text.value.value, name):  # type: ignore[arg-type]
            yield text.value


def _counts(node: ast.Constant, above: dict[int, tuple[ast.AST, str]], reach: Reach) -> bool:
    """Return whether code may take a string for a name."""
    parent, field = above.get(id(node), (None, ""))
    nested = node
    while parent is not None and isinstance(parent, ast.List | ast.Tuple | ast.Set | ast.Subscript | ast.BinOp):
        if isinstance(parent, ast.Subscript) and field == "slice" and not _may_be_hint(parent, above):
            return reach != "local" and _is_namespace(parent.value)
        nested = parent  # type: ignore[assignment]
        parent, field = above.get(id(nested), (None, ""))
    if isinstance(parent, ast.Assign | ast.AnnAssign) and field == "value":
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        if any(isinstance(one, ast.Name) and one.id == "__all__" for one in targets):
            return False
    if field in ("annotation", "returns"):
        return True
    if isinstance(parent, ast.keyword):
        parent = above.get(id(parent), (None, ""))[0]
    if isinstance(parent, ast.Call):
        called = parent.func.attr if isinstance(parent.func, ast.Attribute) else getattr(parent.func, "id", "")
        return called in _MAKERS if reach == "local" else called not in _PLAIN_METHODS
    plain = (ast.Expr, ast.Compare, ast.FormattedValue, ast.JoinedStr, ast.Dict)
    return reach == "private" and not isinstance(parent, plain)


def _may_be_hint(node: ast.Subscript, above: dict[int, tuple[ast.AST, str]]) -> bool:
    current: ast.AST = node
    while (found := above.get(id(current))) is not None:
        current, field = found
        if field in ("annotation", "returns"):
            return True
        if isinstance(current, ast.stmt):
            break
    return isinstance(node.value, ast.Name | ast.Attribute) and _last(node.value)[:1].isupper()


def _is_namespace(node: ast.expr) -> bool:
    """Return whether an expression is the dictionary of a module or an object."""
    if isinstance(node, ast.Call):
        return _last(node.func) in ("vars", "globals", "locals")
    return isinstance(node, ast.Attribute) and node.attr in ("__dict__", "modules")


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield field, child
