"""Extract variable, function and method: the analysis says what may move, and the model names the result."""

from __future__ import annotations

import ast
import asyncio
import re

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python import names, summaries
from codegen_lsp.refactor.python.analysis.scopes import RESERVED, identifiers, variables
from codegen_lsp.refactor.python.ast_nodes import lines_of
from codegen_lsp.refactor.python.extract_conditions import FunctionPlan, function_to_extract
from codegen_lsp.refactor.python.moved_code import with_function, with_variable
from codegen_lsp.refactor.python.selection import SelectionView
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
    # A new public name of the module would be one that other files may use.
    shape = names.snake if view.definitions else _private
    found = await names.suggested(assistant, text[:first], after, names.of_expression(node), taken, shape=shape)
    report("Moving the code", 0.5)
    allowed = AllowedChanges(lines=lines_of(host))
    placeholder = names.numbered(PLACEHOLDER, taken)
    base = await asyncio.to_thread(with_variable, view, host, node, placeholder)
    return [RefactoringDraft(_named(base, placeholder, name), name, allowed) for name in found]


async def function(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Put the selected statements into a function or method. Raises RefactorError, WorkerError and ModelError."""
    text = view.source.text
    statements = view.statements
    plan = function_to_extract(view)
    assert isinstance(plan, FunctionPlan)
    # Selected comments above the first statement move along, and so does a comment behind the last one.
    start, end = min(view.trimmed[0], view.span(statements[0])[0]), view.span(statements[-1])[1]
    end += len(re.match(r"[ \t]*(?:#.*)?", text[end:]).group())  # type: ignore[union-attr]
    taken = RESERVED | set(identifiers(view.tree))
    placeholder = names.numbered(PLACEHOLDER, taken)
    report("Moving the code", 0.1)
    base = await asyncio.to_thread(with_function, view, plan, placeholder, start, end)
    report("Looking for names", 0.4)
    result = plan.interface.outputs or _returned_names(statements[-1])
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


def _named(base: str, placeholder: str, name: str) -> str:
    return re.sub(rf"\b{placeholder}\b", name, base)


def _private(word: str) -> str:
    return f"_{names.snake(word)}"


def _returned_names(statement: ast.stmt) -> list[str]:
    """Return the variables in the value of a `return`."""
    value = statement.value if isinstance(statement, ast.Return) else None
    return [one.id for one in ast.walk(value) if isinstance(one, ast.Name)] if value else []


def _draft(view: SelectionView, statements: list[ast.stmt], text: str, name: str) -> RefactoringDraft:
    scope = [node.name for node in view.definitions]
    # A method is put into its class, a function beside the outermost function.
    owner = ".".join([*scope[:-1], name]) if len(scope) > 1 else name
    signatures = frozenset({owner, name, ".".join([*scope, name])})
    return RefactoringDraft(text, name, AllowedChanges(lines=lines_of(*statements), signatures=signatures))
