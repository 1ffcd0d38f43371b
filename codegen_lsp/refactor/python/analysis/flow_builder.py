"""The events of statements, and the ways between them: loops, handlers, `finally`, `with`, `match` and jumps.

A `finally` suite is copied for each way that leads into it, so that an exception there is not taken for a way to the
statement below. Every `with` may suppress an exception, but for the context managers of the standard library that are
known not to.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from attrs import define, field

from codegen_lsp.refactor.python.analysis.bindings import Scope
from codegen_lsp.refactor.python.analysis.effects import Effect, knowledge_of
from codegen_lsp.refactor.python.analysis.flow_events import ExpressionEvents, FlowEvent
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph

MOST_EVENTS = 40_000
"""Most events of a function. `finally` suites inside one another are copied many times."""
_NO_SUPPRESSION = frozenset(
    {"open", "closing", "nullcontext", "redirect_stdout", "redirect_stderr", "Lock", "RLock", "Condition", "Semaphore"}
)
"""Functions whose context managers suppress no exception, by their last name."""


class TooComplexError(Exception):
    """A function whose control flow is too large to be analysed."""


@define(eq=False)
class _Frame:
    """A place that jumps pass through on their way out: a loop, or a `finally` suite."""

    kind: str
    head: FlowEvent | None = None
    breaks: list[FlowEvent] = field(factory=list)
    suite: list[ast.stmt] = field(factory=list)
    node: ast.AST | None = None
    handler: FlowEvent | None = None


def flow_of(scope: Scope, modules: frozenset[str] = frozenset(), *, whole: bool = False) -> FlowGraph:
    """Return the control flow of a function or module. Raises TooComplexError.

    Args:
        scope: the function or module.
        modules: names that the whole file imports as modules, if the tree has a part of it only.
        whole: the scope is in the tree of the whole file.
    """
    builder = FlowBuilder(scope, knowledge_of(scope, modules, whole=whole))
    failed = FlowEvent("exit", None, -1)
    end = FlowEvent("exit", None, -2)
    builder.begin(failed, end)
    node = scope.node
    entry = builder.join(None)
    if isinstance(node, ast.Lambda):
        builder.expression(node.body)
    else:
        builder.block(node.body)  # type: ignore[attr-defined]
    builder.finish()
    return FlowGraph(scope, [*builder.events, end, failed], entry, end, failed)


@define
class FlowBuilder(ExpressionEvents):
    """Makes the events of statements, and the ways between them."""

    _frames: list[_Frame] = field(factory=list)
    _end: FlowEvent | None = None

    def begin(self, failed: FlowEvent, end: FlowEvent) -> None:
        """Set where exceptions and returns lead."""
        self._handler, self._end = failed, end

    def finish(self) -> None:
        """Lead the ends of the body to the end of the function."""
        assert self._end is not None
        for one in self._ends:
            one.after.append(self._end)

    def block(self, statements: list[ast.stmt]) -> None:
        """Add the events of a suite."""
        for statement in statements:
            if len(self.events) > MOST_EVENTS:
                raise TooComplexError
            self.join(statement)
            method = _STATEMENTS.get(type(statement))
            if method is not None:
                method(self, statement)
            else:
                for child in ast.iter_child_nodes(statement):
                    self.expression(child)

    def _assign(self, node: ast.Assign) -> None:
        self.expression(node.value)
        for target in node.targets:
            self.store(target)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.expression(node.value)
            self.store(node.target)
        elif not isinstance(node.target, ast.Name):
            self.expression(node.target)
        if self.scope.kind == "module" or not isinstance(node.target, ast.Name):
            # Annotations of local variables are not evaluated.
            self.expression(node.annotation)

    def _augmented(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            self.add("read", target, target.id, self.knowledge.name_effect(target.id))
        else:
            self.expression(target.value)
            if isinstance(target, ast.Subscript):
                self.expression(target.slice)
            self.effect(target, Effect.READ)
        self.expression(node.value)
        # The operator may change the object in its place.
        self.effect(node, Effect.CALL if self.knowledge.type_of(target) is None else Effect.READ)
        if isinstance(target, ast.Name):
            self.write(target.id, target)
        else:
            self.effect(target, Effect.CALL)

    def _delete(self, node: ast.Delete) -> None:
        pending: list[ast.expr] = list(node.targets)
        while pending:
            target = pending.pop(0)
            if isinstance(target, ast.Name):
                self.add("delete", target, target.id)
            elif isinstance(target, ast.Tuple | ast.List):
                pending = [*target.elts, *pending]
            else:
                for child in ast.iter_child_nodes(target):
                    self.expression(child)
                self.effect(target, Effect.CALL)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.effect(alias, Effect.CALL)
            self.write(alias.asname or alias.name.split(".")[0], alias)

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.expression(decorator)
        if isinstance(node, ast.ClassDef):
            for base in [*node.bases, *node.keywords]:
                self.expression(base)
            # The body runs at once, and its functions keep the variables.
            self.captures(self.inner_scope(node), node, kind="read")
            self.captures(self.inner_scope(node), node)
            self.effect(node, Effect.CALL)
        else:
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                self.expression(default)
            hints = [one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg)]
            for hint in [*hints, node.returns]:
                self.expression(hint)
            self.captures(self.inner_scope(node), node)
        if node.decorator_list:
            self.effect(node, Effect.CALL)
        self.write(node.name, node)

    def _return(self, node: ast.Return) -> None:
        self.expression(node.value)
        self._jump(node, "return")

    def _raise(self, node: ast.Raise) -> None:
        self.expression(node.exc)
        self.expression(node.cause)
        self.add("effect", node, effect=Effect.CALL)
        self._ends = []

    def _assert(self, node: ast.Assert) -> None:
        self.expression(node.test)
        self.effect(node.test, self.knowledge.truth(node.test))
        start = self.join(node)
        self.expression(node.msg)
        self.add("effect", node, effect=Effect.CALL)
        self._ends = [start]

    def _if(self, node: ast.If) -> None:
        self.expression(node.test)
        self.effect(node.test, self.knowledge.truth(node.test))
        start = self.join(node)
        self.block(node.body)
        done = self._ends
        self._ends = [start]
        self.block(node.orelse)
        self.join(node, done)

    def _while(self, node: ast.While) -> None:
        head = self.join(node)
        self.expression(node.test)
        self.effect(node.test, self.knowledge.truth(node.test))
        start = self.join(node)
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._loop(node, head, start, [] if endless else [start])

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.expression(node.iter)
        head = self.join(node)
        awaits = isinstance(node, ast.AsyncFor)
        self.effect(node, Effect.CALL if awaits else self.knowledge.iterates(node.iter))
        start = self.join(node)
        self.store(node.target)
        self._loop(node, head, start, [start])

    def _loop(
        self, node: ast.For | ast.AsyncFor | ast.While, head: FlowEvent, start: FlowEvent, left: list[FlowEvent]
    ) -> None:
        """Add a loop's body, which follows the ends so far, and its `else`, which follows `left`."""
        frame = _Frame("loop", head, handler=self._handler)
        self._frames.append(frame)
        self.block(node.body)
        self._frames.pop()
        for end in self._ends:
            end.after.append(head)
        self._ends = list(left)
        self.block(node.orelse)
        self.join(node, frame.breaks)

    def _break(self, node: ast.Break) -> None:
        self._jump(node, "break")

    def _continue(self, node: ast.Continue) -> None:
        self._jump(node, "continue")

    def _jump(self, node: ast.stmt, kind: str) -> None:
        """Lead out of the loop or function, through each `finally` suite on the way."""
        frames, handler = list(self._frames), self._handler
        while self._frames:
            frame = self._frames.pop()
            self._handler = frame.handler
            if frame.kind == "loop" and kind != "return":
                start = self.join(node)
                if kind == "break":
                    frame.breaks.append(start)
                else:
                    assert frame.head is not None
                    start.after.append(frame.head)
                break
            if frame.kind == "finally":
                self.block(frame.suite)
            elif frame.kind == "with" and frame.node is not None:
                self.add("effect", frame.node, effect=Effect.CALL)
        else:
            self.finish()
        self._frames, self._handler = frames, handler
        self._ends = []

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        self._with_items(node, list(node.items))

    def _with_items(self, node: ast.With | ast.AsyncWith, items: list[ast.withitem]) -> None:
        if not items:
            self.block(node.body)
            return
        first = items[0]
        self.expression(first.context_expr)
        self.effect(first, Effect.CALL)
        outside = self._handler
        leaving = FlowEvent("join", node, len(self.events))
        self.events.append(leaving)
        self._handler = leaving
        self._frames.append(_Frame("with", node=first, handler=outside))
        if first.optional_vars is not None:
            self.store(first.optional_vars)
        self._with_items(node, items[1:])
        self._frames.pop()
        self._handler = outside
        normal = self._ends
        self._ends = [leaving]
        suppressed = self.add("effect", first, effect=Effect.CALL)
        self._ends = normal
        if normal:
            self.add("effect", first, effect=Effect.CALL)
        if not _never_suppresses(first.context_expr):
            self._ends = [*self._ends, suppressed]
        if self._ends:
            self.join(node)

    def _try(self, node: ast.Try) -> None:
        outside = self._handler
        if node.finalbody:
            self._finally(node, outside)
        else:
            self._handlers(node, outside)

    def _finally(self, node: ast.Try, outside: FlowEvent | None) -> None:
        failing = FlowEvent("join", node, len(self.events))
        self.events.append(failing)
        self._handler = failing
        self._frames.append(_Frame("finally", suite=node.finalbody, node=node, handler=outside))
        self._handlers(node, failing)
        self._frames.pop()
        self._handler = outside
        normal = self._ends
        self._ends = [failing]
        self.block(node.finalbody)
        if outside is not None:
            for end in self._ends:
                end.after.append(outside)
        self._ends = normal
        if normal:
            self.block(node.finalbody)

    def _handlers(self, node: ast.Try, outside: FlowEvent | None) -> None:
        if not node.handlers:
            self.block(node.body)
            self.block(node.orelse)
            return
        raised = FlowEvent("join", node, len(self.events))
        self.events.append(raised)
        self._handler = raised
        self.block(node.body)
        self._handler = outside
        self.block(node.orelse)
        done = list(self._ends)
        self._ends = [raised]
        for handler in node.handlers:
            self.expression(handler.type)
            if handler.type is not None:
                self.effect(handler, Effect.READ)
            tested = self.join(handler)
            self._handler_body(handler)
            done += self._ends
            self._ends = [tested]
        if outside is not None and all(one.type is not None for one in node.handlers):
            for end in self._ends:
                end.after.append(outside)
        self._ends = []
        self.join(node, done)

    def _handler_body(self, handler: ast.ExceptHandler) -> None:
        if handler.name is None:
            self.block(handler.body)
            return
        # The name is deleted on every way out of the handler.
        self.write(handler.name, handler)
        forget = ast.copy_location(ast.Delete([ast.copy_location(ast.Name(handler.name, ast.Del()), handler)]), handler)
        wrapped = ast.copy_location(ast.Try(handler.body, [], [], [_Forget(handler, handler.name, forget)]), handler)
        self._finally(wrapped, self._handler)

    def _forget(self, node: _Forget) -> None:
        self.add("write", node.handler, node.variable, raises=False)
        self.add("delete", node.handler, node.variable, raises=False)

    def _match(self, node: ast.Match) -> None:
        self.expression(node.subject)
        done: list[FlowEvent] = []
        for case in node.cases:
            self.effect(case.pattern, Effect.NONE if isinstance(case.pattern, ast.MatchAs) else Effect.CALL)
            failed = [self.join(case)]
            self._pattern(case.pattern, failed)
            if case.guard is not None:
                self.expression(case.guard)
                self.effect(case.guard, self.knowledge.truth(case.guard))
                failed.append(self.join(case))
            self.block(case.body)
            done += self._ends
            always = case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            self._ends = [] if always else failed
        self.join(node, done)

    def _pattern(self, pattern: ast.pattern, failed: list[FlowEvent]) -> None:
        """Add the reads of a pattern, then its captures; each of them may be the last before the pattern fails."""
        for one in ast.walk(pattern):
            if isinstance(one, ast.MatchValue | ast.MatchClass):
                self.expression(one.value if isinstance(one, ast.MatchValue) else one.cls)
        for one in ast.walk(pattern):
            name = one.rest if isinstance(one, ast.MatchMapping) else getattr(one, "name", None)
            if isinstance(one, ast.MatchAs | ast.MatchStar | ast.MatchMapping) and name:
                self.write(name, one)
                failed += self._ends

    def _nothing(self, node: ast.stmt) -> None:
        """A declaration does nothing when it is executed."""


class _Forget(ast.stmt):
    """The deletion of an exception's name at the end of its handler."""

    _fields = ()

    def __init__(self, handler: ast.ExceptHandler, variable: str, node: ast.AST) -> None:
        super().__init__()
        self.handler, self.variable = handler, variable


def _never_suppresses(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _NO_SUPPRESSION


_STATEMENTS: dict[type[ast.AST], Callable[[FlowBuilder, Any], None]] = {
    ast.Assign: FlowBuilder._assign,
    ast.AnnAssign: FlowBuilder._annotated,
    ast.AugAssign: FlowBuilder._augmented,
    ast.Delete: FlowBuilder._delete,
    ast.Import: FlowBuilder._import,
    ast.ImportFrom: FlowBuilder._import,
    ast.FunctionDef: FlowBuilder._definition,
    ast.AsyncFunctionDef: FlowBuilder._definition,
    ast.ClassDef: FlowBuilder._definition,
    ast.Return: FlowBuilder._return,
    ast.Raise: FlowBuilder._raise,
    ast.Assert: FlowBuilder._assert,
    ast.If: FlowBuilder._if,
    ast.While: FlowBuilder._while,
    ast.For: FlowBuilder._for,
    ast.AsyncFor: FlowBuilder._for,
    ast.Break: FlowBuilder._break,
    ast.Continue: FlowBuilder._continue,
    ast.With: FlowBuilder._with,
    ast.AsyncWith: FlowBuilder._with,
    ast.Try: FlowBuilder._try,
    getattr(ast, "TryStar", ast.Try): FlowBuilder._try,
    ast.Match: FlowBuilder._match,
    ast.Global: FlowBuilder._nothing,
    ast.Nonlocal: FlowBuilder._nothing,
    _Forget: FlowBuilder._forget,
}
