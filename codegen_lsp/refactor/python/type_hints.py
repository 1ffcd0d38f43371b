"""Add type hints: from defaults and returned values, else from the model, and only if a type checker agrees.

The names in a hint must have their value when the function is defined (`hint_conditions`), and mypy must find no error
with it that it does not find without. Without mypy there are no hints: those of the model alone are too often wrong.
"""

from __future__ import annotations

import ast

from attrs import frozen

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.ast_nodes import Function, lines_of, walk_scope
from codegen_lsp.refactor.python.hint_conditions import check_hints_are_unread, known_types
from codegen_lsp.refactor.python.program_checks import definitions
from codegen_lsp.refactor.python.selection import SelectionView, end_of_head
from codegen_lsp.refactor.python.typecheck import errors
from codegen_lsp.refactor.python.writing_conditions import missing_hints
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft

CANDIDATES = 4
STOP = StopRules(max_tokens=16, max_lines=1, strings=["=", "):", "\n", " #", ":"])


@frozen
class Hint:
    """A type for one place of a signature."""

    start: int
    end: int
    new: str
    label: str


async def type_hints(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Add hints to the function whose head is selected. Raises RefactorError, WorkerError and ModelError."""
    node = view.header
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    check_hints_are_unread(view, node)
    text = view.source.text
    known = known_types(view, node)
    choices: list[list[Hint]] = []
    for argument in missing_hints(view, node):
        report("Inferring types", 0.1)
        place = _place(view, node, argument)
        types = [
            one for one in _types_by_syntax(node, argument) if one in known or one == "None"
        ] or await _types_by_model(assistant, text, place, known)
        choices.append([_hint(place, one) for one in types])
    kept = [hints for hints in choices if hints]
    if not kept:
        raise RefactorError("no_types", f"No type was found for anything in {node.name}.")
    report("Checking types", 0.4)
    chosen = await _accepted(view, kept, report)
    if not chosen:
        raise RefactorError("type_errors", "The type checker finds new errors with every type that was found.")
    name = next(name for name, one in definitions(view.tree) if one is node)
    head = lines_of(node) & frozenset(range(node.lineno, node.body[0].lineno + 1))
    label = ", ".join(hint.label for hint in chosen)
    return [RefactoringDraft(_with(text, chosen), label, AllowedChanges(lines=head, annotations=frozenset({name})))]


async def _accepted(view: SelectionView, choices: list[list[Hint]], report: ProgressReport) -> list[Hint]:
    """Return for each place the first hint that the type checker accepts.

    The first hints of all places are tried together, which mostly succeeds.
    """
    text, path = view.source.text, view.source.path
    before = await errors(text, path)

    async def fits(hints: list[Hint]) -> bool:
        return not await errors(_with(text, hints), path) - before

    first = [hints[0] for hints in choices]
    if await fits(first):
        return first
    kept: list[Hint] = []
    for at, hints in enumerate(choices):
        for hint in hints:
            report("Checking types", 0.4 + 0.5 * at / len(choices))
            if await fits([*kept, hint]):
                kept.append(hint)
                break
    return kept


def _types_by_syntax(node: Function, argument: ast.arg | None) -> list[str]:
    """Return the types that follow from the syntax tree."""
    if argument is None:
        inside = list(walk_scope(node))
        if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in inside):
            return []
        values = [one.value for one in inside if isinstance(one, ast.Return) and one.value is not None]
        if not values:
            return ["None"] if not _never_returns(node) else []
        constants = {type(one.value).__name__ for one in values if isinstance(one, ast.Constant)}
        if len(constants) == 1 and all(isinstance(one, ast.Constant) for one in values):
            return [constant.replace("NoneType", "None") for constant in constants]
        return ["bool"] if all(isinstance(one, ast.Compare) for one in values) else []
    if argument in (node.args.vararg, node.args.kwarg):
        return []
    default = _default(node, argument)
    if isinstance(default, ast.Constant) and default.value is not None and default.value is not ...:
        return [type(default.value).__name__]
    return []


def _never_returns(node: Function) -> bool:
    return isinstance(node.body[-1], ast.Raise)


def _default(node: Function, argument: ast.arg) -> ast.expr | None:
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults = dict(zip(positional[::-1], node.args.defaults[::-1], strict=False))
    defaults |= {one: value for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value}
    return defaults.get(argument)


@frozen
class _HintPosition:
    """The place of a hint: `text[start:end]` is replaced by `before`, the type, and `after`."""

    start: int
    end: int
    before: str
    after: str
    name: str


def _place(view: SelectionView, node: Function, argument: ast.arg | None) -> _HintPosition:
    if argument is None:
        colon = end_of_head(view, node)
        return _HintPosition(colon, colon, " -> ", "", "returns")
    end = view.span(argument)[1]
    default = _default(node, argument)
    if default is None:
        return _HintPosition(end, end, ": ", "", argument.arg)
    value = view.span(default)[0]
    # Parentheses around a default are not part of its node.
    opening = view.source.text[end:value].partition("=")[2].lstrip()
    return _HintPosition(end, value - len(opening), ": ", " = ", argument.arg)


async def _types_by_model(assistant: ModelAssistant, text: str, place: _HintPosition, known: set[str]) -> list[str]:
    before = text[: place.start] + place.before.rstrip(" ")
    after = (place.after or "") + text[place.end :]
    candidates = await assistant.continuations(before, after, stop=STOP, candidates=CANDIDATES)
    types = [_type_in(one.text) for one in candidates if one.finish != "length"]
    return list(dict.fromkeys(one for one in types if one and _is_type(one, known)))


def _type_in(text: str) -> str:
    """Return the text up to the comma or bracket that ends a type."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "[(") - (character in "])")
        if depth < 0 or (character == "," and depth == 0):
            return text[:at].strip()
    return text.strip()


def _is_type(text: str, known: set[str]) -> bool:
    """Return whether the text is a type expression whose names the file knows."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    allowed = (
        *(ast.Expression, ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List),
        *(ast.BinOp, ast.BitOr, ast.expr_context),
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if node.value is not None and node.value is not ...:
                return False
        elif not isinstance(node, allowed) or (isinstance(node, ast.Name) and node.id not in known):
            return False
    return isinstance(tree.body, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp | ast.Constant) and text != "..."


def _hint(place: _HintPosition, type_: str) -> Hint:
    return Hint(place.start, place.end, f"{place.before}{type_}{place.after}", f"{place.name}: {type_}")


def _with(text: str, hints: list[Hint]) -> str:
    for hint in sorted(hints, key=lambda one: -one.start):
        text = text[: hint.start] + hint.new + text[hint.end :]
    return text
