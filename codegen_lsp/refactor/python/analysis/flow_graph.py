"""The control flow of a function or module, exceptions included, and the facts that follow from it.

Variables that may have no value, and variables whose value may still be read, are found by the usual iteration to a
fixed point over the ways between events.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from functools import cached_property

from attrs import define

from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.analysis.effects import Effect
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent


@define(slots=False)
class FlowGraph:
    """The events of a function, and what is known at each."""

    scope: Scope
    events: list[FlowEvent]
    entry: FlowEvent
    end: FlowEvent
    """Reached by `return` and at the end of the body."""
    failed: FlowEvent
    """Reached by exceptions that nothing handles."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each variable that occurs, for sets of variables as bits."""
        names = dict.fromkeys(event.name for event in self.events if event.name)
        return {name: at for at, name in enumerate(names)}

    @cached_property
    def predecessors(self) -> dict[FlowEvent, list[FlowEvent]]:
        """The events before each."""
        found: dict[FlowEvent, list[FlowEvent]] = {event: [] for event in self.events}
        for event in self.events:
            for one in event.successors():
                found[one].append(event)
        return found

    @cached_property
    def reachable(self) -> set[FlowEvent]:
        """The events that can happen."""
        return reached([self.entry], lambda one: one.successors())

    @cached_property
    def _unbound(self) -> dict[FlowEvent, int]:
        """The variables that may have no value before each event."""
        variables = self.scope.bound - self.scope.parameters
        start = sum(1 << number for name, number in self.numbers.items() if name in variables)
        return self._forward(start, self._unbound_after)

    @cached_property
    def _live(self) -> dict[FlowEvent, int]:
        """The variables whose values may be read before they are written, before each event."""
        return self.live_within(None)

    def live_within(self, region: set[FlowEvent] | None, live_at_end: Iterable[str] = ()) -> dict[FlowEvent, int]:
        """Return the variables that may be read before they are written, before each event.

        With a region, its events alone are considered. `live_at_end` are read when the function ends.
        """
        live: dict[FlowEvent, int] = {}
        last = sum(1 << self.numbers[name] for name in live_at_end if name in self.numbers)
        pending = [event for event in self.events if region is None or event in region]
        while pending:
            event = pending.pop()
            value = last if event is self.end else 0
            for one in event.successors():
                value |= live.get(one, 0)
            bit = 1 << self.numbers[event.name] if event.name else 0
            if event.kind in ("write", "delete"):
                value &= ~bit
            if event.kind in ("read", "capture", "delete"):
                value |= bit
            if live.get(event) != value:
                live[event] = value
                pending += [one for one in self.predecessors[event] if region is None or one in region]
        return live

    def is_live(self, name: str, event: FlowEvent) -> bool:
        """Return whether the value that a variable has before an event may be read."""
        return name in self.numbers and bool(self._live.get(event, 0) >> self.numbers[name] & 1)

    def may_be_unbound(self, name: str, event: FlowEvent) -> bool:
        """Return whether a variable of the function may have no value before an event."""
        return name in self.numbers and bool(self._unbound.get(event, 0) >> self.numbers[name] & 1)

    def may_be_unbound_after(self, name: str, event: FlowEvent) -> bool:
        """Return whether a variable of the function may have no value after an event that raises nothing."""
        after = self._unbound_after(event, self._unbound.get(event, 0))
        return name in self.numbers and bool(after >> self.numbers[name] & 1)

    def effect_of(self, event: FlowEvent) -> Effect:
        """Return what an event may do; reading a variable that may have no value may fail."""
        if event.kind == "read" and self.may_be_unbound(event.name, event):
            return max(event.effect, Effect.READ)
        return event.effect

    def is_shared(self, name: str) -> bool:
        """Return whether another function may see a variable that is written here."""
        scope = self.scope
        declared = name in scope.global_names or name in scope.nonlocal_names
        return scope.kind == "module" or declared or bool(scope.inner_uses(name))

    def events_of(self, nodes: Iterable[ast.AST]) -> list[FlowEvent]:
        """Return the events that belong to nodes and what is below them, in the order of creation."""
        inside = {id(inner) for node in nodes for inner in ast.walk(node)}
        return [event for event in self.events if id(event.node) in inside]

    def names_of(self, bits: int) -> list[str]:
        """Return the variables of a set."""
        return [name for name, number in self.numbers.items() if bits >> number & 1]

    def _unbound_after(self, event: FlowEvent, value: int) -> int:
        if event.kind not in ("write", "delete"):
            return value
        bit = 1 << self.numbers[event.name]
        return value | bit if event.kind == "delete" else value & ~bit

    def _forward(self, start: int, after: Callable[[FlowEvent, int], int]) -> dict[FlowEvent, int]:
        """Return the union over all ways to each event, before the event."""
        before = {self.entry: start}
        pending = [self.entry]
        while pending:
            event = pending.pop()
            value = before[event]
            left = after(event, value)
            # An exception while a variable is written leaves it as it was; the writing itself raises none.
            for one in event.successors():
                known = before.get(one)
                new = left if known is None else known | left
                if new != known:
                    before[one] = new
                    pending.append(one)
        return before


def reached(starts: Iterable[FlowEvent], following: Callable[[FlowEvent], Iterable[FlowEvent]]) -> set[FlowEvent]:
    """Return the events that can be reached, the starts included."""
    found = set(starts)
    pending = list(found)
    while pending:
        for one in following(pending.pop()):
            if one not in found:
                found.add(one)
                pending.append(one)
    return found
