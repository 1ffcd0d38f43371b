"""Inline variable and function: rope moves the code, and its result is held to the syntax tree that it must have.

rope puts the text of a value where a name stood, parentheses or not. So the value gets parentheses first, the tree of
the result is compared with the old tree in which the value's tree stands for each use, and then every pair of
parentheses goes that the tree does not need.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import re

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.draft import RefactoringDraft
from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.applicability import PURE, variable_to_inline
from codegen_lsp.refactor.python.rope_backend import inline
from codegen_lsp.refactor.python.scopes import bindings, parameters
from codegen_lsp.refactor.python.selection import Function, SelectionView, docstring_node, parse
from codegen_lsp.refactor.refusal import RefactorError

_ATOMS = (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.List, ast.Dict, ast.Set)


async def variable(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """The variable at the cursor replaced by its value. Raises RefactorError."""
    found = variable_to_inline(view)
    assert found is not None
    _, assignment, uses = found
    report("Moving the code", 0.3)
    return [await asyncio.to_thread(_variable, view, assignment, uses)]


async def function(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """The function at the cursor replaced by what it returns, at every call. Raises RefactorError."""
    assert view.name is not None
    report("Looking for other uses", 0.1)
    await asyncio.to_thread(_check_unused_elsewhere, view, view.name[0])
    report("Moving the code", 0.3)
    return [await asyncio.to_thread(_function, view, view.name[0])]


def _check_unused_elsewhere(view: SelectionView, name: str) -> None:
    """Tests, for one, use functions that are private by their names. Raises RefactorError."""
    workspace, own = view.source.workspace, view.source.path
    if workspace is None or own is None:
        return
    for path, text in workspace.read().items():
        if path.resolve() != own.resolve() and re.search(rf"\b{name}\b", text):
            raise RefactorError("used_elsewhere", f"{path.name} may use {name}, too.")


def _variable(view: SelectionView, assignment: ast.Assign, uses: list[ast.Name]) -> RefactoringDraft:
    text = view.source.text
    (target,) = assignment.targets
    assert isinstance(target, ast.Name)
    name = target.id
    start, end = view.span(assignment.value)
    closing = text[end : view.span(assignment)[1]]
    if "\n" in text[start:end] or "\n" in closing:
        raise RefactorError("several_lines", f"The value of {target.id} stands on several lines.")
    prepared = text
    if not isinstance(assignment.value, _ATOMS) and ")" not in closing:
        prepared = f"{text[:start]}({text[start:end]}){text[end:]}"
    result = inline(prepared, view.span(target)[0])

    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if node.id == name and (node.lineno, node.col_offset) in places:
                return copy.deepcopy(assignment.value)
            return node

    places = {(use.lineno, use.col_offset) for use in uses}
    wanted = copy.deepcopy(view.tree)
    twin = next(node for node in ast.walk(wanted) if isinstance(node, ast.Assign) and _at(node) == _at(assignment))
    _remove(wanted, twin)
    expected = ast.dump(Substitute().visit(wanted))
    lines = {assignment.lineno, *(use.lineno for use in uses)}
    return RefactoringDraft(
        _as(result, expected, {f"({text[start:end]})"}), target.id, AllowedChanges(lines=frozenset(lines))
    )


def _function(view: SelectionView, name: str) -> RefactoringDraft:
    text = view.source.text
    node = next((one for one in view.tree.body if isinstance(one, ast.FunctionDef) and one.name == name), None)
    if node is None:
        raise RefactorError("no_function", f"There is no function {name} in this file.")
    value = _returned(node)
    own = parameters(node)
    if node.args.vararg or node.args.kwarg:
        raise RefactorError("any_arguments", f"{name} takes any number of arguments.")
    calls = [
        one
        for one in ast.walk(view.tree)
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == name
    ]
    names = [one for one in ast.walk(view.tree) if isinstance(one, ast.Name) and one.id == name]
    if len(names) != len(calls) or not calls:
        raise RefactorError("not_only_called", f"{name} is not only called in this file, or not at all.")
    if any(inner is not None and isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(value)):
        raise RefactorError("recursive", f"{name} calls itself.")
    if any(
        isinstance(inner, ast.Name) and inner.id == name
        for one in calls
        for part in one.args
        for inner in ast.walk(part)
    ):
        raise RefactorError("nested_calls", f"A call of {name} is an argument of another.")
    _check_captured(view, node, value, calls)
    bound = {id(one): _arguments(node, one) for one in calls}
    for one in calls:
        for argument in own:
            given = bound[id(one)][argument.arg]
            used = sum(isinstance(inner, ast.Name) and inner.id == argument.arg for inner in ast.walk(value))
            if used != 1 and not isinstance(given, ast.Name | ast.Constant):
                raise RefactorError(
                    "used_twice", f"{name} uses {argument.arg} {used} times, and a call gives an expression for it."
                )
    result = text
    lines = Lines.of(text)
    edits = []
    for one in calls:
        start, end = view.span(one)
        if "\n" in text[start:end]:
            raise RefactorError("several_lines", f"A call of {name} stands on several lines.")
        edits.append((start, end, f"({_substituted(view, value, bound[id(one)])})"))
    first, last = view.line_span(node)
    while last < len(text) and text[last] == "\n":
        last += 1
    if last == len(text):
        while first > 1 and text[first - 2 : first] == "\n\n":
            first -= 1
    edits.append((first, last, ""))
    wrapped = {new for _, _, new in edits if new}
    wrapped |= {f"({view.text_of(one)})" for given in bound.values() for one in given.values()}
    for start, end, new in sorted(edits, reverse=True):
        result = result[:start] + new + result[end:]

    class Substitute(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.expr:
            place = (node.lineno, node.col_offset)
            inner = self.generic_visit(node)
            return copy.deepcopy(places[place]) if place in places and _calls(node, name) else inner  # type: ignore[return-value]

    places = {(one.lineno, one.col_offset): _put(value, bound[id(one)]) for one in calls}
    wanted = copy.deepcopy(view.tree)
    wanted.body = [one for one in wanted.body if not (isinstance(one, ast.FunctionDef) and one.name == name)]
    changed = set(range(lines.line(first), lines.line(max(first, last - 1)) + 1)) | {one.lineno for one in calls}
    allowed = AllowedChanges(lines=frozenset(changed), signatures=frozenset({name}), names=frozenset({name}))
    return RefactoringDraft(_as(result, ast.dump(Substitute().visit(wanted)), wrapped), name, allowed)


def _returned(node: ast.FunctionDef) -> ast.expr:
    body = [one for one in node.body if one is not docstring_node(node)]
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        raise RefactorError("more_than_a_return", f"{node.name} does more than return an expression.")
    if node.decorator_list:
        raise RefactorError("decorated", f"{node.name} has decorators.")
    if any(
        isinstance(inner, ast.Lambda | ast.comprehension | ast.NamedExpr | ast.JoinedStr | ast.Await | ast.Yield)
        for inner in ast.walk(body[0].value)
    ):
        raise RefactorError("own_names", f"{node.name} returns an expression with names of its own.")
    return body[0].value


def _check_captured(view: SelectionView, node: ast.FunctionDef, value: ast.expr, calls: list[ast.Call]) -> None:
    """Names that the function takes from the module must mean the same where it is called."""
    free = {inner.id for inner in ast.walk(value) if isinstance(inner, ast.Name)} - {
        one.arg for one in parameters(node)
    }
    for function in ast.walk(view.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function is not node:
            inside = {id(inner) for inner in ast.walk(function)}
            if any(id(one) in inside for one in calls):
                for name in sorted(free):
                    if bindings(function, name):
                        raise RefactorError("hidden", f"{name} means something else in {function.name}.")


def _arguments(node: Function, call: ast.Call) -> dict[str, ast.expr]:
    """What each parameter gets. Raises RefactorError where syntax doesn't tell."""
    positional = [*node.args.posonlyargs, *node.args.args]
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        raise RefactorError("any_arguments", f"A call of {node.name} unpacks its arguments.")
    given = {one.arg: value for one, value in zip(positional, call.args, strict=False)}
    given |= {one.arg: one.value for one in call.keywords if one.arg}
    defaults = dict(zip([one.arg for one in positional][::-1], node.args.defaults[::-1], strict=False))
    defaults |= {
        one.arg: value for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value
    }
    for one in parameters(node):
        if one.arg not in given:
            default = defaults.get(one.arg)
            if not isinstance(default, ast.Constant):
                raise RefactorError("default", f"A call of {node.name} leaves {one.arg} to its default.")
            given[one.arg] = default
    effects = [
        value
        for value in given.values()
        if any(isinstance(inner, ast.Call) and not _is_pure(inner) for inner in ast.walk(value))
    ]
    if len(effects) > 1:
        raise RefactorError("order", f"The arguments of a call of {node.name} might be evaluated in another order.")
    return given


def _is_pure(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in PURE


def _substituted(view: SelectionView, value: ast.expr, given: dict[str, ast.expr]) -> str:
    """The source of the value with each parameter's argument for it, in parentheses."""
    start, end = view.span(value)
    text = view.source.text[start:end]
    if "\n" in text:
        raise RefactorError("several_lines", "What the function returns stands on several lines.")
    uses = [one for one in ast.walk(value) if isinstance(one, ast.Name) and one.id in given]
    for use in sorted(uses, key=lambda one: -view.span(one)[0]):
        first, last = view.span(use)
        argument = given[use.id]
        new = view.text_of(argument)
        text = f"{text[: first - start]}({new}){text[last - start :]}"
    return text


def _put(value: ast.expr, given: dict[str, ast.expr]) -> ast.expr:
    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return copy.deepcopy(given[node.id]) if node.id in given else node

    put: ast.expr = Substitute().visit(copy.deepcopy(value))
    return put


def _calls(node: ast.Call, name: str) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == name


def _as(result: str, expected: str, wrapped: set[str]) -> str:
    """The text without those parentheses put in (`wrapped`, with what is in them) that its tree doesn't need.

    Raises RefactorError when the tree is another one.
    """
    if not _has_tree(result, expected):
        raise RefactorError("another_meaning", "The result would mean something else.")
    for group in sorted(wrapped, key=len, reverse=True):
        at = len(result)
        while (at := result.rfind(group, 0, at)) >= 0:
            end = at + len(group) - 1
            bare = f"{result[:at]}{result[at + 1 : end]}{result[end + 1 :]}"
            if _closing(result, at) == end and not _is_call(result, at) and _has_tree(bare, expected):
                result = bare
    return result


def _is_call(text: str, at: int) -> bool:
    """Whether an opening parenthesis is a call's: there is a name, a bracket or a string right before it."""
    return text[at - 1 : at].isalnum() or text[at - 1 : at] in tuple("_)]}'\"")


def _closing(text: str, at: int) -> int | None:
    depth = 0
    for position in range(at, min(len(text), at + 1_000)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    return None


def _has_tree(text: str, expected: str) -> bool:
    tree = parse(text)
    return tree is not None and ast.dump(tree) == expected


def _remove(tree: ast.AST, statement: ast.stmt) -> None:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(node, field, None)
            if isinstance(suite, list) and statement in suite:
                suite.remove(statement)


def _at(node: ast.stmt) -> tuple[int, int]:
    return node.lineno, node.col_offset
