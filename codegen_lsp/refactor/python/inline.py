"""Inline variable and function: text is moved, and the result must have a syntax tree computed beforehand.

The value gets parentheses in the place of each use; the tree of the result is compared with the old tree in which the
tree of the value replaces each use; and then every pair of parentheses is removed that the tree does not need.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import re
from collections.abc import Callable, Mapping

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.ast_nodes import parse
from codegen_lsp.refactor.python.inline_calls import BoundCall, function_to_inline
from codegen_lsp.refactor.python.inline_conditions import variable_to_inline
from codegen_lsp.refactor.python.rename_across import texts_of
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft
from codegen_lsp.source.lines import end_of_line, start_of_line

_ATOMS = (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.List, ast.Dict, ast.Set)
"""Expressions that need no parentheses in the place of a name."""
_MOST_CHARACTERS = 1_000
"""Most characters between a parenthesis and the one that closes it."""

Edit = tuple[int, int, str]
"""Offsets in the document, and the new text between them."""


async def variable(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Replace the variable at the cursor by its value. Raises RefactorError."""
    found = variable_to_inline(view)
    assert isinstance(found, tuple)
    _, assignment, uses = found
    report("Moving the code", 0.3)
    return [await asyncio.to_thread(_inline_variable, view, assignment, uses)]


async def function(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Replace every call of the function at the cursor by what it returns. Raises RefactorError."""
    assert view.name is not None
    report("Looking for other uses", 0.1)
    await asyncio.to_thread(_check_unused_elsewhere, view, view.name[0])
    report("Moving the code", 0.3)
    return [await asyncio.to_thread(_inline_function, view, view.name[0])]


def _check_unused_elsewhere(view: SelectionView, name: str) -> None:
    """Raise RefactorError if another file has the name: tests, for example, use private functions."""
    workspace, own = view.source.workspace, view.source.path
    if workspace is None or own is None:
        return
    for path, text in texts_of(workspace).items():
        if path.resolve() != own.resolve() and re.search(rf"\b{name}\b", text):
            raise RefactorError("used_elsewhere", f"{path.name} may use {name}, too.")


def _inline_variable(view: SelectionView, assignment: ast.Assign, uses: list[ast.Name]) -> RefactoringDraft:
    text = view.source.text
    (target,) = assignment.targets
    assert isinstance(target, ast.Name)
    start, end = view.span(assignment.value)
    closing = text[end : view.span(assignment)[1]]
    if "\n" in text[start:end] or "\n" in closing:
        raise RefactorError("several_lines", f"The value of {target.id} stands on several lines.")
    value = text[start:end]
    if not isinstance(assignment.value, _ATOMS) or value[0].isdigit():
        value = f"({value})"
    moved = [(*view.span(use), value) for use in uses]
    results = [_edited(text, [*moved, *edits]) for edits in _removals(text, view.span(assignment), view.span(uses[0]))]

    used = {_position(use) for use in uses}
    expected = copy.deepcopy(view.tree)
    _remove_statement(expected, _position(assignment))
    _substitute(
        expected,
        lambda node: (
            assignment.value
            if isinstance(node, ast.Name) and node.id == target.id and _position(node) in used
            else None
        ),
    )
    lines = frozenset({assignment.lineno, *(use.lineno for use in uses)})
    meant = ast.dump(expected)
    result = next((one for one in results if _has_tree(one, meant)), results[-1])
    text = _without_parentheses(result, meant, {f"({text[start:end]})"})
    return RefactoringDraft(text, target.id, AllowedChanges(lines=lines))


def _inline_function(view: SelectionView, name: str) -> RefactoringDraft:
    found = function_to_inline(view.facts, name)
    node, value, calls = found.node, found.value, found.calls
    removed = _lines_without(view, node)
    edits = [_call_edit(view, value, one) for one in calls]
    result = _edited(view.source.text, [*edits, (*removed, "")])

    values = {_position(one.call): _with_arguments(value, one.arguments) for one in calls}
    expected = copy.deepcopy(view.tree)
    expected.body = [one for one in expected.body if not (isinstance(one, ast.FunctionDef) and one.name == name)]
    _substitute(
        expected,
        lambda node: values.get(_position(node)) if isinstance(node, ast.Call) and _is_call_of(node, name) else None,
    )
    wrapped = {new for _, _, new in edits}
    wrapped |= {f"({view.text_of(given)})" for one in calls for given in one.arguments.values()}
    text = _without_parentheses(result, ast.dump(expected), wrapped)

    lines = Lines.of(view.source.text)
    first, last = lines.line(removed[0]), lines.line(max(removed[0], removed[1] - 1))
    changed = frozenset(range(first, last + 1)) | {one.call.lineno for one in calls}
    allowed = AllowedChanges(lines=changed, signatures=frozenset({name}), names=frozenset({name}))
    return RefactoringDraft(text, name, allowed)


def _call_edit(view: SelectionView, value: ast.expr, bound: BoundCall) -> Edit:
    """Return the edit that puts the value, in parentheses, in the place of a call. Raises RefactorError."""
    start, end = view.span(bound.call)
    if "\n" in view.source.text[start:end]:
        assert isinstance(bound.call.func, ast.Name)
        raise RefactorError("several_lines", f"A call of {bound.call.func.id} stands on several lines.")
    return start, end, f"({_source_with_arguments(view, value, bound.arguments)})"


def _source_with_arguments(view: SelectionView, value: ast.expr, arguments: Mapping[str, ast.expr]) -> str:
    """Return the source of the value with each argument, in parentheses, in the place of its parameter."""
    start, end = view.span(value)
    text = view.source.text[start:end]
    if "\n" in text:
        raise RefactorError("several_lines", "What the function returns stands on several lines.")
    uses = [one for one in ast.walk(value) if isinstance(one, ast.Name) and one.id in arguments]
    for use in sorted(uses, key=lambda one: -view.span(one)[0]):
        first, last = view.span(use)
        text = f"{text[: first - start]}({view.text_of(arguments[use.id])}){text[last - start :]}"
    return text


def _lines_without(view: SelectionView, node: ast.FunctionDef) -> tuple[int, int]:
    """Return the offsets of a function's lines and of the blank lines that are removed with it."""
    text = view.source.text
    first, last = view.line_span(node)
    while last < len(text) and text[last] == "\n":
        last += 1
    if last == len(text):
        while first > 1 and text[first - 2 : first] == "\n\n":
            first -= 1
    return first, last


def _removals(text: str, statement: tuple[int, int], use: tuple[int, int]) -> list[list[Edit]]:
    """Return the edits that remove a statement, best first: with its lines, or with a semicolon beside it.

    A comment behind it moves to the end of the line with the use, or else stays.
    """
    start, end = statement
    first, last = start_of_line(text, start), end_of_line(text, end)
    if (after := re.compile(r"[ \t]*;[ \t]*(?=[^\s#])").match(text, end, last)) is not None:
        return [[(start, after.end(), "")]]
    if text[first:start].strip():
        before = text[first:start].rstrip().rstrip(";").rstrip()
        return [[(first + len(before), end, "")]]
    whole = (first, min(last + 1, len(text)), "")
    comment = text[end:last].strip(" \t;")
    if not comment:
        return [[whole]]
    stays: list[Edit] = [(start, last, comment)]
    behind = end_of_line(text, use[1])
    return [stays] if "#" in text[use[1] : behind] else [[whole, (behind, behind, f"  {comment}")], stays]


def _edited(text: str, edits: list[Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


Replacement = Callable[[ast.AST], ast.expr | None]
"""Returns the expression that replaces a node, or None to keep the node."""


class _Substitution(ast.NodeTransformer):
    """Replaces nodes by copies of expressions."""

    def __init__(self, replacement: Replacement) -> None:
        self._replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST:
        new = self._replacement(node)
        return copy.deepcopy(new) if new is not None else self.generic_visit(node)


def _substitute(tree: ast.AST, replacement: Replacement) -> None:
    """Replace nodes below the root of a tree in place."""
    _Substitution(replacement).generic_visit(tree)


def _with_arguments(value: ast.expr, arguments: Mapping[str, ast.expr]) -> ast.expr:
    """Return a copy of the value with the arguments in the place of the parameters."""
    new = ast.Expr(copy.deepcopy(value))
    _substitute(new, lambda node: arguments.get(node.id) if isinstance(node, ast.Name) else None)
    return new.value


def _is_call_of(node: ast.Call, name: str) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == name


def _without_parentheses(result: str, expected: str, wrapped: set[str]) -> str:
    """Return the text without those of the parenthesized texts `wrapped` whose parentheses its tree does not need.

    Raises RefactorError when the tree of the text is not the expected one.
    """
    if not _has_tree(result, expected):
        raise RefactorError("another_meaning", "The result would mean something else.")
    for group in sorted(wrapped, key=len, reverse=True):
        at = len(result)
        while (at := result.rfind(group, 0, at)) >= 0:
            end = at + len(group) - 1
            bare = f"{result[:at]}{result[at + 1 : end]}{result[end + 1 :]}"
            if _closing(result, at) == end and not _opens_arguments(result, at) and _has_tree(bare, expected):
                result = bare
    return result


def _opens_arguments(text: str, at: int) -> bool:
    """Return whether an opening parenthesis belongs to a call: it follows a name, a bracket or a string."""
    return text[at - 1 : at].isalnum() or text[at - 1 : at] in tuple("_)]}'\"")


def _closing(text: str, at: int) -> int | None:
    """Return the offset of the parenthesis that closes the one at an offset; None when it is too far away."""
    depth = 0
    for position in range(at, min(len(text), at + _MOST_CHARACTERS)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    return None


def _has_tree(text: str, expected: str) -> bool:
    tree = parse(text)
    return tree is not None and ast.dump(tree) == expected


def _remove_statement(tree: ast.AST, position: tuple[int, int]) -> None:
    """Remove the assignment at a position from the suite that it is in."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(node, field, None)
            if isinstance(suite, list):
                suite[:] = [one for one in suite if not (isinstance(one, ast.Assign) and _position(one) == position)]


def _position(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]
