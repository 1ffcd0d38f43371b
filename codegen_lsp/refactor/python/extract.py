"""Extract variable, function and method: rope moves the code, and the model names the result."""

from __future__ import annotations

import ast
import asyncio
import re

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python import names, summaries
from codegen_lsp.refactor.python.analysis.scopes import RESERVED, identifiers, variables
from codegen_lsp.refactor.python.ast_nodes import lines_of, parse
from codegen_lsp.refactor.python.rope_backend import extract_function, extract_variable
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft

PLACEHOLDER = "extracted_piece"
"""The name of the result until it gets one."""


async def variable(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Put the selected expression into a variable. Raises RefactorError, WorkerError and ModelError."""
    node, host = view.expression, view.statement
    assert node is not None
    assert host is not None
    text = view.source.text
    start, end = view.span(node)
    line, _ = view.line_span(host)
    first, _ = view.span(host)
    report("Looking for names", 0.1)
    taken = RESERVED | variables(view.tree)
    after = f" = {text[start:end]}\n{text[line:]}"
    found = await names.suggested(assistant, text[:first], after, names.of_expression(node), taken, shape=names.snake)
    report("Moving the code", 0.5)
    allowed = AllowedChanges(lines=lines_of(host))
    placeholder = names.numbered(PLACEHOLDER, taken)
    base = await asyncio.to_thread(_extract_variable, text, start, end, placeholder)
    return [RefactoringDraft(_named(base, placeholder, name), name, allowed) for name in found]


async def function(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Put the selected statements into a function or method. Raises RefactorError, WorkerError and ModelError."""
    text = view.source.text
    statements = view.statements
    # Selected comments above the first statement move along, and so does a comment behind the last one.
    start, end = min(view.trimmed[0], view.span(statements[0])[0]), view.span(statements[-1])[1]
    end += len(re.match(r"[ \t]*(?:#.*)?", text[end:]).group())  # type: ignore[union-attr]
    taken = RESERVED | set(identifiers(view.tree))
    placeholder = names.numbered(PLACEHOLDER, taken)
    report("Moving the code", 0.1)
    base = await asyncio.to_thread(extract_function, text, start, end, placeholder)
    base = _apart(_comments_once(base, text[start:end], placeholder), placeholder)
    report("Looking for names", 0.4)
    result = _result_names(base, placeholder)
    before, _, after = base.partition(placeholder)
    found = await names.suggested(
        assistant, before, after, names.of_statements(statements, result), taken, shape=_private, fallback="helper"
    )
    named = [_named(base, placeholder, name) for name in found]
    if not summaries.are_usual(view.tree):
        return [_draft(view, statements, new, name) for new, name in zip(named, found, strict=True)]
    report("Writing a docstring", 0.6)
    order = await assistant.ranked(text, named)
    best = named[order[0]]
    summary = await summaries.summary_of(assistant, best, found[order[0]])
    return [
        _draft(view, statements, summaries.with_summary(new, name, summary) if summary else new, name)
        for new, name in zip(named, found, strict=True)
    ]


def _extract_variable(text: str, start: int, end: int, name: str) -> str:
    result = extract_variable(text, start, end, name)
    # rope leaves the parentheses of the selected expression around the name.
    bare = re.sub(rf"(?<![\w)\]}}'\"])\(({name})\)", r"\1", result)
    tree, old = parse(bare), parse(result)
    return bare if tree and old and ast.dump(tree) == ast.dump(old) else result


def _comments_once(base: str, moved: str, placeholder: str) -> str:
    """Remove from above and behind the call the comments that moved into the function."""
    lines = base.split("\n")
    call = next(
        (at for at, line in enumerate(lines) if placeholder in line and not re.match(rf"\s*def {placeholder}\b", line)),
        None,
    )
    if call is None:
        raise RefactorError("rope", "The statements did not become a call.")
    above = []
    for line in moved.split("\n"):
        if line.strip() and not line.strip().startswith("#"):
            break
        above.append(line.strip())
    behind = re.search(r"[ \t]*#[^\n]*$", moved)
    if behind and lines[call].endswith(behind.group()):
        lines[call] = lines[call].removesuffix(behind.group())
    if above and [line.strip() for line in lines[call - len(above) : call]] == above:
        del lines[call - len(above) : call]
    return "\n".join(lines)


def _apart(base: str, placeholder: str) -> str:
    """Put two blank lines around the function where it stands at the top level."""
    node = next(
        (one for one in ast.parse(base).body if isinstance(one, ast.FunctionDef) and one.name == placeholder), None
    )
    if node is None:
        return base
    lines = Lines.of(base)
    start, end = lines.whole(node.lineno, node.end_lineno or node.lineno)
    before, after = base[:start].rstrip("\n"), base[end:].lstrip("\n")
    head = f"{before}\n\n\n" if before else ""
    return f"{head}{base[start:end]}" + (f"\n\n{after}" if after else "")


def _named(base: str, placeholder: str, name: str) -> str:
    return re.sub(rf"\b{placeholder}\b", name, base)


def _private(word: str) -> str:
    return f"_{names.snake(word)}"


def _result_names(base: str, placeholder: str) -> list[str]:
    """Return the variables that the new function returns."""
    for node in ast.walk(ast.parse(base)):
        if isinstance(node, ast.FunctionDef) and node.name == placeholder and isinstance(node.body[-1], ast.Return):
            value = node.body[-1].value
            return [one.id for one in ast.walk(value) if isinstance(one, ast.Name)] if value else []
    return []


def _draft(view: SelectionView, statements: list[ast.stmt], text: str, name: str) -> RefactoringDraft:
    scope = [node.name for node in view.definitions]
    # A method is put into its class, a function beside the outermost function.
    owner = ".".join([*scope[:-1], name]) if len(scope) > 1 else name
    signatures = frozenset({owner, name, ".".join([*scope, name])})
    return RefactoringDraft(text, name, AllowedChanges(lines=lines_of(*statements), signatures=signatures))
