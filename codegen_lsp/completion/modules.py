"""Names of the workspace's modules that a document imports, for `undefined_names`.

A module counts as known only if its text has all the names that it can have at run time: those in its symbol table, by
Python's own compiler, and those of star imports of modules that are known themselves. A module that creates names while
it runs, that does not parse, or that may not be read is unknown, and any name of it is accepted. A package also has the
modules in its folder, readable or not.
"""

from __future__ import annotations

import posixpath
import re
import symtable
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from attrs import field, frozen

from codegen_lsp.completion.undefined_names import Modules, joined
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import ParseTree, node_at, parsed, text_of

SOURCE_FOLDERS = ("src", "lib")
"""Folders of a workspace that may contain its packages, beside its root."""
DEEPEST = 8
"""Length of a chain of star imports that is followed."""

_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]", re.MULTILINE)
_STAR_IMPORT = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*\(?[ \t]*\*", re.MULTILINE)
_MAKES_NAMES = re.compile(
    r"\b__getattr__\b|\b__dict__\b|\b__path__\b|\bglobals\(|\blocals\(|\bvars\(|\bexec\(|\bsetattr\(|\bsys\.modules\b"
)


@frozen
class Files:
    """The files of a workspace by path, relative to its root, with slashes."""

    paths: frozenset[str]
    """Python files that may be read."""
    read: Callable[[str], str | None]
    """Return the text of a file; None when it can't be read."""
    entries: Callable[[str], Iterable[str]]
    """Return the names of all entries of a folder, readable or not."""


@frozen
class _Text:
    """Names in a module's text."""

    names: frozenset[str] = field(factory=frozenset)
    stars: tuple[str, ...] = ()
    """Modules from which everything is imported, as written."""


def modules_of(text: str, path: str, files: Files) -> Modules:
    """Return the names in each module that a Python document imports, by the module's name as written there.

    `path` is that of the document. Unknown modules are left out.
    """
    source = parsed(text, LANGUAGES["python"])
    if source is None:
        return {}
    found = {}
    for module in dict.fromkeys(_imported(source)):
        names = _names_of(module, path, files, DEEPEST)
        if names is not None:
            found[module] = names
    return found


def _imported(source: ParseTree) -> Iterator[str]:
    """Yield everything in the document's imports that could be a module."""
    for match in _IMPORT.finditer(source.text):
        node = node_at(source, match.end() - 1, match.end())
        while node is not None and node.type not in ("import_statement", "import_from_statement"):
            node = node.parent
        if node is None:
            continue
        origin = node.child_by_field_name("module_name")
        if origin is not None:
            yield text_of(source, origin)
        for imported in node.children_by_field_name("name"):
            dotted = imported.child_by_field_name("name") or imported
            name = text_of(source, dotted)
            if origin is not None:
                yield joined(text_of(source, origin), name)
                continue
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _names_of(module: str, importer: str, files: Files, depth: int) -> frozenset[str] | None:
    """Return the names of a module imported by a file; None when it is unknown."""
    if depth == 0:
        return None
    names: set[str] = set()
    places = list(_places(module, importer, files))
    for path in places:
        text = files.read(path)
        told = _told(text) if text is not None else None
        if told is None:
            return None
        names |= told.names
        for star in told.stars:
            brought = _names_of(star, path, files, depth - 1)
            if brought is None:
                return None
            names |= brought
        if _is_package(path):
            names |= {entry.partition(".")[0] for entry in files.entries(posixpath.dirname(path))}
    return frozenset(names) if places else None


def _places(module: str, importer: str, files: Files) -> Iterator[str]:
    """Yield the files that a module may be. Which of them is imported depends on how the program is started, so all
    count."""
    name = module.lstrip(".")
    dots = len(module) - len(name)
    inside = name.replace(".", "/")
    if not dots and name.partition(".")[0] in sys.stdlib_module_names:
        return
    folders = [_above(importer, dots)] if dots else list(dict.fromkeys(_roots(importer, files)))
    for folder in folders:
        if folder is None:
            continue
        place = posixpath.join(folder, inside) if inside else folder
        for path in (f"{place}.py", posixpath.join(place, "__init__.py")):
            if path in files.paths:
                yield path


def _above(path: str, dots: int) -> str | None:
    """Return the folder from which a relative import starts; None beyond the workspace's root."""
    folder = posixpath.dirname(path)
    for _ in range(dots - 1):
        if not folder:
            return None
        folder = posixpath.dirname(folder)
    return folder


def _roots(importer: str, files: Files) -> Iterator[str]:
    """Yield folders from which absolute imports may start: those that are not packages, as for pytest and scripts."""
    folder = posixpath.dirname(importer)
    while folder.strip("/"):
        if posixpath.join(folder, "__init__.py") not in files.paths:
            yield folder
        folder = posixpath.dirname(folder)
    yield from ("", *SOURCE_FOLDERS)


def _is_package(path: str) -> bool:
    return posixpath.basename(path) == "__init__.py"


@lru_cache(maxsize=256)
def _told(text: str) -> _Text | None:
    """Return the names in a module's text; None when it may get names in other ways, or does not parse."""
    if _MAKES_NAMES.search(text):
        return None
    try:
        table = symtable.symtable(text, "", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_local()}
    return _Text(frozenset(names | set(_made_global(table))), tuple(_STAR_IMPORT.findall(text)))


def _made_global(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that functions declare global and bind."""
    for child in table.get_children():
        for symbol in child.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                yield symbol.get_name()
        yield from _made_global(child)
