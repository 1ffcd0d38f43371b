"""Where a variable or a function can be extracted without changing what the program does."""

from __future__ import annotations

import ast
from itertools import pairwise
from typing import Literal

from attrs import frozen

from codegen_lsp.refactor.python.analysis.control_flow import leaves_at_end
from codegen_lsp.refactor.python.analysis.effects import Effect, may_swap
from codegen_lsp.refactor.python.analysis.escapes import class_listing, dynamic_uses, module_listing
from codegen_lsp.refactor.python.analysis.evaluation_order import HOSTS, is_always_evaluated
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle
from codegen_lsp.refactor.python.analysis.regions import RegionInterface, interface_of
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Definition, Function, docstring_node, path_to
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.source.lines import start_of_line

_TOO_COMPLEX = Obstacle("too_complex", "The function is too large to be analysed.")
_KEEPS_FIRST_ARGUMENT = frozenset(
    {"property", "cached_property", "contextmanager", "asynccontextmanager", "abstractmethod", "override", "final"}
    | {"setter", "getter", "deleter", "lru_cache", "cache", "overload", "wraps"}
)
"""Decorators by whose functions a method still gets its object first."""
_PLAIN_CLASS_DECORATORS = frozenset({"dataclass", "total_ordering", "final", "unique"})
_PLAIN_BASES = frozenset(
    {"object", "Exception", "BaseException", "ValueError", "TypeError", "RuntimeError", "KeyError", "OSError", "ABC"}
    | {"Enum", "IntEnum", "dict", "list", "set", "tuple", "str", "int", "float", "Generic", "NamedTuple"}
)
"""Base classes that have no private methods of their own that a new one could replace."""


def extract_variable_title(view: SelectionView) -> str | Obstacle | None:
    """Return the title for an expression that is evaluated once, before all else in its statement that matters."""
    node, host = view.expression, view.statement
    if node is None or host is None or isinstance(node, ast.Name | ast.Starred | ast.Slice | ast.NamedExpr):
        return None
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or _is_docstring(host, node):
        return None
    return _variable_obstacle(view, host, node) or "Extract variable"


def _variable_obstacle(view: SelectionView, host: ast.stmt, node: ast.expr) -> Obstacle | None:
    path = path_to(host, node)
    if path is None or not isinstance(host, HOSTS) or _is_elif(view, host):
        return Obstacle("another_time", f"The statement on line {host.lineno} does not begin with it.")
    if not all(is_always_evaluated(above, below) for above, below in pairwise(path)):
        reason = f"It may be evaluated never, later, or many times on line {node.lineno}."
        return Obstacle("another_time", reason, "Select the whole of what is evaluated together.")
    if not _begins_its_line(view, host):
        return Obstacle("shared_line", f"Line {host.lineno} has several statements.", "Put each on a line of its own.")
    if any(isinstance(inner, ast.NamedExpr | ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        return Obstacle("another_time", f"What it assigns or yields on line {node.lineno} can't be moved.")
    inner = view.definitions[-1] if view.definitions else None
    if isinstance(inner, ast.ClassDef):
        reason = f"The variable would become a member of the class {inner.name}."
        return Obstacle("class_body", reason, "Extract it where the class is used.")
    if inner is not None and (found := next(dynamic_uses(view.facts.scope(inner)), None)) is not None:
        return _dynamic(found)
    flow = view.facts.flow(inner or view.tree)
    if flow is None:
        return _TOO_COMPLEX
    own = flow.events_of([node])
    in_test = inner is not None and inner.name.startswith("test")
    if isinstance(host, ast.Assert) and not in_test and any(event.effect > Effect.FRESH for event in own):
        reason = f"`python -O` skips the assertion on line {host.lineno}, but not a variable before it."
        return Obstacle("assertion", reason, "Assign the value yourself if it may always be computed.")
    return _order_obstacle(flow, host, own)


def _order_obstacle(flow: FlowGraph, host: ast.stmt, own: list[FlowEvent]) -> Obstacle | None:
    """Return an obstacle if the events of an expression can't come before all other events of its statement."""
    if not own:
        return None
    earlier = [event for event in flow.events_of([host]) if event.index < own[0].index]
    strongest = max(flow.effect_of(event) for event in own)
    read = {event.name for event in own if event.kind in ("read", "capture")}
    for event in earlier:
        changes = event.kind == "write" and (
            event.name in read or (strongest is Effect.CALL and flow.is_shared(event.name))
        )
        if changes or not may_swap(flow.effect_of(event), strongest):
            return Obstacle(
                "order",
                f"It would be evaluated before {_shown(event)} on line {event.line}.",
                f"Extract {_shown(event)} first.",
            )
    return None


def _shown(event: FlowEvent) -> str:
    try:
        text = ast.unparse(event.node) if event.node is not None else ""
    except (AttributeError, ValueError, RecursionError):
        text = ""
    first = text.split("\n", 1)[0]
    return f"`{first}`" if 0 < len(first) <= 40 else "something else"


def _dynamic(node: ast.expr) -> Obstacle:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    reason = f"{name} on line {node.lineno} may see the variables of the function."
    return Obstacle("dynamic_names", reason, f"Do without {name} first.")


@frozen
class FunctionPlan:
    """How statements become a function."""

    kind: Literal["function", "method", "classmethod"]
    interface: RegionInterface
    around: Function | ast.Module
    """The function that the statements are in."""
    beside: Definition | None
    """The definition that the new function is put beside; None where it is put before the statements."""

    @property
    def inputs(self) -> list[str]:
        """The parameters; that for the object or class is the first parameter of the function around."""
        first = None if isinstance(self.around, ast.Module) else first_parameter(self.around)
        rest = [one for one in self.interface.inputs if one != first]
        takes_first = self.kind != "function" or (first in ("self", "cls") and first in self.interface.inputs)
        return [first, *rest] if first is not None and takes_first else self.interface.inputs


def extract_function_title(view: SelectionView) -> str | Obstacle | None:
    """Return the title for statements that can be moved into a function; else the reason why not, or None."""
    plan = function_to_extract(view)
    if plan is None or isinstance(plan, Obstacle):
        return plan
    return "Extract function" if plan.kind == "function" else "Extract method"


def function_to_extract(view: SelectionView) -> FunctionPlan | Obstacle | None:
    """Return how the selected statements become a function, or why they can't; None where there are none."""
    statements = view.statements
    inner = view.definitions[-1] if view.definitions else None
    if not statements or docstring_node(inner or view.tree) in statements:
        return None
    if all(isinstance(one, ast.Pass | ast.Import | ast.ImportFrom) for one in statements):
        return None
    if isinstance(inner, ast.ClassDef):
        return Obstacle("class_body", f"Its variables would no longer be members of the class {inner.name}.")
    if any(isinstance(one, DEFINITIONS) for one in statements):
        return Obstacle("definition", "A definition can't be moved into a function.", "Leave it out of the selection.")
    if not _on_lines_of_their_own(view, statements):
        reason = f"The statements share line {statements[0].lineno} with others."
        return Obstacle("shared_line", reason, "Put each statement on a line of its own.")
    if (line := leaves_elsewhere(statements)) is not None:
        reason = f"Line {line} leaves the selection, or depends on the function that it is in."
        return Obstacle("leaves_early", reason, "Select whole loops, and no `return` but the last statement.")
    around = inner or view.tree
    scope = view.facts.scope(around)
    if (found := next(dynamic_uses(scope), None)) is not None:
        return _dynamic(found)
    flow = view.facts.flow(around)
    if flow is None:
        return _TOO_COMPLEX
    kind, visible = _kind_of(view, around)
    if kind == "function" and (name := _private_name(view, statements)):
        return Obstacle("private_name", f"{name} means something else outside its class.")
    if kind == "function" and (listing := module_listing(view.tree)) is not None:
        return Obstacle("listed_names", f"The code on line {listing.lineno} lists the names of the module.")
    interface = interface_of(flow, statements, view.facts.scope(visible))
    if isinstance(interface, Obstacle):
        return interface
    if kind == "function":
        beside = view.definitions[0] if view.definitions else None
        return FunctionPlan(kind, interface, around, beside)
    assert isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef)
    return FunctionPlan(kind, interface, around, around)


def leaves_elsewhere(statements: list[ast.stmt]) -> int | None:
    """Return the line of the first statement that keeps the statements from being moved into a function, or None."""
    if leaves_at_end(statements):
        return None
    last = len(statements) - 1
    for at, one in enumerate(statements):
        if not leaves_at_end([one]) or (at < last and isinstance(one, ast.Return)):
            return one.lineno
    return statements[0].lineno


def first_parameter(function: Function) -> str | None:
    """Return the name of the first positional parameter, or None."""
    positional = [*function.args.posonlyargs, *function.args.args]
    return positional[0].arg if positional else None


def _kind_of(view: SelectionView, around: ast.AST) -> tuple[Literal["function", "method", "classmethod"], ast.AST]:
    """Return what the new function is, and the scope whose variables it sees."""
    owner = view.definitions[-2] if len(view.definitions) > 1 else None
    if not isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef) or not isinstance(owner, ast.ClassDef):
        return "function", view.tree
    first = first_parameter(around)
    scope = view.facts.scope(around)
    if first is None or len([one for one in scope.uses(first) if one.kind != "read"]) > 1:
        return "function", view.tree
    if (
        class_listing(view.tree) is not None
        or not _is_plain(view, owner)
        or _is_called_by_class(view, owner, around.name)
    ):
        return "function", view.tree
    decorators = [_last_name(one) for one in around.decorator_list]
    if around.name in ("__new__", "__init_subclass__", "__class_getitem__") and not decorators:
        return "classmethod", owner
    if decorators == ["classmethod"]:
        return "classmethod", owner
    return ("method", owner) if set(decorators) <= _KEEPS_FIRST_ARGUMENT else ("function", view.tree)


def _is_plain(view: SelectionView, owner: ast.ClassDef) -> bool:
    """Return whether a class is an ordinary one, to which a private method may be added."""
    decorators = {_last_name(one) for one in owner.decorator_list}
    looked_up = any(isinstance(one, ast.FunctionDef) and one.name == "__getattribute__" for one in owner.body)
    bases = all(_is_known_base(view, base) for base in owner.bases)
    return bases and not owner.keywords and not looked_up and decorators <= _PLAIN_CLASS_DECORATORS


def _is_called_by_class(view: SelectionView, owner: ast.ClassDef, name: str) -> bool:
    """Return whether a method is used by way of its class, by which it may get any object as its first argument."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == owner.name
        for node in ast.walk(view.tree)
    )


def _is_known_base(view: SelectionView, base: ast.expr, below: frozenset[str] = frozenset()) -> bool:
    """Return whether all the methods of a base class are known: it is one of this file, or has no private ones.

    `below` are the names of the classes that lead to it, for classes that are defined again from themselves.
    """
    base = base.value if isinstance(base, ast.Subscript) else base
    name = _last_name(base)
    if isinstance(base, ast.Attribute):
        return getattr(base.value, "id", "") in ("abc", "enum", "typing") and name in _PLAIN_BASES
    here = [one.node for one in view.facts.module.own.get(name, []) if one.kind == "write"]
    if not isinstance(base, ast.Name) or name in below:
        return False
    if all(isinstance(one, ast.alias) for one in here):
        return name in _PLAIN_BASES
    return all(
        isinstance(one, ast.ClassDef)
        and not one.keywords
        and all(_is_known_base(view, above, below | {name}) for above in one.bases)
        for one in here
    )


def _last_name(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _private_name(view: SelectionView, statements: list[ast.stmt]) -> str | None:
    """Return a name in the statements that the class around makes private to itself, or None."""
    if not any(isinstance(one, ast.ClassDef) for one in view.definitions):
        return None
    for node in (inner for statement in statements for inner in ast.walk(statement)):
        for name in (getattr(node, field, None) for field in ("id", "attr", "arg", "name")):
            if isinstance(name, str) and name.startswith("__") and not name.endswith("__"):
                return name
    return None


def _on_lines_of_their_own(view: SelectionView, statements: list[ast.stmt]) -> bool:
    text = view.source.text
    start, end = view.span(statements[0])[0], view.span(statements[-1])[1]
    line_end = text.find("\n", end)
    rest = text[end : line_end if line_end >= 0 else len(text)].strip()
    return not text[start_of_line(text, start) : start].strip() and (not rest or rest.startswith("#"))


def _is_docstring(host: ast.AST, node: ast.AST) -> bool:
    """Return whether the expression may be a docstring: a constant that is a statement of its own."""
    return isinstance(host, ast.Expr) and host.value is node and isinstance(node, ast.Constant)


def _begins_its_line(view: SelectionView, host: ast.stmt) -> bool:
    start = view.span(host)[0]
    return not view.source.text[start_of_line(view.source.text, start) : start].strip()


def _is_elif(view: SelectionView, host: ast.stmt) -> bool:
    return isinstance(host, ast.If) and view.source.text.startswith("elif", view.span(host)[0])
