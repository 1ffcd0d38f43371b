"""Rename a definition of a module in all files of the workspace that use it, or refuse with the reason.

rope finds the uses. It can't see a name in a string, or an attribute of an object of unknown type; the rename is
refused as soon as there may be such a use. Files in other languages, and packages outside the workspace that import
this one, are not considered.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from codegen_lsp.refactor.edits import Original
from codegen_lsp.refactor.python.analysis.bindings import scope_of_module
from codegen_lsp.refactor.python.analysis.escapes import doctest_has
from codegen_lsp.refactor.python.analysis.scopes import identifiers, unknown
from codegen_lsp.refactor.python.analysis.string_names import debug_uses
from codegen_lsp.refactor.python.ast_nodes import parse
from codegen_lsp.refactor.python.rename_lookups import (
    Place,
    enumerated,
    module_as_value,
    module_lookup,
    other_lookup,
    variable_replaced,
)
from codegen_lsp.refactor.python.rename_strings import docstrings, still_named_in_code, with_strings_renamed
from codegen_lsp.refactor.python.rope_backend import rename_everywhere
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.workspace.files import WorkspaceError
from codegen_lsp.workspace.reading import read_regular
from codegen_lsp.workspace.sources import OtherFile, Workspace, module_of

DECLARATIONS = ("pyproject.toml", "setup.cfg", "setup.py", "tox.ini")
"""Files of a project that name functions by `module:function`."""
MAX_DECLARATION_BYTES = 1_000_000
"""Size of the largest of them that is read."""
_BY_NAME = frozenset({"getattr", "setattr", "delattr", "hasattr", "object", "attrgetter", "methodcaller"})
"""Functions that take a name as a string; `object` as in `mock.patch.object`."""


@frozen
class RenamedFiles:
    """The changed files, with a placeholder for the new name that occurred in none of them."""

    text: str
    """The document, with LF line ends."""
    others: list[OtherFile]
    placeholder: str
    words: frozenset[str]
    """Names that the new name must not be: identifiers of the other files, and names of modules."""


def texts_of(workspace: Workspace) -> Mapping[Path, str]:
    """Return the texts of the workspace's files. Raises RefactorError when they can't be read."""
    try:
        return workspace.read()
    except WorkspaceError as error:
        raise RefactorError(error.rule, error.message, error.advice) from error


def rename_in(workspace: Workspace, path: Path, text: str, offset: int, name: str) -> RenamedFiles:
    """Rename a definition at the top level of a module. Raises RefactorError."""
    root, path = workspace.root.resolve(), path.resolve()
    raw = {one.resolve(): content for one, content in texts_of(workspace).items()}
    raw = {one: content for one, content in raw.items() if one.is_relative_to(root)}
    texts = {one: Original(content).normal() for one, content in raw.items()} | {path: text}
    module, source = module_of(path)
    sources = [one for one in dict.fromkeys([source, root, root / "src"]) if one.is_dir() and one.is_relative_to(root)]
    holding = {one: content for one, content in texts.items() if re.search(rf"\b{name}\b", content)}
    new = "renamed_symbol"
    while any(new in content for content in holding.values()):
        new += "_"
    for one, content in holding.items():
        if parse(content) is None:
            raise _refusal(name, one, root, "does not parse, and has the word, too")
    changed = rename_everywhere(root, sources, texts, path, offset, new, sorted(holding))
    changed = {
        one: with_strings_renamed(in_all(content, name, new), name, new)
        for one, content in changed.items()
        if content != texts[one]
    }
    for one, content in changed.items():
        if re.sub(rf"\b{new}\b", name, content) != texts[one]:
            raise RefactorError("another_meaning", f"More than {name} would change in {_shown(one, root)}.")
    local = _modules(texts, sources)
    _check_lookups(holding, changed, texts, name, module, path, root)
    for one in holding:
        if reason := _remaining_use(changed.get(one, texts[one]), name, module, local, own=one == path):
            raise _refusal(name, one, root, reason)
    _check_declarations(root, name, module)
    if path.with_suffix(".pyi").exists():
        raise _refusal(name, path.with_suffix(".pyi"), root, "may have it, too")
    others = [OtherFile(one, raw[one], content) for one, content in sorted(changed.items()) if one != path]
    words = {word for other in others for word in identifiers(ast.parse(other.after))}
    return RenamedFiles(changed.get(path, text), others, new, frozenset(words | {one.stem for one in texts}))


def _check_lookups(
    holding: Mapping[Path, str],
    changed: Mapping[Path, str],
    texts: Mapping[Path, str],
    name: str,
    module: str,
    path: Path,
    root: Path,
) -> None:
    """Raise RefactorError if a file may look the name up in the module, or has it in a doctest."""
    own = module.split(".")[-1]
    using = {
        one: tree for one, text in texts.items() if re.search(rf"\b{own}\b", text) and (tree := parse(text)) is not None
    }
    having = {own, *(one.parent.name if one.stem == "__init__" else one.stem for one in holding)}
    escapes = any(module_as_value(tree, module) is not None for tree in using.values())
    for one in holding:
        tree = ast.parse(changed.get(one, texts[one]))
        if one == path:
            found = module_lookup(tree, name, module)
        else:
            from_outside = escapes and _is_value(one, texts)
            found = (
                other_lookup(tree, name, having, escapes=escapes)
                or variable_replaced(tree, name, from_outside=from_outside)
                or _doctest_of(tree, name, own)
            )
        if one in changed and (shown := next(debug_uses(ast.parse(texts[one]), name), None)) is not None:
            found = getattr(shown, "lineno", 1), "a format string prints its name"
        if found is not None:
            raise _refusal(name, one, root, f"may use it on line {found[0]}: {found[1]}")
    for one, tree in using.items():
        if one != path and (found := enumerated(tree, module)) is not None:
            raise _refusal(name, one, root, f"may use it on line {found[0]}: {found[1]}")


def _is_value(path: Path, texts: Mapping[Path, str]) -> bool:
    """Return whether any file uses a file's module other than by `module.name`."""
    module, _ = module_of(path)
    word = re.compile(rf"\b{re.escape(module.split('.')[-1])}\b")
    trees = (parse(text) for text in texts.values() if word.search(text))
    return any(tree is not None and module_as_value(tree, module) is not None for tree in trees)


def _doctest_of(tree: ast.Module, name: str, own: str) -> Place | None:
    """Return where a doctest of another file has the name and that of its module, or None."""
    for node in docstrings(tree):
        if doctest_has(str(node.value), name) and doctest_has(str(node.value), own):
            return node.lineno, "a doctest has it"
    return None


def in_all(text: str, name: str, new: str) -> str:
    """Return the text with the name replaced in `__all__`. Raises RefactorError when it does not parse."""
    tree = parse(text)
    if tree is None:
        raise RefactorError("does_not_parse", "What rope made of it does not parse.")
    lines = text.split("\n")
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(one, ast.Name) and one.id == "__all__" for one in targets):
            continue
        found = [one for one in ast.walk(node) if isinstance(one, ast.Constant) and one.value == name]
        for one in sorted(found, key=lambda one: (one.lineno, one.col_offset), reverse=True):
            line = lines[one.lineno - 1].encode()
            entry = line[one.col_offset : one.end_col_offset].replace(name.encode(), new.encode())
            line = line[: one.col_offset] + entry + line[one.end_col_offset :]
            lines[one.lineno - 1] = line.decode()
    return "\n".join(lines)


def _modules(texts: Mapping[Path, str], sources: list[Path]) -> set[str]:
    """Return the first parts of the dotted names of the workspace's modules."""
    tops = set()
    for source in sources:
        for one in texts:
            if one.is_relative_to(source):
                first = one.relative_to(source).parts[0]
                tops.add(first.removesuffix(".py"))
    return tops


def _remaining_use(text: str, name: str, module: str, local: set[str], *, own: bool) -> str | None:
    """Return the reason why a file may still use the name that was renamed, or None."""
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
        elif isinstance(node, ast.Call) and _named_by(node, name):
            return f"looks it up by its name {where}"
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    scope = scope_of_module(tree)
    used = [] if own else scope.uses(name)
    if used and any(one.level or (one.module or "").split(".")[0] in local for one in stars):
        line = stars[0].lineno
        return f"has a variable of that name on line {used[0].line}, and imports all names on line {line}"
    if not own and (own_imports or last in text):
        named = still_named_in_code(tree, name, own_imports, binds=name in scope.bound or not own_imports)
        if named is not None:
            return f"names it in a string on line {named}"
    if (own or stars or any(isinstance(node, ast.Name) and node.id == "globals" for node in ast.walk(tree))) and (
        name in unknown(text)
    ):
        return "uses it in a way that can't be followed"
    return None


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


def _check_declarations(root: Path, name: str, module: str) -> None:
    for file in DECLARATIONS:
        try:
            text = read_regular(root / file, MAX_DECLARATION_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if re.search(rf"\b{re.escape(module)}\s*[:.]\s*{name}\b", text):
            raise _refusal(name, root / file, root, "names it")


def _refusal(name: str, path: Path, root: Path, why: str) -> RefactorError:
    message = f"{name} can't be renamed safely: {_shown(path, root)} {why}."
    return RefactorError("used_elsewhere", message, "Rename it with your language server for Python, and look it over.")


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
