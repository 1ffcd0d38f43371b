"""Whether a value may be computed where a variable is read instead of where it is assigned."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from codegen_lsp.refactor.python.analysis.bindings import COMPREHENSIONS
from codegen_lsp.refactor.python.analysis.effects import Effect
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph, reached
from codegen_lsp.refactor.python.analysis.obstacles import Obstacle
from codegen_lsp.refactor.python.ast_nodes import path_to


def obstacle_to_postponing(flow: FlowGraph, assignment: ast.Assign, uses: Sequence[ast.Name]) -> Obstacle | None:
    """Return the reason why the value of an assignment can't be computed at each use instead, or None.

    Args:
        flow: the control flow of the function.
        assignment: the only assignment of a variable, to that variable alone.
        uses: all places that read the variable.
    """
    (target,) = assignment.targets
    assert isinstance(target, ast.Name)
    writes = [event for event in flow.events if event.kind == "write" and event.node is target]
    if len(writes) != 1 or writes[0] not in flow.reachable:
        return Obstacle("unreachable", f"Line {assignment.lineno} is executed never, or from several places.")
    for event in flow.events:
        if event.name == target.id and event.kind in ("read", "capture") and flow.may_be_unbound(target.id, event):
            reason = f"On line {event.line}, {target.id} may have no value."
            return Obstacle("may_be_unbound", reason, f"Give {target.id} its value on all ways there.")
    if isinstance(assignment.value, ast.Constant):
        return None
    own = flow.events_of([assignment.value])
    strongest = max((flow.effect_of(event) for event in own), default=Effect.NONE)
    if any(event.kind == "write" for event in own):
        return Obstacle("another_time", f"The value on line {assignment.lineno} assigns another variable.")
    reads = {event: use for event in flow.events for use in uses if event.kind == "read" and event.node is use}
    for use in uses:
        if use not in reads.values():
            return Obstacle("kept_by_closure", f"Line {use.lineno} may use {target.id} later, or never.")
    names = {event.name for event in own if event.kind in ("read", "capture")}
    if hidden := _hidden(flow, uses, names):
        return hidden
    if strongest is Effect.NONE and all(flow.scope.owner(name) is flow.scope for name in names):
        return _changed_between(flow, writes[0], reads, names)
    if len(reads) > 1:
        reason = f"The value would be computed {len(reads)} times, on line {min(use.lineno for use in uses)} first."
        return Obstacle("computed_again", reason, "Inline a value that is used once.")
    (event,) = reads
    if strongest > Effect.FRESH and _is_asserted(flow, reads[event]):
        return Obstacle("assertion", f"`python -O` skips the assertion on line {event.line}, and so the value.")
    if event in reached(event.after, lambda one: [] if one is writes[0] else one.successors()):
        return Obstacle("computed_again", f"The value would be computed again and again on line {event.line}.")
    if strongest is Effect.FRESH and all(flow.scope.owner(name) is flow.scope for name in names):
        return _changed_between(flow, writes[0], reads, names)
    return _anything_between(flow, writes[0], event, own, names)


def _is_asserted(flow: FlowGraph, use: ast.Name) -> bool:
    """Return whether a use is in an assertion that may be skipped: those of a test are what it is run for."""
    if getattr(flow.scope.node, "name", "").startswith("test"):
        return False
    return any(isinstance(node, ast.Assert) for node in path_to(flow.scope.node, use) or [])


def _hidden(flow: FlowGraph, uses: Sequence[ast.Name], names: set[str]) -> Obstacle | None:
    """Return an obstacle if a comprehension around a use has variables with the names in the value."""
    for use in uses:
        for node in path_to(flow.scope.node, use) or []:
            if isinstance(node, COMPREHENSIONS):
                inner = {
                    one.id for each in node.generators for one in ast.walk(each.target) if isinstance(one, ast.Name)
                }
                if shared := sorted(names & inner):
                    return Obstacle("hidden", f"{shared[0]} means something else on line {use.lineno}.")
    return None


def _changed_between(flow: FlowGraph, write: FlowEvent, reads: Iterable[FlowEvent], names: set[str]) -> Obstacle | None:
    """Return an obstacle if a variable of the value may be bound again before a use."""
    after = reached(write.after, lambda one: [] if one is write else one.successors())
    for event in sorted(after, key=lambda one: one.index):
        if event.kind in ("write", "delete") and event.name in names:
            then = reached(event.after, lambda one: [] if one is write else one.successors())
            if any(read in then for read in reads):
                return Obstacle(
                    "changes_between", f"{event.name} is bound again on line {event.line}, before the value is used."
                )
    return None


def _anything_between(
    flow: FlowGraph, write: FlowEvent, use: FlowEvent, own: Sequence[FlowEvent], names: set[str]
) -> Obstacle | None:
    """Return an obstacle unless the use follows the assignment with nothing between them that matters."""
    handlers = {event.raises for event in own if event.raises is not None}
    if not handlers <= {use.raises}:
        return Obstacle("another_handler", f"Exceptions would be handled in another way on line {use.line}.")
    event = write
    while True:
        if len(event.after) != 1:
            reason = f"Line {use.line} may be executed without the value, which line {event.line} decides."
            return Obstacle("another_time", reason, "Inline it by hand if its computation may be left out.")
        event = event.after[0]
        if event is use:
            return None
        changes = event.kind in ("write", "delete") and (event.name in names or flow.is_shared(event.name))
        if changes or flow.effect_of(event) > Effect.FRESH:
            reason = f"What line {event.line} does would come before the value is computed."
            return Obstacle("order", reason, "Move the two lines together.")
