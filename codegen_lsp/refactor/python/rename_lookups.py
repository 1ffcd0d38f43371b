"""Uses of a name that are not written as the name: `globals()["name"]`, `vars(module)`, `patch("module.name")`.

A rename does not find them, so it is refused as soon as there may be one. Each function returns the line and the
reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from codegen_lsp.refactor.python.analysis.bindings import scope_of_module
from codegen_lsp.refactor.python.ast_nodes import walk_scope

Place = tuple[int, str]
"""A line, and the reason why the name may be used there."""

_BY_NAME = frozenset({"getattr", "setattr", "delattr", "hasattr", "object", "attrgetter", "methodcaller", "multiple"})
"""Functions that take a name as a string or as a keyword; `object` and `multiple` as in `mock.patch.object`."""
_NAMESPACES = frozenset({"globals", "__dict__", "modules", "import_module", "__import__", "vars", "dir", "getmembers"})
"""Names by which the variables of a module can be had."""
_ALL_NAMES = frozenset({"vars", "dir", "getmembers", "getmembers_static"})
"""Functions that return all variables of the module that they get."""


def module_lookup(tree: ast.Module, name: str, module: str) -> Place | None:
    """Return where the module that defines a name may look it up in itself, or None."""
    own = module.split(".")[-1]
    return (
        _string_use(tree, name, {own})
        or _whole_namespace(tree, name)
        or (_unclear_use(tree, name) if _aliases(tree, own) or _has_namespace(tree) else None)
    )


def other_lookup(tree: ast.Module, name: str, modules: Collection[str], *, escapes: bool) -> Place | None:
    """Return where another file may look the name up in the module, or None.

    `modules` are the last names of modules that have or import it. `escapes` tells that the module is a value somewhere
    in the workspace, so that any object may be the module.
    """
    if found := _string_use(tree, name, modules):
        return found
    return _unclear_use(tree, name) if escapes or _has_namespace(tree) else None


def enumerated(tree: ast.Module, module: str) -> Place | None:
    """Return where a file looks up a computed name in the module, or all its names, or None."""
    own = module.split(".")[-1]
    modules = {own, *_aliases(tree, own)}
    fixed = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }
    for node in (one for one in ast.walk(tree) if id(one) not in fixed):
        if isinstance(node, ast.Call) and node.args and _last_name(node.args[0]) in modules:
            called = _last_name(node.func)
            computed = len(node.args) > 1 and not isinstance(node.args[1], ast.Constant)
            if called in _ALL_NAMES or (called in _BY_NAME and computed):
                return node.lineno, f"{ast.unparse(node)} may find it"
        elif isinstance(node, ast.Attribute) and node.attr == "__dict__" and _last_name(node.value) in modules:
            return node.lineno, f"{ast.unparse(node)} may find it"
    return None


def variable_replaced(tree: ast.Module, name: str, *, from_outside: bool) -> Place | None:
    """Return a use of another file's own variable of the name, which may get its value from the module; or None.

    The file may copy the variables of the module into its own, as `globals().update(vars(module))` does.
    `from_outside` tells that the file is itself a value somewhere in the workspace, so that other files may do so.
    """
    uses = scope_of_module(tree).uses(name)
    if not uses:
        return None
    if from_outside:
        return uses[0].line, f"another file may give it the value that {name} has in the module"
    if (found := _whole_namespace(tree, name)) is not None:
        return uses[0].line, f"line {found[0]} may give it the value that {name} has in the module"
    return None


def module_as_value(tree: ast.Module, module: str) -> int | None:
    """Return the line where a file uses the module other than by `module.name`, or None."""
    own = module.split(".")[-1]
    aliases = _aliases(tree, own)
    bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = re.compile(rf"(?:[\w.]+\.)?{re.escape(own)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            is_value = node.id in aliases and isinstance(node.ctx, ast.Load) and id(node) not in bases
        elif isinstance(node, ast.Attribute) and node.attr == "__dict__":
            is_value = _last_name(node.value) in {own, *aliases}
        elif isinstance(node, ast.Attribute):
            is_value = node.attr == own and id(node) not in bases
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_value = bool(named.fullmatch(node.value)) and _has_namespace(tree)
        else:
            is_value = False
        if is_value:
            return getattr(node, "lineno", 1)
    return None


def _aliases(tree: ast.Module, own: str) -> set[str]:
    """Return the names under which a file imports the module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name.split(".")[-1] == own:
                    found.add(alias.asname or alias.name.split(".")[-1])
    return found


def _string_use(tree: ast.Module, name: str, modules: Collection[str]) -> Place | None:
    """Return where a string is a path to the name, or code that has it, or is given to a function that looks it up."""
    word = re.compile(rf"\b{name}\b")
    path = re.compile(rf"\b(?:{'|'.join(map(re.escape, modules))})[.:]{name}$|^[.:]{name}$")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if path.search(node.value):
                return node.lineno, "a string names it"
        elif isinstance(node, ast.Call):
            called = _last_name(node.func)
            words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if called in _BY_NAME and any(name in one.split(".") for one in words):
                return node.lineno, "it is looked up by its name"
            if called in _BY_NAME and any(one.arg == name for one in node.keywords):
                return node.lineno, "it is looked up by its name"
            is_code = isinstance(node.func, ast.Name) and called in ("eval", "exec")
            if is_code and (not words or any(word.search(one) or "*" in one for one in words)):
                return node.lineno, f"{called} may use it"
    return None


def _whole_namespace(tree: ast.Module, name: str) -> Place | None:
    """Return where a module looks at its variables other than by one fixed name, or None."""
    fixed = {
        id(node.value)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value != name)
        or (isinstance(node, ast.Attribute) and node.attr != name and isinstance(node.value, ast.Subscript))
    }
    at_top = {id(node) for node in walk_scope(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and id(node) not in fixed:
            called = node.func.id
            of_module = id(node) in at_top and called in ("vars", "dir", "locals") and not node.args
            if called == "globals" or of_module:
                return node.lineno, f"{called}() may use it"
        if isinstance(node, ast.Subscript) and id(node) not in fixed and _is_computed_module(node):
            return node.lineno, f"{ast.unparse(node)} may use it"
    return None


def _is_computed_module(node: ast.Subscript) -> bool:
    return _last_name(node.value) == "modules" and not isinstance(node.slice, ast.Constant)


def _has_namespace(tree: ast.Module) -> bool:
    """Return whether a file can get at the variables of modules as values."""
    return any(
        (isinstance(node, ast.Name) and node.id in _NAMESPACES)
        or (isinstance(node, ast.Attribute) and node.attr in _NAMESPACES)
        for node in ast.walk(tree)
    )


def _unclear_use(tree: ast.Module, name: str) -> Place | None:
    """Return a use of the name as a string, a keyword or an attribute of anything, or None."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Constant) and node.value == name:
            return line, "a string may be its name"
        if isinstance(node, ast.Attribute) and node.attr == name and _last_name(node.value) not in ("self", "cls"):
            return line, f"{ast.unparse(node)} may be it"
        if isinstance(node, ast.keyword) and node.arg == name:
            return getattr(node.value, "lineno", 1), "a keyword may be its name"
        if isinstance(node, ast.MatchClass) and name in node.kwd_attrs:
            return line, "a pattern may look it up"
    return None


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
