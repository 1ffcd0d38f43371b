"""What the code around a run of statements needs from it, and gives to it: the facts for moving it into a function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from attrs import frozen

from codegen_lsp.refactor.python.analysis.bindings import Occurrence, Scope
from codegen_lsp.refactor.python.analysis.effects import Effect, is_written_inside, knowledge_of
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph, reached
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle


@frozen
class RegionInterface:
    """The variables that a function made of the statements takes, and those that it returns."""

    inputs: list[str]
    outputs: list[str]


@frozen
class _Region:
    """Statements within a function or module, with their events."""

    flow: FlowGraph
    statements: Sequence[ast.stmt]
    events: set[FlowEvent]
    entries: list[FlowEvent]
    exits: list[FlowEvent]
    """The events outside that follow without an exception."""
    visible: Scope
    """The scope in which the new function is put: what is visible there need not be passed."""

    @property
    def scope(self) -> Scope:
        return self.flow.scope

    def ends(self) -> list[FlowEvent]:
        """Return the last events of the statements, in the order of creation."""
        return _in_order(event for event in self.events if any(one not in self.events for one in event.after))

    def written(self) -> dict[str, FlowEvent]:
        """Return the variables that are written, with the first place."""
        found: dict[str, FlowEvent] = {}
        for event in _in_order(self.events):
            if event.kind in ("write", "delete"):
                found.setdefault(event.name, event)
        return found


def interface_of(flow: FlowGraph, statements: Sequence[ast.stmt], visible: Scope) -> RegionInterface | Obstacle:
    """Return what a function made of the statements takes and returns, or why there can be no such function.

    Args:
        flow: the control flow of the function or module that the statements are in.
        statements: consecutive statements of one suite, which control flow leaves at their end or by a last `return`.
        visible: the scope in which the new function is put.
    """
    events = set(flow.events_of(statements))
    entries = [
        event
        for event in events
        if event in flow.reachable and any(one not in events for one in flow.predecessors[event])
    ]
    if not entries:
        return Obstacle("unreachable", f"Line {statements[0].lineno} is never executed.")
    exits = list(dict.fromkeys(one for event in events for one in event.after if one not in events))
    region = _Region(flow, statements, events, entries, exits, visible)
    return (
        _declared(region)
        or _shared(region)
        or _seen_by_handlers(region)
        or _kept_by_closures(region)
        or _interface(region)
    )


def _interface(region: _Region) -> RegionInterface | Obstacle:
    flow, scope, written = region.flow, region.scope, region.written()
    exposed = 0
    within = flow.live_within(region.events)
    for entry in region.entries:
        exposed |= within.get(entry, 0)
    inputs = [name for name in flow.names_of(exposed) if not _is_visible(region, name)]
    at_end = scope.bound if scope.kind == "module" else frozenset()
    outputs = [
        name
        for name in written
        if scope.owner(name) is scope
        and (name in at_end or any(flow.is_live(name, one) for one in region.exits) or _outer_uses(region, name))
    ]
    if outputs and isinstance(region.statements[-1], ast.Return):
        return Obstacle(
            "returns_and_assigns",
            f"The code after the `return` still uses {outputs[0]}, which line {written[outputs[0]].line} assigns.",
            "Select the statements without the `return`.",
        )
    for name in outputs:
        for event in region.ends():
            if flow.may_be_unbound_after(name, event):
                return Obstacle(
                    "may_be_unbound",
                    f"{name}, which the code below uses, may have no value after line {event.line}.",
                    f"Give {name} a value before the selection.",
                )
        if _may_stay(region, name):
            inputs.append(name)
    for name in inputs:
        if scope.owner(name) is scope and any(flow.may_be_unbound(name, one) for one in region.entries):
            line = region.statements[0].lineno
            return Obstacle(
                "may_be_unbound",
                f"{name} may have no value on line {line}.",
                f"Give {name} a value before line {line}.",
            )
    return _vanishing(region, outputs) or RegionInterface(sorted(set(inputs)), outputs)


def _in_order(events: Iterable[FlowEvent]) -> list[FlowEvent]:
    return sorted(events, key=lambda one: one.index)


def _is_visible(region: _Region, name: str) -> bool:
    """Return whether the new function sees the same variable under the name as the statements do."""
    owner = region.scope.owner(name)
    if owner is region.scope:
        return owner.kind == "module" and name not in region.written()
    return owner is None or owner.kind == "module" or _encloses(owner, region.visible)


def _encloses(owner: Scope, scope: Scope | None) -> bool:
    while scope is not None:
        if scope is owner:
            return True
        scope = scope.parent
    return False


def _may_stay(region: _Region, name: str) -> bool:
    """Return whether there is a way through the region on which a variable keeps the value that it had before."""

    def following(event: FlowEvent) -> Iterable[FlowEvent]:
        if event.kind == "write" and event.name == name:
            return []
        return [one for one in event.successors() if one in region.events]

    ends = region.ends()
    return any(
        event in ends and not (event.kind == "write" and event.name == name)
        for event in reached(region.entries, following)
    )


def _declared(region: _Region) -> Obstacle | None:
    """Return an obstacle if the statements assign a variable of another scope."""
    for name, event in region.written().items():
        if name in region.scope.global_names | region.scope.nonlocal_names:
            return Obstacle(
                "assigns_outer",
                f"Line {event.line} assigns {name}, which is not local.",
                "Assign it outside the selection.",
            )
    return None


def _shared(region: _Region) -> Obstacle | None:
    """Return an obstacle if another function may change, while they run, a variable that the statements read."""
    knowledge = knowledge_of(region.scope)
    for event in _in_order(region.events):
        if event.kind not in ("read", "capture") or _is_visible(region, event.name):
            continue
        if knowledge.name_effect(event.name) > Effect.FRESH:
            return Obstacle(
                "shared_variable",
                f"{event.name}, which line {event.line} uses, may be changed by another function.",
                f"Select statements that don't use {event.name}.",
            )
    return None


def _seen_by_handlers(region: _Region) -> Obstacle | None:
    """Return an obstacle if a handler outside sees a value that the statements assign before they fail."""
    flow = region.flow
    for name, first in region.written().items():
        after = [
            one
            for event in region.events
            if event.kind in ("write", "delete") and event.name == name
            for one in event.after
        ]
        inside = [one for one in after if one in region.events]
        for event in _in_order(
            reached(inside, lambda one: (next_ for next_ in one.successors() if next_ in region.events))
        ):
            outside = event.raises
            if outside is not None and outside not in region.events and flow.is_live(name, outside):
                return Obstacle(
                    "seen_by_handler",
                    f"If line {event.line} fails, the code that handles it sees the {name} of line {first.line}.",
                    "Extract the whole `try`, or assign the variable after what may fail.",
                )
    return None


def _kept_by_closures(region: _Region) -> Obstacle | None:
    """Return an obstacle if a closure on one side sees a variable that the other side assigns."""
    scope = region.scope
    written = region.written()
    for name in written:
        outer = _outer_uses(region, name)
        if outer and not _is_settled(region, name):
            return Obstacle(
                "kept_by_closure",
                f"The function on line {outer[0].line} uses {name}, which line {written[name].line} assigns.",
                f"Leave the assignment of {name} outside the selection.",
            )
    for event in _in_order(region.events):
        owner = scope.owner(event.name)
        if event.kind != "capture" or owner is not scope or _is_visible(region, event.name):
            continue
        if is_written_inside(scope, event.name):
            return Obstacle(
                "kept_by_closure",
                f"The function on line {event.line} assigns {event.name}.",
                "Move it out of the selection.",
            )
        for later in _in_order(reached(event.after, lambda one: one.successors())):
            if later.kind in ("write", "delete") and later.name == event.name and _parts(region, event, later):
                return Obstacle(
                    "kept_by_closure",
                    f"The function on line {event.line} keeps {event.name}, which line {later.line} assigns later.",
                    f"Leave one of the two lines outside the selection, or give {event.name} its value once.",
                )
    return None


def _outer_uses(region: _Region, name: str) -> list[Occurrence]:
    """Return the uses of a variable by code outside the statements that may run later: closures and generators."""
    scope = region.scope
    inside = {id(node) for statement in region.statements for node in ast.walk(statement)}
    runs_later = {
        id(one.node)
        for child in scope.children
        for inner in child.within()
        for one in inner.own.get(name, ())
        if not (inner is child and isinstance(child.node, ast.ListComp | ast.SetComp | ast.DictComp))
    }
    return [one for one in scope.inner_uses(name) if id(one.node) in runs_later - inside]


def _is_settled(region: _Region, name: str) -> bool:
    """Return whether no other code can run, and nothing fail, from where a variable is written to the end.

    Then code outside can't tell whether the variable is written there or by what the new function returns.
    """
    if is_written_inside(region.scope, name):
        return False
    later: set[FlowEvent] = set()
    for event in region.events:
        if event.kind == "delete" and event.name == name:
            return False
        if event.kind == "write" and event.name == name:
            inside = [one for one in event.after if one in region.events]
            later |= reached(inside, lambda one: (next_ for next_ in one.successors() if next_ in region.events))
    return all(event.effect <= Effect.FRESH and event.raises is None for event in later)


def _parts(region: _Region, event: FlowEvent, later: FlowEvent) -> bool:
    """Return whether a closure and a later assignment of its variable get into different functions."""
    if later not in region.events:
        return True
    around = reached(event.after, lambda one: (next_ for next_ in one.successors() if next_ in region.events))
    outside = reached(region.exits, lambda one: one.successors())
    return later not in around or any(entry in outside for entry in region.entries)


def _vanishing(region: _Region, outputs: Sequence[str]) -> Obstacle | None:
    """Return an obstacle if the function around would take a variable for a global one, being left without it."""
    scope = region.scope
    if scope.kind == "module":
        return None
    inside = {id(node) for statement in region.statements for node in ast.walk(statement)}
    local = {name for name in scope.own if scope.owner(name) is scope} - scope.parameters - set(outputs)
    for name in sorted(local):
        uses = scope.uses(name)
        left = [one for one in uses if id(one.node) not in inside]
        if len(left) < len(uses) and left and not any(one.kind in ("write", "delete") for one in left):
            return Obstacle(
                "may_be_unbound",
                f"Line {left[0].line} uses {name}, which only the selection assigns.",
                "Select it, too.",
            )
    return None
