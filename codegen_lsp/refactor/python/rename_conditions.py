"""Where a name can be renamed: all its uses must be known."""

from __future__ import annotations

import ast
import re

from attrs import frozen

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.analysis.escapes import dynamic_uses
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle
from codegen_lsp.refactor.python.analysis.scopes import is_private
from codegen_lsp.refactor.python.analysis.string_names import Reach, debug_uses, uses_in_strings
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Function
from codegen_lsp.refactor.python.rename_strings import are_renamed
from codegen_lsp.refactor.python.selection import SelectionView, is_variable

BY_HAND = "Rename it with your language server for Python, and look it over."
"""The advice where a rename is refused."""
_CALLS_BY_POSITION = frozenset({"sorted", "min", "max", "map", "filter", "reduce", "sort", "groupby", "takewhile"})
"""Functions that call the function that they get by position alone."""


@frozen
class RenamedSymbol:
    """A variable, function or class with all its uses in the file."""

    name: str
    scope: Scope
    """The scope that it is a variable of."""

    @property
    def around(self) -> Function | ast.Module:
        """The function that the symbol is local to, or the module."""
        scope = self.scope
        while not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            assert scope.parent is not None
            scope = scope.parent
        return scope.node


def rename_title(view: SelectionView) -> str | Obstacle | None:
    """Return the title for a name whose uses can all be found; else why they can't, or None."""
    found = symbol_to_rename(view)
    if found is None or isinstance(found, Obstacle):
        return found
    return f"Rename '{found.name}' to the likeliest name"


def symbol_to_rename(view: SelectionView) -> RenamedSymbol | Obstacle | None:
    """Return the symbol at the cursor, or why its uses can't be found; None where there is none."""
    if view.name is None:
        return None
    name, offset = view.name
    if not is_variable(view, offset) or (name.startswith("__") and name.endswith("__")):
        return None
    scope = _scope_at(view, name, offset)
    owner = None if scope is None else scope.owner(name)
    if owner is None or owner.kind in ("lambda", "class", "types"):
        return None
    if owner.kind == "module":
        return _of_module(view, owner, name)
    declared = [one for one in owner.uses(name) if one.kind == "declare"]
    if declared:
        return Obstacle("declared", f"{name} is declared for another scope on line {declared[0].line}.", BY_HAND)
    found = RenamedSymbol(name, owner)
    if name in owner.parameters:
        if not isinstance(above := owner.parent, Scope) or above.kind not in ("function", "comprehension"):
            return None
        if obstacle := _named_arguments(owner, above, name):
            return obstacle
    return _named_elsewhere(found.around, view.facts.scope(found.around), name) or found


def _scope_at(view: SelectionView, name: str, offset: int) -> Scope | None:
    """Return the scope in which the name at an offset is used or bound."""
    for scope in view.facts.module.on_line(view.lines.line(offset - view.first)):
        for one in scope.own.get(name, ()):
            if isinstance(one.node, DEFINITIONS):
                start = view.span(one.node)[0]
                if re.fullmatch(r"(?:async\s+)?(?:def|class)\s+", view.source.text[start:offset]):
                    return scope
            elif isinstance(one.node, ast.Name | ast.arg) and view.span(one.node)[0] == offset:
                return scope
    return None


def _of_module(view: SelectionView, module: Scope, name: str) -> RenamedSymbol | Obstacle | None:
    """Return a definition at the top level of the module, of which the menu has seen a part only."""
    pattern = rf"^(?:(?:async )?def|class) {name}\b|^{name}\s*(?::[^=\n]+)?=[^=]"
    defined = re.search(pattern, view.source.text, re.MULTILINE)
    if defined is None:
        return None
    private = is_private(name)
    if not private and (view.source.workspace is None or _found_by_name(view.source, name, defined.start())):
        return None
    obstacle = _named_elsewhere(view.tree, module, name, "private" if private else "public")
    return obstacle or RenamedSymbol(name, module)


def _named_elsewhere(node: ast.AST, scope: Scope, name: str, reach: Reach = "local") -> Obstacle | None:
    """Return an obstacle if a name is used other than as a name in the code that can see it."""
    if (found := next(dynamic_uses(scope, of_module=reach != "local"), None)) is not None:
        return Obstacle("dynamic_names", f"The code on line {found.lineno} may use {name} by its name.", BY_HAND)
    # The strings that name a definition of the module as a type, and its doctests, are renamed with it.
    renamed = are_renamed(node, name) if reach != "local" else set()
    strings = [*(one for one in uses_in_strings(node, name, reach) if id(one) not in renamed), *debug_uses(node, name)]
    if strings:
        line = getattr(strings[0], "lineno", 0)
        return Obstacle("named_in_string", f"{name} is named in the string on line {line}.", BY_HAND)
    return None


def _named_arguments(function: Scope, above: Scope, name: str) -> Obstacle | None:
    """Return an obstacle if a parameter of an inner function may be given by its name."""
    node = function.node
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if node.decorator_list:
        line = node.decorator_list[0].lineno
        return Obstacle("named_argument", f"The decorator on line {line} may use the names of parameters.", BY_HAND)
    positional_only = {one.arg for one in node.args.posonlyargs}
    unnamed = {one.arg for one in (node.args.vararg, node.args.kwarg) if one is not None}
    owner = above.owner(node.name)
    if name in positional_only | unnamed or owner is None:
        return None
    uses = {id(one.node): one for one in owner.uses(node.name) if one.kind != "write"}
    for call in (one for one in ast.walk(owner.node) if isinstance(one, ast.Call)):
        if id(call.func) in uses:
            uses.pop(id(call.func))
            if any(one.arg in (name, None) for one in call.keywords):
                reason = f"The call on line {call.lineno} may give {name} by its name."
                return Obstacle("named_argument", reason, BY_HAND)
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in _CALLS_BY_POSITION:
            for one in [*call.args, *(keyword.value for keyword in call.keywords)]:
                uses.pop(id(one), None)
    if uses:
        line = min(one.line for one in uses.values())
        reason = f"{node.name} is passed on on line {line}, and may be given {name} by its name."
        return Obstacle("named_argument", reason, BY_HAND)
    return None


def _found_by_name(source: SelectedSource, name: str, start: int) -> bool:
    """Return whether a public name may be looked up as a string: by a decorator, a test runner or a launcher."""
    above = source.text[:start].rpartition("\n\n")[2]
    return name.startswith(("test", "Test", "pytest_")) or name == "main" or bool(re.search("^@", above, re.MULTILINE))
