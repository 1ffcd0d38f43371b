"""The events of a function in the order in which they happen, with the ways from each to the next.

An event is the reading, writing or deleting of a variable, an effect, or a place where ways meet. The events of an
expression follow Python's order of evaluation. From each event that may raise there is a way to the nearest handler.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from attrs import define, field

from codegen_lsp.refactor.python.analysis.bindings import COMPREHENSIONS, Scope
from codegen_lsp.refactor.python.analysis.effects import Effect, Knowledge

EventKind = Literal["read", "write", "delete", "capture", "effect", "join", "exit"]


@define(eq=False)
class FlowEvent:
    """Something that happens when a program runs."""

    kind: EventKind
    node: ast.AST | None
    """The node whose execution it belongs to; None for the ends of a function."""
    index: int
    """Number in the order of creation, which is that of evaluation within an expression."""
    name: str = ""
    """The variable that is read, written, deleted, or kept by a closure (`capture`)."""
    effect: Effect = Effect.NONE
    after: list[FlowEvent] = field(factory=list)
    raises: FlowEvent | None = None
    """Where an exception leads; None where the event raises none."""

    @property
    def line(self) -> int:
        """The number of the line, from 1."""
        return getattr(self.node, "lineno", 1)

    def successors(self) -> Iterator[FlowEvent]:
        """Yield the events that may come next."""
        yield from self.after
        if self.raises is not None:
            yield self.raises


@define
class ExpressionEvents:
    """Makes the events of expressions, in the order of evaluation."""

    scope: Scope
    knowledge: Knowledge
    events: list[FlowEvent] = field(factory=list)
    _ends: list[FlowEvent] = field(factory=list)
    """The events from which the next one follows; none where it can't be reached."""
    _handler: FlowEvent | None = None
    """Where exceptions lead."""
    _hidden: list[set[str]] = field(factory=list)
    """The variables of the comprehensions around."""

    def add(
        self,
        kind: EventKind,
        node: ast.AST | None,
        name: str = "",
        effect: Effect = Effect.NONE,
        *,
        raises: bool = True,
    ) -> FlowEvent:
        """Add an event that follows all the ends so far."""
        event = FlowEvent(kind, node, len(self.events), name, effect)
        if raises:
            event.raises = self._handler
        self.events.append(event)
        for end in self._ends:
            end.after.append(event)
        self._ends = [event]
        return event

    def effect(self, node: ast.AST, effect: Effect) -> None:
        """Add an effect, unless there is none."""
        if effect > Effect.NONE:
            self.add("effect", node, effect=effect, raises=effect > Effect.FRESH)

    def join(self, node: ast.AST | None, ends: Iterable[FlowEvent] = ()) -> FlowEvent:
        """Add a place where the ends so far meet others."""
        event = self.add("join", node, raises=False)
        for end in ends:
            end.after.append(event)
        return event

    def expression(self, node: ast.AST | None, *, called: bool = False) -> None:
        """Add the events of an expression; `called` says that it is a function about to be called."""
        if node is None or isinstance(node, ast.Constant):
            return
        method = _EXPRESSIONS.get(type(node))
        if isinstance(node, ast.Attribute):
            self._attribute(node, called=called)
        elif method is not None:
            method(self, node)
        elif isinstance(node, COMPREHENSIONS):
            self.comprehension(node, lazy=isinstance(node, ast.GeneratorExp))
        else:
            for child in ast.iter_child_nodes(node):
                self.expression(child)

    def store(self, target: ast.AST) -> None:
        """Add the events of giving a target its value, which has been evaluated."""
        if isinstance(target, ast.Name):
            self.write(target.id, target)
        elif isinstance(target, ast.Starred):
            self.store(target.value)
        elif isinstance(target, ast.Tuple | ast.List):
            self.effect(target, Effect.CALL)
            for one in target.elts:
                self.store(one)
        elif isinstance(target, ast.Attribute):
            self.expression(target.value)
            self.effect(target, Effect.CALL)
        elif isinstance(target, ast.Subscript):
            self.expression(target.value)
            self.expression(target.slice)
            self.effect(target, Effect.CALL)

    def write(self, name: str, node: ast.AST) -> None:
        """Add the writing of a variable, unless it is one of a comprehension."""
        if not any(name in names for names in self._hidden):
            self.add("write", node, name, raises=False)

    def captures(self, scope: Scope | None, node: ast.AST, *, kind: EventKind = "capture") -> None:
        """Add an event for each variable that the code of an inner scope uses."""
        if scope is None:
            return
        for inner in scope.within():
            for name in inner.own:
                owner = inner.owner(name)
                outside = owner is None or not any(owner is one for one in scope.within())
                if outside and not any(name in names for names in self._hidden):
                    self.add(kind, node, name)

    def inner_scope(self, node: ast.AST) -> Scope | None:
        """Return the scope that a node inside opens."""
        return next((one for one in self.scope.within() if one.node is node), None)

    def comprehension(self, node: ast.expr, *, lazy: bool) -> None:
        """Add the events of a comprehension; those of a lazy generator happen when something iterates over it."""
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.expression(generators[0].iter)
        if lazy:
            self.effect(node, Effect.READ)
            with self._inside(generators):
                self.captures(self.inner_scope(node), node)
            return
        with self._inside(generators):
            skipped = []
            for at, one in enumerate(generators):
                if at:
                    self.expression(one.iter)
                self.effect(one.iter, self.knowledge.iterates(one.iter))
                skipped += [self.join(node), *self._ends]
                self.store(one.target)
                for condition in one.ifs:
                    self.expression(condition)
                    self.effect(condition, self.knowledge.truth(condition))
            for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:  # type: ignore[attr-defined]
                self.expression(part)
            if not isinstance(node, ast.ListComp | ast.GeneratorExp):
                self.effect(node, Effect.READ)
            heads = [one for one in dict.fromkeys(skipped) if one.kind == "join"]
            for end in self._ends:
                end.after.append(heads[0])
        self.join(node, heads)
        self.effect(node, Effect.FRESH)

    @contextmanager
    def _inside(self, generators: list[ast.comprehension]) -> Iterator[None]:
        names = {one.id for each in generators for one in ast.walk(each.target) if isinstance(one, ast.Name)}
        self._hidden.append(names)
        yield
        self._hidden.pop()

    def _name(self, node: ast.Name) -> None:
        if any(node.id in names for names in self._hidden):
            return
        effect = self.knowledge.name_effect(node.id)
        self.add("read", node, node.id, effect)

    def _attribute(self, node: ast.Attribute, *, called: bool) -> None:
        self.expression(node.value)
        self.effect(node, self.knowledge.attribute(node, called=called))

    def _subscript(self, node: ast.Subscript) -> None:
        self.expression(node.value)
        self.expression(node.slice)
        self.effect(node, Effect.READ)

    def _operator(self, node: ast.BinOp | ast.UnaryOp) -> None:
        for child in ast.iter_child_nodes(node):
            self.expression(child)
        self.effect(node, self.knowledge.computes(node))

    def _compare(self, node: ast.Compare) -> None:
        self.expression(node.left)
        shortcuts: list[FlowEvent] = []
        effect = self.knowledge.computes(node)
        for at, one in enumerate(node.comparators):
            self.expression(one)
            self.effect(node, effect)
            if at < len(node.comparators) - 1:
                shortcuts += self._ends
        if shortcuts:
            self.join(node, shortcuts)

    def _bool_op(self, node: ast.BoolOp) -> None:
        shortcuts: list[FlowEvent] = []
        for at, one in enumerate(node.values):
            self.expression(one)
            if at < len(node.values) - 1:
                self.effect(one, self.knowledge.truth(one))
                if not self._ends:
                    continue
                shortcuts.append(self.join(node))
        self.join(node, shortcuts)

    def _conditional(self, node: ast.IfExp) -> None:
        self.expression(node.test)
        self.effect(node.test, self.knowledge.truth(node.test))
        start = self.join(node)
        self.expression(node.body)
        done = self._ends
        self._ends = [start]
        self.expression(node.orelse)
        self.join(node, done)

    def _call(self, node: ast.Call) -> None:
        self.expression(node.func, called=True)
        consumed = self.knowledge.is_consumed(node)
        for one in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if consumed and isinstance(one, ast.GeneratorExp):
                self.comprehension(one, lazy=False)
            elif consumed and isinstance(one, ast.Lambda):
                self.captures(self.inner_scope(one), one, kind="read")
            else:
                self.expression(one)
        if any(keyword.arg is None for keyword in node.keywords):
            self.effect(node, Effect.CALL)
        self.effect(node, self.knowledge.calls(node))

    def _starred(self, node: ast.Starred) -> None:
        self.expression(node.value)
        self.effect(node, self.knowledge.iterates(node.value))

    def _display(self, node: ast.List | ast.Set | ast.Dict) -> None:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                self.expression(key)
                self.expression(value)
            keys = node.keys
        else:
            for one in node.elts:
                self.expression(one)
            keys = [] if isinstance(node, ast.List) else list(node.elts)
        hashed = all(
            key is not None and self.knowledge.type_of(key) not in (None, "list", "dict", "set") for key in keys
        )
        self.effect(node, Effect.FRESH if hashed else Effect.READ)

    def _formatted(self, node: ast.FormattedValue) -> None:
        self.expression(node.value)
        self.expression(node.format_spec)
        self.effect(node, Effect.NONE if self.knowledge.type_of(node.value) in ("str", "int") else Effect.READ)

    def _lambda(self, node: ast.Lambda) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            self.expression(default)
        self.captures(self.inner_scope(node), node)
        self.effect(node, Effect.FRESH)

    def _walrus(self, node: ast.NamedExpr) -> None:
        self.expression(node.value)
        self.add("write", node.target, node.target.id, raises=False)

    def _suspension(self, node: ast.Await | ast.Yield | ast.YieldFrom) -> None:
        self.expression(node.value)
        self.effect(node, Effect.CALL)


_EXPRESSIONS: dict[type[ast.AST], Callable[[ExpressionEvents, Any], None]] = {
    ast.Name: ExpressionEvents._name,
    ast.Subscript: ExpressionEvents._subscript,
    ast.BinOp: ExpressionEvents._operator,
    ast.UnaryOp: ExpressionEvents._operator,
    ast.Compare: ExpressionEvents._compare,
    ast.BoolOp: ExpressionEvents._bool_op,
    ast.IfExp: ExpressionEvents._conditional,
    ast.Call: ExpressionEvents._call,
    ast.Starred: ExpressionEvents._starred,
    ast.List: ExpressionEvents._display,
    ast.Set: ExpressionEvents._display,
    ast.Dict: ExpressionEvents._display,
    ast.FormattedValue: ExpressionEvents._formatted,
    ast.Lambda: ExpressionEvents._lambda,
    ast.NamedExpr: ExpressionEvents._walrus,
    ast.Await: ExpressionEvents._suspension,
    ast.Yield: ExpressionEvents._suspension,
    ast.YieldFrom: ExpressionEvents._suspension,
}
