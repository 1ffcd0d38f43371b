"""The calls of a function that can be replaced by the expression that it returns, or the reason why not.

In the place of a call, arguments are evaluated where the parameters were read. So those that do anything must be read
once, in the order in which they are given, and before anything else that the expression does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise

from attrs import frozen

from codegen_lsp.refactor.python.analysis.bindings import Occurrence, Scope
from codegen_lsp.refactor.python.analysis.control_flow import depends_on_frame
from codegen_lsp.refactor.python.analysis.effects import Effect, is_known
from codegen_lsp.refactor.python.analysis.escapes import dynamic_uses
from codegen_lsp.refactor.python.analysis.evaluation_order import is_always_evaluated
from codegen_lsp.refactor.python.analysis.facts import ProgramFacts
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent
from codegen_lsp.refactor.python.analysis.scopes import parameters
from codegen_lsp.refactor.python.analysis.string_names import uses_in_strings
from codegen_lsp.refactor.python.ast_nodes import docstring_node, path_to
from codegen_lsp.refactor.refusal import RefactorError

_OWN_NAMES = (ast.Lambda, ast.comprehension, ast.NamedExpr, ast.JoinedStr, ast.Await, ast.Yield, ast.YieldFrom)
"""Expressions that bind names of their own, or can't be moved."""


@frozen
class BoundCall:
    """A call of the function, with what each parameter gets."""

    call: ast.Call
    arguments: Mapping[str, ast.expr]


@frozen
class InlinedFunction:
    """A function that does no more than return an expression, and its calls."""

    node: ast.FunctionDef
    value: ast.expr
    calls: list[BoundCall]


def function_to_inline(facts: ProgramFacts, name: str) -> InlinedFunction:
    """Return a function of the module and all its calls. Raises RefactorError where one can't be replaced."""
    module = facts.module
    found = [one.node for one in module.uses(name) if one.kind != "read"]
    if len(found) != 1 or not isinstance(node := found[0], ast.FunctionDef) or node not in facts.tree.body:
        raise RefactorError("no_function", f"{name} is not defined by one `def` at the top level of this file.")
    value = _returned(node)
    if dynamic := next(dynamic_uses(module, of_module=True), None):
        raise RefactorError("dynamic_names", f"The code on line {dynamic.lineno} may use {name} by its name.")
    if strings := uses_in_strings(facts.tree, name):
        raise RefactorError("named_in_string", f"{name} is named in a string on line {strings[0].lineno}.")
    if node.args.vararg or node.args.kwarg:
        raise RefactorError("any_arguments", f"{name} takes any number of arguments.")
    calls = [_call(facts, node, value, scope, one) for scope, one in _reads(module, name)]
    if not calls:
        raise RefactorError("not_only_called", f"{name} is not called in this file.")
    inside = [id(inner) for one in calls for given in one.arguments.values() for inner in ast.walk(given)]
    for one in calls:
        if id(one.call) in inside:
            reason = f"A call of {name} on line {one.call.lineno} is an argument of another."
            raise RefactorError("nested_calls", reason, "Assign it to a variable first.")
    return InlinedFunction(node, value, calls)


def _reads(module: Scope, name: str) -> Iterator[tuple[Scope, Occurrence]]:
    """Yield the places that read a variable of the module, each with its scope."""
    for scope in module.within():
        if scope.owner(name) is module:
            yield from ((scope, one) for one in scope.own.get(name, ()) if one.kind == "read")


def _returned(node: ast.FunctionDef) -> ast.expr:
    """Return the expression that the function returns. Raises RefactorError when it does anything else."""
    body = [one for one in node.body if one is not docstring_node(node)]
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        raise RefactorError("more_than_a_return", f"{node.name} does more than return an expression.")
    if node.decorator_list:
        raise RefactorError("decorated", f"{node.name} has decorators.")
    if any(isinstance(inner, _OWN_NAMES) for inner in ast.walk(body[0].value)):
        raise RefactorError("own_names", f"{node.name} returns an expression with names of its own.")
    if depends_on_frame(body[0].value):
        raise RefactorError("frame", f"What {node.name} returns depends on the function that it is in.")
    return body[0].value


def _call(facts: ProgramFacts, node: ast.FunctionDef, value: ast.expr, scope: Scope, read: Occurrence) -> BoundCall:
    """Return a call of the function. Raises RefactorError where it can't be replaced."""
    name, line = node.name, read.line
    if scope.node is node or _is_within(scope, node):
        raise RefactorError("recursive", f"{name} calls itself on line {line}.")
    call = next(
        (one for one in ast.walk(scope.node) if isinstance(one, ast.Call) and one.func is read.node),
        None,
    )
    if call is None:
        reason = f"Line {line} uses {name} without calling it."
        raise RefactorError("not_only_called", reason)
    own = facts.scope(node)
    for free in sorted(own.own):
        if free not in own.bound and scope.owner(free) is not own.owner(free):
            raise RefactorError("hidden", f"{free} means something else on line {line}, where {name} is called.")
    arguments = _arguments(node, call)
    _check_order(facts, node, value, scope, call, arguments)
    return BoundCall(call, arguments)


def _is_within(scope: Scope, node: ast.AST) -> bool:
    above: Scope | None = scope
    while above is not None:
        if above.node is node:
            return True
        above = above.parent
    return False


def _arguments(node: ast.FunctionDef, call: ast.Call) -> dict[str, ast.expr]:
    """Return what each parameter gets, in the order of evaluation. Raises RefactorError where syntax does not tell."""
    where = f"The call of {node.name} on line {call.lineno}"
    positional = [*node.args.posonlyargs, *node.args.args]
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        raise RefactorError("any_arguments", f"{where} unpacks its arguments.")
    given = {one.arg: value for one, value in zip(positional, call.args, strict=False)}
    named = {one.arg: one.value for one in call.keywords if one.arg}
    by_name = {one.arg for one in [*node.args.args, *node.args.kwonlyargs]}
    if len(call.args) > len(positional) or named.keys() & given.keys() or not named.keys() <= by_name:
        raise RefactorError("wrong_arguments", f"{where} does not fit its parameters.")
    given |= named
    defaults = dict(zip([one.arg for one in positional][::-1], node.args.defaults[::-1], strict=False))
    defaults |= {
        one.arg: value for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value
    }
    for one in parameters(node):
        if one.arg not in given:
            default = defaults.get(one.arg)
            if not isinstance(default, ast.Constant):
                raise RefactorError("default", f"{where} leaves {one.arg} to its default, or without a value.")
            given[one.arg] = default
    return given


def _check_order(
    facts: ProgramFacts,
    node: ast.FunctionDef,
    value: ast.expr,
    scope: Scope,
    call: ast.Call,
    arguments: Mapping[str, ast.expr],
) -> None:
    """Raise RefactorError unless the arguments are evaluated as often, and in the same order, without the call."""
    name, line = node.name, call.lineno
    effects = {one: _effect(facts, scope, given) for one, given in arguments.items()}
    reads: dict[str, list[ast.Name]] = {one: [] for one in arguments}
    for inner in ast.walk(value):
        if isinstance(inner, ast.Name) and inner.id in reads:
            reads[inner.id].append(inner)
    for one, given in arguments.items():
        if any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(given)):
            raise RefactorError("order", f"An argument on line {line} assigns a variable.")
        times = len(reads[one])
        if effects[one] is Effect.FRESH and times > 1:
            reason = f"{name} uses {one} {times} times, and line {line} gives it a new object."
            raise RefactorError("used_twice", reason)
        if effects[one] > Effect.FRESH and times != 1:
            reason = f"{name} uses {one} {times} times, and line {line} gives an expression for it."
            raise RefactorError("used_twice", reason, f"Assign the value of {one} to a variable first.")
    strict = [one for one in arguments if effects[one] > Effect.FRESH]
    for one in strict:
        path = path_to(value, reads[one][0])
        if path is None or not all(is_always_evaluated(above, below) for above, below in pairwise(path)):
            reason = f"{name} may leave {one} out, which line {line} computes."
            raise RefactorError("order", reason, f"Assign the value of {one} to a variable first.")
    flow = facts.flow(node)
    pending = list(strict)
    for event in [] if flow is None else flow.events_of([value]):
        if not pending:
            break
        if event.name in strict and event.name == pending[0]:
            pending.pop(0)
        elif event.name in strict or flow.effect_of(event) > Effect.FRESH:  # type: ignore[union-attr]
            reason = f"What line {line} gives for {pending[0]} would be evaluated after something else."
            raise RefactorError("order", reason, f"Assign the value of {pending[0]} to a variable first.")
    if pending:
        raise RefactorError("order", f"The order of evaluation on line {line} can't be told.")


def _effect(facts: ProgramFacts, scope: Scope, given: ast.expr) -> Effect:
    """Return what evaluating an argument may do where the call stands."""
    if isinstance(given, ast.Constant):
        return Effect.NONE
    module = facts.module
    for one in ast.walk(given):
        if isinstance(one, ast.Name) and scope.owner(one.id) is module and not is_known(module, one.id):
            return Effect.CALL
    around: Scope | None = scope
    while around is not None and around.kind not in ("module", "function", "lambda"):
        around = around.parent
    flow = facts.flow(around.node) if around is not None else None
    events: list[FlowEvent] = [] if flow is None else flow.events_of([given])
    if flow is None or not events or around is not scope:
        # A variable of a comprehension has a value when the call is made; one of a class may have none.
        is_sure = isinstance(given, ast.Name) and scope.kind == "comprehension" and given.id in scope.bound
        return Effect.NONE if is_sure else Effect.CALL
    return max(flow.effect_of(event) for event in events)
