"""The names of a program: where they are bound and used, exported and imported, as far as one file tells."""

from __future__ import annotations

import ast
import builtins
import keyword
import symtable
from collections import Counter
from collections.abc import Iterator

from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Function, walk_scope

BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__path__", "__class__", "__module__", "__qualname__"}
RESERVED = BUILTINS | frozenset(keyword.kwlist) | frozenset(keyword.softkwlist)


def identifiers(node: ast.AST) -> Counter[str]:
    """Count every identifier below a node: variables, parameters, definitions, imports, attributes, keywords."""
    found: Counter[str] = Counter()
    for inner in ast.walk(node):
        found.update(_names_in(inner))
    return found


def variables(node: ast.AST) -> set[str]:
    """Return `identifiers` without attributes and keywords of calls: the names that a new variable could hide."""
    return {
        name
        for inner in ast.walk(node)
        if not isinstance(inner, ast.Attribute | ast.keyword)
        for name in _names_in(inner)
    }


def bound_at_top(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at its top level, but not by imports."""
    return {name for node in walk_scope(tree) for name in bound_by(node)}


def exported(tree: ast.Module) -> set[str]:
    """Return the names that other files may use: `__all__` if it is a plain list, else the public names."""
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            try:
                return set(ast.literal_eval(statement.value))  # type: ignore[attr-defined]
            except (ValueError, TypeError):
                break
    return {name for name in bound_at_top(tree) if not is_private(name)}


def is_private(name: str) -> bool:
    """Return whether a leading underscore marks the name as private."""
    return name.startswith("_") and not name.endswith("__")


def imported(tree: ast.Module) -> Counter[tuple[str, str, str | None]]:
    """Return every import as module, name and alias."""
    found: Counter[tuple[str, str, str | None]] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(("", alias.name, alias.asname) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.update(("." * node.level + (node.module or ""), alias.name, alias.asname) for alias in node.names)
    return found


def unknown(text: str) -> set[str]:
    """Return the names that are used but defined neither in the file nor by the language. Raises SyntaxError."""
    table = symtable.symtable(text, "<text>", "exec")
    known = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables = list(_tables(table))
    for inner in tables:
        known |= {
            symbol.get_name() for symbol in inner.get_symbols() if symbol.is_declared_global() and symbol.is_assigned()
        }
    known |= {child.get_name() for child in table.get_children() if child.get_type() in ("function", "class")}
    used = {
        symbol.get_name()
        for inner in tables
        for symbol in inner.get_symbols()
        if symbol.is_referenced() and (symbol.is_global() or (inner is table and not symbol.is_assigned()))
    }
    return used - known - BUILTINS


def bindings(function: Function, name: str) -> int:
    """Return how often a function's own code binds a name; a parameter counts once, `global` and `nonlocal` twice."""
    arguments = function.args
    own = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    own += [one for one in (arguments.vararg, arguments.kwarg) if one]
    count = sum(one.arg == name for one in own)
    for node in walk_scope(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            count += 2 * (name in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            count += sum((alias.asname or alias.name.split(".")[0]) == name for alias in node.names)
        else:
            count += sum(bound == name for bound in bound_by(node))
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal) and node not in function.body:
            count += 2 * (name in node.names)
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            count += 1
    return count


def parameters(function: Function) -> list[ast.arg]:
    """Return all parameters in order, `*args` and `**kwargs` included."""
    arguments = function.args
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *([arguments.vararg] if arguments.vararg else []),
        *arguments.kwonlyargs,
        *([arguments.kwarg] if arguments.kwarg else []),
    ]


def names_in_import(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the names that an import binds."""
    return [(one.asname or one.name).split(".")[0] for one in node.names]


def bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node itself binds, by anything but an import or a parameter."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        yield from [node.name] if node.name else []
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _names_in(node: ast.AST) -> Iterator[str]:
    yield from bound_by(node)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.arg | ast.keyword) and node.arg:
        yield node.arg
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
