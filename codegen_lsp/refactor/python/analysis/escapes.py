"""Uses of names that are not written as names: by `locals()`, `eval`, frames, strings and doctests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.ast_nodes import walk_scope

_OF_FRAME = frozenset({"locals", "eval", "exec"})
"""Built-in functions that see the variables of their caller."""
_WITHOUT_ARGUMENTS = frozenset({"vars", "dir"})
"""Built-in functions that do so when they are called without arguments."""
_OF_MODULE = frozenset({"globals"})
_FRAMES_OF_MODULE = frozenset({"f_globals", "f_locals"})
_FRAMES = frozenset({"_getframe", "currentframe", "getouterframes", "getinnerframes", "f_locals", "f_globals"})
_DOCTEST = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(.*)$", re.MULTILINE)


def dynamic_uses(scope: Scope, *, of_module: bool = False) -> Iterator[ast.expr]:
    """Yield the expressions in a scope that may use its variables by name, or look at its frame.

    Args:
        scope: the function or module; functions inside it are searched, too.
        of_module: the variables in question are those of the module, which `locals()` in a function does not see.
    """
    top = {id(node) for node in walk_scope(scope.node)} if of_module else frozenset[int]()
    harmless = set()
    for node in ast.walk(scope.node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _WITHOUT_ARGUMENTS:
            if node.args or node.keywords:
                harmless.add(id(node.func))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in harmless:
            local = node.id == "locals" or node.id in _WITHOUT_ARGUMENTS
            if of_module and (node.id in _OF_MODULE or (local and id(node) not in top)):
                if node.id in _OF_MODULE:
                    yield node
            elif local or node.id in _OF_FRAME:
                yield node
        elif isinstance(node, ast.Attribute) and node.attr in (_FRAMES_OF_MODULE if of_module else _FRAMES):
            yield node


def class_listing(tree: ast.AST) -> ast.AST | None:
    """Return an expression that may list the members of a class, so that a new one shows; None without one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _WITHOUT_ARGUMENTS and isinstance(node.ctx, ast.Load):
            return node
        if isinstance(node, ast.Attribute) and node.attr in ("__dict__", "getmembers", "getmembers_static"):
            return node
    return None


def module_listing(tree: ast.Module) -> ast.expr | None:
    """Return an expression that may list the variables of the module, so that a new one shows; None without one."""
    looked_up = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
    }
    top = {id(node) for node in walk_scope(tree)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or id(node) in looked_up:
            continue
        own = node.func.id in ("vars", "dir", "locals") and not node.args and id(node) in top
        module = node.func.id in ("vars", "dir") and any(
            (isinstance(one, ast.Attribute) and one.attr in ("modules", "import_module"))
            or (isinstance(one, ast.Name) and one.id in ("__import__", "import_module"))
            for one in ast.walk(node)
        )
        if node.func.id == "globals" or own or module:
            return node
    return None


def names_in_string(text: str) -> set[str]:
    """Return the variables and attributes that a string names if it is an expression; none for prose."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        # A hint such as Optional["Node"] has a string in a string.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != text:
            found |= names_in_string(node.value)
    return found


def doctest_has(text: str, name: str) -> bool:
    """Return whether the examples in a docstring have a name."""
    return any(re.search(rf"\b{re.escape(name)}\b", one) for one in _DOCTEST.findall(text))
