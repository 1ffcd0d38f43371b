"""Where type hints may be added, and the types that they may name.

A hint is an expression, evaluated when the function is defined unless the file postpones that. So a name in it must
have its value by then, and must not mean something else there. A type checker does not see either.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from codegen_lsp.refactor.python.analysis.scopes import BUILTINS, bindings, bound_at_top, bound_by, names_in_import
from codegen_lsp.refactor.python.ast_nodes import Function, walk_scope
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError

_READERS = frozenset(
    {"get_type_hints", "get_annotations", "__annotations__", "signature", "getfullargspec", "singledispatch"}
    | {"singledispatchmethod", "validate_call", "beartype", "typechecked", "Typer", "FastAPI", "APIRouter"}
)
"""Names that read the type hints of functions when a program runs."""
_HARMLESS = frozenset(
    {"property", "staticmethod", "classmethod", "setter", "getter", "deleter", "cached_property", "abstractmethod"}
    | {"cache", "lru_cache", "wraps", "contextmanager", "asynccontextmanager", "override", "final", "overload"}
    | {"fixture", "parametrize", "skip", "skipif", "xfail", "total_ordering", "deprecated"}
)
"""Last names of decorators that do not read type hints."""


def check_hints_are_unread(view: SelectionView, function: Function) -> None:
    """Raise RefactorError if the program may read the type hints of a function while it runs."""
    for one in function.decorator_list:
        name = _last_name(one)
        if name not in _HARMLESS:
            raise RefactorError(
                "hints_are_read",
                f"The decorator {ast.unparse(one)} of {function.name} may act on type hints.",
                "Add them by hand where they are meant to have an effect.",
            )
    for node in ast.walk(view.tree):
        if (isinstance(node, ast.Name) and node.id in _READERS) or (
            isinstance(node, ast.Attribute) and node.attr in _READERS
        ):
            raise RefactorError(
                "hints_are_read",
                f"{_last_name(node)} on line {node.lineno} reads type hints when the program runs.",
                "Add them by hand where they are meant to have an effect.",
            )


def known_types(view: SelectionView, function: Function) -> set[str]:
    """Return the names that mean a type in the head of a function, and modules, when the function is defined."""
    tree = view.tree
    own = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and not name.startswith("_")}
    bound = set(_bound_before(tree, function) if not _is_postponed(tree) else _bound_anywhere(tree))
    # A built-in name that the file binds, by an import for example, may mean anything.
    known = (own - bound_at_top(tree) - bound) | (bound - BUILTINS)
    deleted = {name for node in walk_scope(tree) if isinstance(node, ast.Delete) for name in _names_below(node)}
    return known - deleted - _hidden(view, function)


def _is_postponed(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(one.name == "annotations" for one in node.names)
        for node in tree.body
    )


def _bound_before(tree: ast.Module, function: Function) -> Iterator[str]:
    """Yield the types and modules that the module binds above the outermost statement around a function."""
    for statement in tree.body:
        if any(node is function for node in ast.walk(statement)):
            return
        yield from _bound_to_types(statement)


def _bound_anywhere(tree: ast.Module) -> Iterator[str]:
    for node in [*tree.body, *walk_scope(tree)]:
        yield from _bound_to_types(node)


def _bound_to_types(node: ast.AST) -> Iterator[str]:
    """Yield the names of classes and modules, and those that are written like a class, that a statement binds."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from names_in_import(node)
    elif isinstance(node, ast.Assign):
        yield from (name for name in _names_below(*node.targets) if name[:1].isupper())


def _names_below(*nodes: ast.AST) -> Iterator[str]:
    for node in nodes:
        yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))


def _hidden(view: SelectionView, function: Function) -> set[str]:
    """Return the names that the definitions around a function bind for themselves."""
    hidden: set[str] = set()
    for around in view.definitions:
        if around is function:
            break
        if isinstance(around, ast.ClassDef):
            for node in walk_scope(around):
                hidden.update(
                    names_in_import(node) if isinstance(node, ast.Import | ast.ImportFrom) else bound_by(node)
                )
        else:
            hidden |= {name for name in _identifiers(around) if bindings(around, name)}
    return hidden


def _identifiers(function: Function) -> set[str]:
    """Return the names that the code of a function may bind."""
    found = {one.arg for one in ast.walk(function) if isinstance(one, ast.arg)}
    for node in ast.walk(function):
        found.update(names_in_import(node) if isinstance(node, ast.Import | ast.ImportFrom) else bound_by(node))
    return found


def _last_name(node: ast.expr) -> str:
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
