"""Names in a suggestion that nothing defines, in Python.

A name counts as defined if there is any reason to think so: it is bound anywhere in a scope around its use, it is a
builtin, it is in a stretch that does not parse, or the document has a star import, which could bring any name. Only a
name that is certainly missing rejects a suggestion. A name that the suggestion itself binds is defined after its
binding, not before.

An attribute of `self` must be bound in the class or a base of it, or be used elsewhere in the document, if all bases
are known; an attribute or an imported name of a module must be among the module's names, if these are given, or be used
elsewhere in the document.

There is no symbol table: for each name that a suggestion uses, the other occurrences are inspected one by one until one
of them binds it. The cost depends on the number of names in the suggestion, not in the document.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.source.parse_tree import ParseTree, node_at, occurrences, text_of
from codegen_lsp.source.python_scopes import (
    COMPREHENSIONS,
    NAMED_PARAMETERS,
    PARAMETERS,
    PATTERNS,
    is_field,
    scope_bound,
    scopes_around,
)

if TYPE_CHECKING:
    from tree_sitter import Node

Modules = Mapping[str, frozenset[str]]
"""The names that modules define, by the modules' names in dotted form."""

ALWAYS_DEFINED = frozenset(dir(builtins)) | {
    *("__file__", "__path__", "__class__", "__qualname__", "__module__", "__annotations__", "__dict__", "__all__"),
    *("_", "WindowsError", "reveal_type", "get_ipython", "display"),
}
MOST_OCCURRENCES = 400
"""A name that occurs more often counts as defined."""

_ANYTHING_GOES = re.compile(
    r"^[ \t]*from[ \t]+[\w.]+[ \t]+import[ \t]+\*|\bglobals\(\)|\blocals\(\)|\bexec\(|\bsetattr\(", re.MULTILINE
)
_OPEN_CLASS = re.compile(r"__getattr|__dict__|\bvars\(|\bsetattr\(|Mixin\b|\bmetaclass\b")
_PLAIN_BASES = frozenset({"object", "ABC", "abc.ABC", "Generic", "typing.Generic", "t.Generic"})
_OBJECT = frozenset(dir(object)) | {"__dict__", "__module__", "__annotations__", "__slots__", "__weakref__", "__name__"}
_BRACKETED = frozenset({"list", "set", "dictionary", "argument_list", "parenthesized_expression", "tuple"})


@frozen
class Undefined:
    """A use of a name that nothing defines."""

    name: str
    """The name as written in code: `total`, `self.total`, `math.total`."""
    at: int
    """Offset in the text."""


def undefined_names(
    source: ParseTree, start: int, end: int, modules: Modules | None = None, *, made_up: int = 0
) -> Iterator[Undefined]:
    """Yield the undefined names that are used in `text[start:end]`, in order.

    `made_up` characters after `end` were added to close what the text leaves open. The `for` of a comprehension may
    still follow in such a bracket, and would bind a name.
    """
    if not source.language.is_python or _ANYTHING_GOES.search(source.text):
        return
    first, last = source.byte(start), source.byte(end)
    for word in _WORD.finditer(source.text, _word_start(source.text, start), end):
        node = node_at(source, word.start(), word.end())
        if node is None or node.type != "identifier" or node.end_byte > last or node.end_byte <= first:
            continue
        name, parent = word.group(), node.parent
        if parent is None or parent.type == "ERROR":
            continue
        if is_field(node, parent, "attribute", "attribute"):
            if owner := _undefined_attribute(source, node, parent, name, first, last, modules or {}):
                yield Undefined(f"{owner}.{name}", word.start())
        elif parent.type == "dotted_name":
            if module := _missing_import(source, parent, name, modules or {}):
                yield Undefined(f"{module}.{name}", word.start())
        elif not _is_use(node, parent) or _is_defined(source, node, name, first, last):
            continue
        elif not _may_be_bound_yet(node, last, source.byte(end + made_up)):
            yield Undefined(name, word.start())


_WORD = re.compile(r"[^\W\d]\w*")


def _word_start(text: str, at: int) -> int:
    while at > 0 and (text[at - 1].isalnum() or text[at - 1] == "_"):
        at -= 1
    return at


def _is_use(node: Node, parent: Node) -> bool:
    """Return true if the value of a name is read at this place."""
    if parent.type in ("keyword_argument", "global_statement", "nonlocal_statement", "keyword_pattern"):
        return parent.type == "keyword_argument" and not is_field(node, parent, "keyword_argument", "name")
    return scope_bound(node) is None


def _is_defined(source: ParseTree, use: Node, name: str, first: int, last: int) -> bool:
    if name in ALWAYS_DEFINED:
        return True
    chain = list(scopes_around(use))
    inner = next((scope for scope in chain if scope.type not in COMPREHENSIONS), chain[-1])
    for seen, node in enumerate(occurrences(source, name)):
        if seen > MOST_OCCURRENCES:
            return True
        if node.type != "identifier" or node == use:
            continue
        fresh = first < node.end_byte <= last
        if not fresh and _in_pieces(node):
            return True
        scope = scope_bound(node)
        if scope is None or not any(scope == around for around in chain):
            continue
        if scope.type == "class_definition" and scope != inner:
            continue
        if not fresh or _is_bound_by_then(node, use, scope, inner):
            return True
    return False


def _may_be_bound_yet(use: Node, last: int, closed: int) -> bool:
    """Return true if a name is the only element so far of a bracket that is closed between two bytes."""
    around = use.parent
    while around is not None and around.start_byte < last:
        if around.type in _BRACKETED and last < around.end_byte <= closed and _elements(around) == 1:
            return True
        around = around.parent
    return False


def _elements(bracketed: Node) -> int:
    return sum(child.type != "comment" for child in bracketed.named_children)


def _is_bound_by_then(binding: Node, use: Node, scope: Node, inner: Node) -> bool:
    """Return true if a binding in the suggestion applies to a use in it: after the statement, or in an inner
    function."""
    if scope != inner or (binding.parent is not None and binding.parent.type in PARAMETERS | NAMED_PARAMETERS):
        return True
    if scope.type in COMPREHENSIONS or any(
        scope == around for around in scopes_around(use) if around.type in COMPREHENSIONS
    ):
        return True
    if binding.parent is not None and binding.parent.type == "named_expression":
        return True
    statement = _assignment(binding)
    return use.start_byte >= statement.end_byte if statement is not None else binding.start_byte < use.start_byte


def _assignment(node: Node) -> Node | None:
    parent = node.parent
    while parent is not None and parent.type in PATTERNS:
        parent = parent.parent
    return parent if parent is not None and parent.type == "assignment" else None


def _in_pieces(node: Node) -> bool:
    """Return true if a name is directly in an error node, where it could be anything."""
    parent = node.parent
    while parent is not None and (parent.type in PATTERNS or parent.type in PARAMETERS):
        parent = parent.parent
    return parent is None or parent.type == "ERROR"


def _undefined_attribute(
    source: ParseTree, node: Node, attribute: Node, name: str, first: int, last: int, modules: Modules
) -> str | None:
    """Return what the attribute `name` is missing from: `self`, or the name of a module. None if it may be there."""
    owner = attribute.child_by_field_name("object")
    if owner is None or owner.type not in ("identifier", "attribute") or _is_target(attribute):
        return None
    variable = text_of(source, owner)
    class_node = _class_of_self(source, owner, variable) if owner.type == "identifier" else None
    if class_node is not None:
        return variable if _is_missing_from(source, class_node, name, first, last) else None
    if not modules or name.startswith("__") or _is_attribute_elsewhere(source, variable, name, first, last):
        return None
    module = _module_named(source, variable)
    if module is None or module not in modules:
        return None
    return None if name in modules[module] or joined(module, name) in modules else variable


def joined(module: str, name: str) -> str:
    """Return the dotted name of a member of a module; the name of a relative import may end with its dots."""
    return module + name if module.endswith(".") else f"{module}.{name}"


def _is_attribute_elsewhere(source: ParseTree, variable: str, name: str, first: int, last: int) -> bool:
    """Return true if the same attribute of the same variable is used outside of two bytes."""
    for node in occurrences(source, name):
        parent = node.parent
        if first < node.end_byte <= last or parent is None or parent.type != "attribute":
            continue
        owner = parent.child_by_field_name("object")
        if owner is not None and owner != node and text_of(source, owner) == variable:
            return True
    return False


def _is_target(attribute: Node) -> bool:
    inner, parent = attribute, attribute.parent
    while parent is not None and parent.type in PATTERNS:
        inner, parent = parent, parent.parent
    return (
        parent is not None
        and parent.type in ("assignment", "for_statement")
        and is_field(inner, parent, parent.type, "left")
    )


def _class_of_self(source: ParseTree, owner: Node, variable: str) -> Node | None:
    """Return the class of which `variable` is an instance: the first parameter of the method around."""
    for scope in scopes_around(owner):
        if scope.type != "function_definition":
            continue
        parameters = scope.child_by_field_name("parameters")
        names = [child for child in parameters.named_children if child.type != "comment"] if parameters else []
        if not names or text_of(source, names[0]) != variable:
            continue
        above = scope.parent
        if above is not None and above.type == "decorated_definition":
            if any(re.search("staticmethod|classmethod", text_of(source, child)) for child in above.children[:-1]):
                return None
            above = above.parent
        if above is None or above.type != "block" or above.parent is None or above.parent.type != "class_definition":
            return None
        return above.parent
    return None


def _is_missing_from(source: ParseTree, class_node: Node, name: str, first: int, last: int) -> bool:
    known = _with_bases(source, class_node)
    if known is None:
        return False
    classes, inherited = known
    if name in inherited or (name.startswith("__") and name.endswith("__")):
        return False
    for node in occurrences(source, name):
        parent = node.parent
        if first < node.end_byte <= last and (parent is None or parent.type != "attribute" or not _is_target(parent)):
            counts = _binds(node)
        else:
            counts = node.type != "identifier" or parent is None or parent.type in ("attribute", "ERROR")
        if counts or scope_bound(node) in classes:
            return False
    return True


def _with_bases(source: ParseTree, class_node: Node) -> tuple[list[Node], frozenset[str]] | None:
    """Return the class with all its bases in the document, and the attributes of builtin bases; None if there are
    others."""
    classes, inherited = [class_node], _OBJECT
    for one in classes:
        if not _is_closed(one, source):
            return None
        bases = one.child_by_field_name("superclasses")
        for base in bases.named_children if bases is not None else []:
            name = text_of(source, base).partition("[")[0].strip()
            if name in _PLAIN_BASES:
                continue
            binders = [node.parent for node in occurrences(source, name) if _binds(node)]
            builtin = getattr(builtins, name, None)
            if isinstance(builtin, type) and not binders:
                inherited |= frozenset(dir(builtin))
            elif len(binders) == 1 and binders[0] is not None and binders[0].type == "class_definition":
                classes += [binders[0]] if binders[0] not in classes else []
            else:
                return None
    return classes, inherited


def _binds(node: Node) -> bool:
    return node.type == "identifier" and scope_bound(node) is not None


def _is_closed(class_node: Node, source: ParseTree) -> bool:
    """Return true if a class adds to its bases only what is in its body: nothing there creates attributes."""
    if _OPEN_CLASS.search(text_of(source, class_node)) or class_node.has_error:
        return False
    return class_node.parent is None or class_node.parent.type != "decorated_definition"


def _module_named(source: ParseTree, variable: str) -> str | None:
    """Return the module that a name or a dotted name stands for, if an import binds it and nothing else does."""
    first, *rest = variable.split(".")
    found: set[str] = set()
    for node in occurrences(source, first):
        if _binds(node):
            found.add(_imported_module(source, node) or "")
    if len(found) != 1 or found == {""}:
        return None
    module = found.pop()
    for part in rest:
        module = joined(module, part)
    return module


def _imported_module(source: ParseTree, node: Node) -> str | None:
    """Return the module that an identifier bound by an import stands for; None if it is bound otherwise."""
    parent = node.parent
    if parent is None:
        return None
    if parent.type == "aliased_import":
        dotted, statement = parent.child_by_field_name("name"), parent.parent
    elif parent.type == "dotted_name" and node == parent.children[0]:
        dotted, statement = node, parent.parent
    else:
        return None
    if dotted is None or statement is None:
        return None
    name = text_of(source, dotted)
    if statement.type == "import_statement":
        return name
    module = statement.child_by_field_name("module_name") if statement.type == "import_from_statement" else None
    return joined(text_of(source, module), name) if module is not None else None


def _missing_import(source: ParseTree, dotted: Node, name: str, modules: Modules) -> str | None:
    """Return the module of a `from` import that does not have the imported name."""
    parent = dotted.parent
    if parent is None or len(dotted.children) > 1:
        return None
    if parent.type == "aliased_import":
        dotted, parent = parent, parent.parent
    if parent is None or parent.type != "import_from_statement":
        return None
    module = parent.child_by_field_name("module_name")
    if module is None or module == dotted:
        return None
    path = text_of(source, module)
    names = modules.get(path)
    if names is None or name in names or joined(path, name) in modules or name.startswith("__"):
        return None
    return path
