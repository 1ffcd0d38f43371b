"""The text of extracted code: an assignment before a statement, or statements that have become a function.

Lines are moved as they are, with another indentation; lines inside a string are left alone. The syntax tree of the
result is compared with the one that is meant, which is made from the old tree.
"""

from __future__ import annotations

import ast
import copy
import io
import re
import tokenize

from codegen_lsp.refactor.edits import Lines, margin_of
from codegen_lsp.refactor.python.ast_nodes import parse, suites_of
from codegen_lsp.refactor.python.extract_conditions import FunctionPlan
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.source.lines import start_of_line

_STRING_STARTS = {tokenize.STRING, getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "TSTRING_START", -1)}
_STRING_ENDS = {tokenize.STRING, getattr(tokenize, "FSTRING_END", -1), getattr(tokenize, "TSTRING_END", -1)}


def with_variable(view: SelectionView, host: ast.stmt, node: ast.expr, name: str) -> str:
    """Return the text with an expression put into a variable. Raises RefactorError."""
    text = view.source.text
    memo: dict[int, ast.AST] = {}
    expected = copy.deepcopy(view.tree, memo)
    assignment = ast.Assign([ast.Name(name, ast.Store())], memo[id(node)])  # type: ignore[arg-type]
    _replace_node(memo[id(host)], memo[id(node)], ast.Name(name, ast.Load()))
    _replace_statements(expected, [memo[id(host)]], [assignment, memo[id(host)]])
    start, end = view.span(node)
    line = start_of_line(text, view.span(host)[0])
    first, last = _with_parentheses(text, start, end)
    for value in _as_one_line(text[start:end]), text[start:end], f"({text[start:end]})":
        for begin, stop in (first, last), (start, end):
            result = f"{text[:line]}{margin_of(text, line)}{name} = {value}\n{text[line:begin]}{name}{text[stop:]}"
            if _has_tree(result, expected):
                return result
    raise RefactorError("another_meaning", "The result would mean something else.")


def with_function(view: SelectionView, plan: FunctionPlan, name: str, start: int, end: int) -> str:
    """Return the text with the lines of the selected statements put into a function. Raises RefactorError.

    `start` and `end` are the offsets of the statements, with the comments that move along.
    """
    text, statements = view.source.text, view.statements
    margin = margin_of(text, view.span(statements[0])[0])
    first, last = start_of_line(text, start), end
    at = _place(view, plan, first)
    outer = "" if plan.beside is None else margin_of(text, view.span(plan.beside)[0])
    unit = indentation_unit(view, plan)
    outputs = ", ".join(plan.interface.outputs)
    body = _indented(text, first, last, margin, outer + unit)
    if outputs:
        body += f"\n{outer}{unit}return {outputs}"
    head = f"{outer}@classmethod\n" if plan.kind == "classmethod" else ""
    head += f"{outer}def {name}({', '.join(plan.inputs)}):\n"
    called = f"{plan.inputs[0]}.{name}" if plan.kind != "function" else name
    call = f"{called}({', '.join(plan.inputs[plan.kind != 'function' :])})"
    if isinstance(statements[-1], ast.Return):
        call = f"return {call}"
    elif outputs:
        call = f"{outputs} = {call}"
    function = f"{head}{body}\n"
    replaced = f"{margin}{call}"
    if at <= first:
        result = _apart(text[:at], function, text[at:first] + replaced + text[last:], outer)
    else:
        result = _apart(text[:first] + replaced + text[last:at], function, text[at:], outer)
    if not _has_tree(result, _tree_with_function(view, plan, name)):
        raise RefactorError("another_meaning", "The result would mean something else.")
    return result


def indentation_unit(view: SelectionView, plan: FunctionPlan) -> str:
    """Return the white space by which the function around indents its suite, or else the first suite of the file."""
    text = view.source.text
    for node in [plan.around, *ast.walk(view.tree)]:
        if not isinstance(node, ast.stmt | ast.ExceptHandler):
            continue
        for suite in suites_of(node):
            outer, inner = margin_of(text, view.span(node)[0]), margin_of(text, view.span(suite[0])[0])
            if suite[0].lineno > node.lineno and inner.startswith(outer) and len(inner) > len(outer):
                return inner[len(outer) :]
    return "    "


def _place(view: SelectionView, plan: FunctionPlan, first: int) -> int:
    """Return the offset of the line at which the new function is inserted.

    It is defined before anything can call it: a decorator, or the body of a class, may call a function at once.
    """
    if plan.beside is None:
        return first
    start, end = view.line_span(plan.beside)
    if plan.beside.decorator_list or (plan.kind == "function" and isinstance(plan.beside, ast.ClassDef)):
        return start
    return end


def _apart(before: str, function: str, after: str, margin: str) -> str:
    """Join the texts with at least the blank lines that a definition has around it."""
    least = 1 if margin else 2
    if before and not before.endswith("\n"):
        before += "\n"
    lines = before.rstrip("\n")
    opens = not lines.strip() or lines.endswith(":")
    above = len(before) - len(lines) - 1
    head = before if opens else before + "\n" * max(0, least - above)
    rest = after.lstrip("\n")
    below = len(after) - len(rest)
    return head + function + "\n" * (max(below, least) if rest.strip() else below) + rest


def _indented(text: str, start: int, end: int, old: str, new: str) -> str:
    """Return lines with another indentation, but for lines that begin inside a string."""
    lines = Lines.of(text)
    inside = _lines_in_strings(text)
    found = []
    for at, line in enumerate(text[start:end].split("\n"), start=lines.line(start)):
        if at in inside or not line.startswith(old):
            found.append(line if at in inside or line.strip() else "")
        else:
            found.append(new + line[len(old) :])
    return "\n".join(found)


def _lines_in_strings(text: str) -> set[int]:
    """Return the numbers of the lines that begin inside a string."""
    found: set[int] = set()
    starts: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _STRING_STARTS:
            starts.append(token.start[0])
        if token.type in _STRING_ENDS:
            found.update(range(starts.pop() + 1, token.end[0] + 1))
    return found


def _as_one_line(text: str) -> str:
    """Return an expression with its lines joined."""
    if "#" in text:
        return text
    return re.sub(r"(?<=[(\[{]) (?=\S)|(?<=\S),? (?=[)\]}])", "", " ".join(one.strip() for one in text.split("\n")))


def _with_parentheses(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the offsets with those of one pair of parentheses right around them."""
    first, last = start, end
    while first > 0 and text[first - 1] in " \t\n":
        first -= 1
    while last < len(text) and text[last] in " \t\n":
        last += 1
    if text[first - 1 : first] == "(" and text[last : last + 1] == ")":
        before = text[: first - 1][-1:]
        if not (before.isalnum() or before in tuple("_)]}'\"")):
            return first - 1, last + 1
    return start, end


def _tree_with_function(view: SelectionView, plan: FunctionPlan, name: str) -> ast.Module:
    """Return the syntax tree that is meant."""
    memo: dict[int, ast.AST] = {}
    expected = copy.deepcopy(view.tree, memo)
    moved = [memo[id(one)] for one in view.statements]
    outputs, inputs = plan.interface.outputs, plan.inputs
    body: list[ast.stmt] = [one for one in moved if isinstance(one, ast.stmt)]
    if outputs:
        body.append(ast.Return(_tuple(outputs, ast.Load())))
    parameters = ast.arguments([], [ast.arg(one) for one in inputs], None, [], [], None, [])
    decorators: list[ast.expr] = [ast.Name("classmethod", ast.Load())] if plan.kind == "classmethod" else []
    function = ast.FunctionDef(name, parameters, body, decorators)
    given: list[ast.expr] = [ast.Name(one, ast.Load()) for one in inputs]
    called: ast.expr = ast.Name(name, ast.Load())
    if plan.kind != "function":
        called, given = ast.Attribute(given[0], name, ast.Load()), given[1:]
    call: ast.expr = ast.Call(called, given, [])
    statement: ast.stmt = ast.Expr(call)
    if isinstance(view.statements[-1], ast.Return):
        statement = ast.Return(call)
    elif outputs:
        statement = ast.Assign([_tuple(outputs, ast.Store())], call)
    if plan.beside is None:
        _replace_statements(expected, moved, [function, statement])
        return expected
    _replace_statements(expected, moved, [statement])
    beside = memo[id(plan.beside)]
    above = plan.beside.decorator_list or (plan.kind == "function" and isinstance(plan.beside, ast.ClassDef))
    _replace_statements(expected, [beside], [function, beside] if above else [beside, function])
    return expected


def _tuple(names: list[str], context: ast.expr_context) -> ast.expr:
    found: list[ast.expr] = [ast.Name(one, context) for one in names]
    return found[0] if len(found) == 1 else ast.Tuple(found, context)


def _replace_node(above: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for node in ast.walk(above):
        for field, value in ast.iter_fields(node):
            if value is old:
                setattr(node, field, new)
            elif isinstance(value, list):
                value[:] = [new if one is old else one for one in value]


def _replace_statements(tree: ast.AST, old: list[ast.AST], new: list[ast.AST]) -> None:
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and any(one is old[0] for one in value):
                at = next(at for at, one in enumerate(value) if one is old[0])
                value[at : at + len(old)] = new
                return


def _has_tree(text: str, expected: ast.Module) -> bool:
    tree = parse(text)
    return tree is not None and ast.dump(tree) == ast.dump(expected)
