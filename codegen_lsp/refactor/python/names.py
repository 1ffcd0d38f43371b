"""Names for the results of refactorings, suggested by the model and by the code itself.

The model is asked at the place where the name would stand. The code suggests the name of an attribute, or of the
function that is called; without a model these are the only suggestions. They are ranked later by the likelihood of the
whole changed text, of definition and uses alike.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Container, Iterable

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.refactor.model_assistant import ModelAssistant

MOST_NAMES = 8
"""Most names that are scored."""
NAME_TOKENS = 12
MOST_CHARACTERS = 30

_STOPS = [" ", "=", "(", ")", ",", ":", ".", "[", "]", "\t", "+", "-", "*", "/", "%", "'", '"', "#", "!", "<", ">"]
_VERBS = re.compile(r"^_*(?:get|load|read|make|create|build|fetch|find|compute|calculate|parse|to|from|as|is|new)_+")
_TYPES = {ast.List: "items", ast.Tuple: "values", ast.Dict: "mapping", ast.Set: "values", ast.JoinedStr: "message"}
_OPERATORS = {
    ast.Add: "total",
    ast.Sub: "difference",
    ast.Mult: "product",
    ast.Div: "ratio",
    ast.FloorDiv: "quotient",
    ast.Mod: "remainder",
}


def snake(text: str) -> str:
    """Return the text in snake case, without characters that can't be in a name."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"\W+|_+", "_", text).strip("_").lower()


def fits(name: str, taken: Container[str]) -> bool:
    """Return whether the text is a name of a sensible length that is not taken."""
    return name.isidentifier() and len(name) <= MOST_CHARACTERS and name not in taken and bool(name.strip("_"))


def of_expression(node: ast.expr) -> list[str]:
    """Return the names that an expression suggests, best first."""
    return list(dict.fromkeys(name for name in map(snake, _of(node)) if name))


def of_statements(statements: list[ast.stmt], result: list[str]) -> list[str]:
    """Return the names that statements suggest for a function; `result` are the variables that it returns."""
    nouns = [snake(name) for name in result]
    calls = [_called(node) for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]
    verbs = [snake(name) for name in calls if name]
    found = [f"get_{noun}" for noun in nouns] + [f"compute_{noun}" for noun in nouns] + verbs
    for statement in statements:
        if isinstance(statement, ast.For):
            found += [f"process_{name}" for name in _of(statement.iter)]
        if isinstance(statement, ast.If):
            found.append("check")
    return list(dict.fromkeys(snake(name) for name in found if snake(name)))


async def suggested(
    assistant: ModelAssistant,
    before: str,
    after: str,
    rules: Iterable[str],
    taken: Container[str],
    *,
    shape: Callable[[str], str],
    fallback: str = "value",
) -> list[str]:
    """Return at most `MOST_NAMES` free names: those that the model suggests, then those of the rules.

    Args:
        assistant: the model.
        before: the text before the name.
        after: the text after the name.
        rules: names that the code suggests.
        taken: names that are not free.
        shape: turns a suggestion into a name, in the case of its kind of symbol.
        fallback: the suggestion where there is no other free one.

    Raises WorkerError and ModelError.
    """
    stop = StopRules(max_tokens=NAME_TOKENS, max_lines=1, strings=_STOPS)
    candidates = await assistant.continuations(before, after, stop=stop, candidates=6)
    words = [
        found.group()
        for one in candidates
        if (found := re.match(r"\s*([^\W\d]\w*)", one.text)) and one.finish != "length"
    ]
    # Models often suggest a single letter, which tells nothing about the code.
    written = [word.strip() for word in words if len(word.strip()) > 1]
    named = [shape(word) for word in [*written[: MOST_NAMES // 2], *rules]]
    free = [name for name in dict.fromkeys(named) if fits(name, taken)]
    return free[:MOST_NAMES] or [numbered(shape(fallback), taken)]


def numbered(name: str, taken: Container[str]) -> str:
    """Return the name, with a number behind it if it is taken."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _of(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Call):
        name = _called(node)
        if name == "open":
            return ["file", "stream"]
        if name in ("len", "sum", "max", "min", "sorted", "set", "list", "tuple") and node.args:
            word = {"len": "count", "sum": "total", "max": "largest", "min": "smallest"}.get(name, name)
            return [*(f"{inner}_{word}" for inner in _of(node.args[0])), word]
        return [_VERBS.sub("", name), name] if name else []
    if isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return [node.slice.value]
        return [singular(name) for name in _of(node.value)]
    if isinstance(node, ast.BinOp):
        return [_OPERATORS[type(node.op)]] if type(node.op) in _OPERATORS else []
    if isinstance(node, ast.Compare | ast.BoolOp):
        return ["condition", "matches"]
    if isinstance(node, ast.UnaryOp):
        return [f"not_{name}" for name in _of(node.operand)] if isinstance(node.op, ast.Not) else _of(node.operand)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return [*_of(node.elt), *_of(node.generators[0].iter)]
    if isinstance(node, ast.Constant):
        return ["text" if isinstance(node.value, str) else "number"]
    return [_TYPES[type(node)]] if type(node) in _TYPES else []


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def singular(name: str) -> str:
    """Return the name of one element of a collection with this name."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
