"""Rewrite the selected statements as the comment above them says. The model writes freely here.

A base model only continues text. So its prompt has the old code as a comment, the words of the user, and the place of
the new code. The new code must bind the names that the code behind it uses, and return if the old code returned; and it
is always shown for confirmation. How often it does what the comment says depends on the checkpoint.
"""

from __future__ import annotations

import ast
import re

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.edits import margin_of
from codegen_lsp.refactor.generated_code import CODE_CANDIDATES, CODE_LINES, CODE_TOKENS, label_of
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.analysis.control_flow import leaves_at_end
from codegen_lsp.refactor.python.analysis.scopes import bound_by
from codegen_lsp.refactor.python.ast_nodes import lines_of
from codegen_lsp.refactor.python.bodies import usable
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft
from codegen_lsp.source.lines import start_of_line


async def rewrite(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Rewrite the selected statements. Raises RefactorError, WorkerError and ModelError."""
    text = view.source.text
    statements = view.statements
    start, end = view.span(statements[0])[0], view.span(statements[-1])[1]
    margin = margin_of(text, start)
    line = start_of_line(text, start)
    wish = " ".join(found.strip() for found in re.findall(r"^\s*#\s*(.*)$", text[view.trimmed[0] : line], re.MULTILINE))
    old = "".join(f"{margin}#{' ' if one else ''}{one.removeprefix(margin)}\n" for one in text[line:end].split("\n"))
    above = text[: start_of_line(text, view.trimmed[0])]
    prompt = f"{above}{margin}# Before:\n{old}{margin}# After: {wish}\n{margin}"
    stop = StopRules(
        max_tokens=CODE_TOKENS,
        max_lines=CODE_LINES,
        min_indent=len(margin.expandtabs(8)) or None,
        strings=["\n\n\n", "# Before", "# After"],
    )
    report("Writing", 0.2)
    candidates = await assistant.continuations(prompt, text[end:], stop=stop, candidates=CODE_CANDIDATES)
    needed = _bound(statements) & _used_elsewhere(view, statements)
    leaves = isinstance(statements[-1], ast.Return)
    drafts = []
    for code in usable(candidates, margin):
        if code.strip() == text[start:end].strip() or not _stands_for(code, margin, needed, leaves=leaves):
            continue
        drafts.append(
            RefactoringDraft(
                f"{text[:start]}{code}{text[end:]}", label_of(code), AllowedChanges(lines=lines_of(*statements))
            )
        )
    if not drafts:
        raise RefactorError("no_answer", "The model wrote nothing that could take the selection's place.")
    return drafts


def _stands_for(code: str, margin: str, needed: set[str], *, leaves: bool) -> bool:
    """Return whether code binds the needed names, and returns if and only if it must."""
    block = "\n".join(f" {one}" if one.strip() else "" for one in f"{margin}{code}".split("\n"))
    (function,) = ast.parse(f"async def _():\n{block}").body
    assert isinstance(function, ast.AsyncFunctionDef)
    return (
        needed <= _bound(function.body)
        and leaves_at_end(function.body)
        and isinstance(function.body[-1], ast.Return) == leaves
    )


def _bound(statements: list[ast.stmt]) -> set[str]:
    return {name for statement in statements for node in ast.walk(statement) for name in bound_by(node)}


def _used_elsewhere(view: SelectionView, statements: list[ast.stmt]) -> set[str]:
    """Return the names that the code around the statements reads."""
    inside = {id(node) for statement in statements for node in ast.walk(statement)}
    return {
        node.id
        for node in ast.walk(view.definitions[-1] if view.definitions else view.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in inside
    }
