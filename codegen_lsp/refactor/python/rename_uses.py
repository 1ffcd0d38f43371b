"""Uses of a module's definition, in the files of a workspace, that a rename of names can't reach."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from codegen_lsp.refactor.python.analysis.scopes import unknown
from codegen_lsp.refactor.python.analysis.string_names import uses_in_strings
from codegen_lsp.refactor.python.ast_nodes import parse

_BY_NAME = frozenset({"getattr", "setattr", "delattr", "hasattr", "object", "attrgetter", "methodcaller"})
"""Functions that take a name as a string; `object` as in `mock.patch.object`."""


def remaining_use(text: str, name: str, module: str, local: set[str], *, own: bool) -> str | None:
    """Return the reason why a file may still use the name that was renamed, or None.

    Args:
        text: the file after the rename.
        name: the old name.
        module: the dotted name of the module that defines it.
        local: the first parts of the dotted names of the workspace's modules.
        own: the file is the module itself.
    """
    tree = ast.parse(text)
    imported = dict(_imported(tree))
    own_imports = {alias for alias, source in imported.items() if source.split(".")[0] in local or source[:1] == "."}
    last = module.split(".")[-1]
    for node in ast.walk(tree):
        where = f"on line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            if any(one.name == name for one in node.names) and (node.level or source.split(".")[0] in local):
                return f"imports it {where} from where it was not found"
        elif isinstance(node, ast.Attribute) and node.attr == name:
            if isinstance(base := _base(node), ast.Call) or (isinstance(base, ast.Name) and base.id in own_imports):
                return f"may use it {where}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(rf"\b{last}[.:]{name}$", node.value):
                return f"names it in a string {where}"
        elif isinstance(node, ast.Call) and (_named_by(node, name) or _replaced_by(node, name, last, own_imports)):
            return f"looks it up by its name {where}"
    # A file that imports nothing of the workspace means something else by an equal string, but for examples.
    strings = uses_in_strings(tree, name, "public" if own or own_imports else "local")
    if strings:
        return f"names it in a string on line {strings[0].lineno}"
    stars = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))
    if (own or stars) and name in unknown(text):
        return "uses it in a way that can't be followed"
    return None


def use_of_module(texts: Mapping[Path, str], name: str, module: str) -> tuple[Path, str] | None:
    """Return a file that passes the module on as an object, if any file may then use the name of an object; or None.

    Args:
        texts: the files of the workspace, after the rename.
        name: the old name.
        module: the dotted name of the module that defines it.
    """
    last = module.split(".")[-1]
    passed = next(
        (
            (path, line)
            for path, text in texts.items()
            if re.search(rf"\b{last}\b", text) and (line := _line_that_passes(text, module)) is not None
        ),
        None,
    )
    if passed is None:
        return None
    for path, text in texts.items():
        tree = parse(text) if re.search(rf"\b{name}\b", text) else None
        for node in ast.walk(tree) if tree is not None else ():
            attribute = isinstance(node, ast.Attribute) and node.attr == name and not _is_self(node.value)
            if attribute or (isinstance(node, ast.Constant) and node.value == name):
                line = node.lineno  # type: ignore[attr-defined]
                return (
                    path,
                    f"may use it on line {line}, since {passed[0].name} passes the module on, on line {passed[1]}",
                )
    return None


def _line_that_passes(text: str, module: str) -> int | None:
    """Return the line on which a file uses a module other than for one of its attributes, or None."""
    tree = parse(text)
    if tree is None:
        return None
    aliases = dict(_modules_imported(tree))
    if not aliases:
        return None
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in owners:
            dotted = _dotted(node)
            first, _, rest = dotted.partition(".")
            meant = ".".join(part for part in (aliases.get(first, ""), rest) if part)
            # A relative import is compared by its last part.
            if first in aliases and meant in (module, "." + module.split(".")[-1]):
                return node.lineno
    return None


def _modules_imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, with the dotted name of what it may be as a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.asname, one.name) if one.asname else (one.name.split(".")[0],) * 2 for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." if node.level else f"{node.module}."
            yield from ((one.asname or one.name, source + one.name) for one in node.names)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.asname or one.name.split(".")[0], one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from ((one.asname or one.name, source) for one in node.names)


def _base(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute):
        node = node.value
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return node if called in ("import_module", "__import__", "reload") else ast.Constant(None)
    return node


def _named_by(node: ast.Call, name: str) -> bool:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return called in _BY_NAME and any(isinstance(one, ast.Constant) and one.value == name for one in node.args)


def _replaced_by(node: ast.Call, name: str, module: str, own_imports: set[str]) -> bool:
    """Return whether a call gets a module and the name as a keyword, as `patch.multiple(module, name=...)` does."""
    if not any(one.arg == name for one in node.keywords):
        return False
    return any(
        (isinstance(one, ast.Constant) and str(one.value).split(".")[-1] == module)
        or _dotted(one).split(".")[0] in own_imports
        for one in node.args
    )
