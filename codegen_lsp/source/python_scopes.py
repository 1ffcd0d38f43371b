"""Scopes of Python names in parse trees: where an identifier is bound, and the scopes around a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

COMPREHENSIONS = frozenset(
    {"list_comprehension", "dictionary_comprehension", "set_comprehension", "generator_expression"}
)
_SCOPES = COMPREHENSIONS | {"function_definition", "lambda", "class_definition", "module"}
PATTERNS = frozenset(
    {"pattern_list", "tuple_pattern", "list_pattern", "list_splat_pattern", "parenthesized_expression"}
)
PARAMETERS = frozenset({"parameters", "lambda_parameters"})
_PARAMETER_PARTS = frozenset({"list_splat_pattern", "dictionary_splat_pattern", "typed_parameter"})
NAMED_PARAMETERS = frozenset({"default_parameter", "typed_default_parameter"})


def scope_bound(node: Node) -> Node | None:
    """Return the scope in which an identifier is bound at this place; None if it is used here, or names an
    attribute."""
    inner, parent = node, node.parent
    while parent is not None and (parent.type in PATTERNS or parent.type in _PARAMETER_PARTS):
        if parent.type == "typed_parameter" and inner != parent.children[0]:
            return None
        inner, parent = parent, parent.parent
    while parent is not None and parent.type in ("tuple", "list") and _is_under_as(parent):
        inner, parent = parent, parent.parent
    if parent is None:
        return None
    kind = parent.type
    if kind in PARAMETERS or (kind in NAMED_PARAMETERS and is_field(inner, parent, kind, "name")):
        holder = parent if kind in PARAMETERS else parent.parent
        return holder.parent if holder is not None else None
    if kind in ("function_definition", "class_definition") and is_field(inner, parent, kind, "name"):
        return _scope_of(parent)
    if kind in ("assignment", "for_statement") and is_field(inner, parent, kind, "left"):
        return _scope_of(parent)
    if kind == "for_in_clause" and is_field(inner, parent, kind, "left"):
        return parent.parent
    if kind == "named_expression" and is_field(inner, parent, kind, "name"):
        return _function_scope_of(parent)
    if kind in ("as_pattern_target", "global_statement", "nonlocal_statement", "type_parameter"):
        return _module_of(parent) if kind == "global_statement" else _scope_of(parent)
    if kind == "as_pattern" and inner == parent.children[-1]:
        return _scope_of(parent)
    if kind == "aliased_import":
        return _scope_of(parent) if is_field(inner, parent, kind, "alias") else None
    if kind == "dotted_name" and inner == parent.children[0]:
        return _scope_bound_by_import(parent)
    if kind in ("case_pattern", "splat_pattern") or (kind == "type" and _is_alias(parent)):
        return _scope_of(parent)
    return None


def is_field(node: Node, parent: Node, kind: str, field: str) -> bool:
    """Return true if the parent is of a kind and has the node in a field."""
    if parent.type != kind:
        return False
    return any(child == node for child in parent.children_by_field_name(field))


def scopes_around(node: Node) -> Iterator[Node]:
    """Yield the scopes around a node, innermost first; the outermost node always counts.

    The name, decorators, defaults and annotations of a definition are outside of it, and so are the bases of a class.
    """
    child, parent = node, node.parent
    while parent is not None:
        inside = parent.type in _SCOPES and _is_inside(child, parent)
        if inside or parent.type in COMPREHENSIONS or parent.parent is None:
            yield parent
        child, parent = parent, parent.parent


def _is_under_as(node: Node) -> bool:
    """Return true for a tuple that is the target of `as`: the grammar has no pattern there."""
    while node.parent is not None and node.type in ("tuple", "list"):
        node = node.parent
    return node.type == "as_pattern_target"


def _scope_bound_by_import(dotted: Node) -> Node | None:
    parent = dotted.parent
    if parent is None:
        return None
    if parent.type == "import_statement":
        return _scope_of(parent)
    if parent.type == "import_from_statement" and not is_field(dotted, parent, parent.type, "module_name"):
        return _scope_of(parent)
    if parent.type in ("case_pattern", "splat_pattern") and len(dotted.children) == 1:
        return _scope_of(parent)
    return None


def _is_alias(node: Node) -> bool:
    parent = node.parent
    return parent is not None and parent.type == "type_alias_statement" and node == parent.child_by_field_name("left")


def _scope_of(node: Node) -> Node | None:
    """Return the scope that contains a node's own statement."""
    return next(scopes_around(node), None)


def _function_scope_of(node: Node) -> Node | None:
    return next((scope for scope in scopes_around(node) if scope.type not in COMPREHENSIONS), None)


def _module_of(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def _is_inside(child: Node, scope: Node) -> bool:
    return scope.type == "module" or child == scope.child_by_field_name("body") or child.type == "type_parameter"
