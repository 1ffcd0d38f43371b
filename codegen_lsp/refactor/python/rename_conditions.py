"""Where a name can be renamed: all its uses must be known."""

from __future__ import annotations

import ast
import re

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python.analysis.scopes import bindings, is_private, parameters
from codegen_lsp.refactor.python.ast_nodes import Function
from codegen_lsp.refactor.python.selection import SelectionView, is_variable


def rename_title(view: SelectionView) -> str | None:
    """Return the title for a name whose uses can all be found; else None."""
    if view.name is None:
        return None
    name, offset = view.name
    if not is_variable(view, offset) or (name.startswith("__") and name.endswith("__")):
        return None
    return f"Rename '{name}' to the likeliest name" if scope_of(view, name) is not None else None


def scope_of(view: SelectionView, name: str) -> Function | ast.Module | None:
    """Return the function or module that defines a name, if all uses of the name can be found; else None."""
    for function in reversed(view.definitions):
        if isinstance(function, ast.ClassDef):
            continue
        if not bindings(function, name):
            continue
        if any(isinstance(node, ast.Global | ast.Nonlocal) and name in node.names for node in ast.walk(function)):
            return None
        if any(one.arg == name for one in parameters(function)) and not _callers_are_here(view, function):
            return None
        return function
    if _in_class_body(view, name):
        return None
    pattern = rf"^(?:(?:async )?def|class) {name}\b|^{name}\s*(?::[^=\n]+)?=[^=]"
    found = re.search(pattern, view.source.text, re.MULTILINE)
    if found is None:
        return None
    if not is_private(name) and (view.source.workspace is None or _found_by_name(view.source, name, found.start())):
        return None
    return view.tree


def _found_by_name(source: SelectedSource, name: str, start: int) -> bool:
    """Return whether a public name may be looked up as a string: by a decorator, a test runner or a launcher."""
    above = source.text[:start].rpartition("\n\n")[2]
    return name.startswith(("test", "Test", "pytest_")) or name == "main" or bool(re.search("^@", above, re.MULTILINE))


def _in_class_body(view: SelectionView, name: str) -> bool:
    inner = view.definitions[-1] if view.definitions else None
    return isinstance(inner, ast.ClassDef) and inner.name != name


def _callers_are_here(view: SelectionView, function: Function) -> bool:
    """Return whether a function is local to another one, where all its calls give arguments by position."""
    above = view.definitions[: view.definitions.index(function)]
    if not above or isinstance(above[-1], ast.ClassDef):
        return False
    calls = [node for node in ast.walk(above[-1]) if isinstance(node, ast.Call)]
    return not any(
        isinstance(node.func, ast.Name) and node.func.id == function.name and node.keywords for node in calls
    )
