"""Simplify the selected statements by ruff's safe fixes, and by a few rewrites of our own with libcst.

Both keep the meaning by construction. The model ranks the results.
"""

from __future__ import annotations

import ast
import asyncio
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from codegen_lsp import python_path
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.ast_nodes import lines_of
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft

RULES = "SIM,C4,PIE,FURB,PERF,RET,UP,E71,PLR5501,PLR1714,RUF005,RUF015"
"""Rules of ruff that simplify code; only fixes that ruff marks as safe are used. PLR1730 (`min` for `if x > a: x = a`)
is left out: it asks `a < x` instead, which other objects than numbers answer in their own way."""
TARGET = "py39"
"""The oldest version of Python that the results must run on."""
ARGUMENTS = (
    *("check", "--isolated", "--no-cache", "--quiet", "--output-format=json"),
    *(f"--target-version={TARGET}", f"--select={RULES}"),
)
"""The arguments of ruff, before the file."""


@frozen
class Fix:
    """A fix of ruff: edits as offsets and new text, and a description."""

    edits: tuple[tuple[int, int, str], ...]
    label: str


async def simplify(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Simplify the selected statements. Raises RefactorError."""
    statements = view.statements
    text = view.source.text
    lines = lines_of(*statements)
    report("Looking for simpler forms", 0.2)
    fixes = await ruff_fixes(text, lines)
    allowed = AllowedChanges(lines=lines)
    drafts = [RefactoringDraft(_applied(text, [fix]), fix.label, allowed) for fix in fixes]
    together = _compatible(fixes)
    if len(together) > 1:
        drafts.insert(0, RefactoringDraft(_applied(text, together), "; ".join(fix.label for fix in together), allowed))
    report("Looking for simpler forms", 0.6)
    drafts += [RefactoringDraft(new, label, allowed) for new, label in await asyncio.to_thread(_own, text, lines)]
    if not drafts:
        raise RefactorError("simple_already", "Nothing simpler was found.")
    return drafts


async def ruff_fixes(text: str, lines: frozenset[int]) -> list[Fix]:
    """Return ruff's safe fixes within the lines; none if ruff is not installed."""
    program = ruff()
    if program is None:
        return []
    process = await asyncio.create_subprocess_exec(
        program, *ARGUMENTS, "--stdin-filename=document.py", "-",
        env=python_path.environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await process.communicate(text.encode("utf-8", "replace"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found = json.loads(out)
    except ValueError:
        return []
    return fixes_within(found, text, lines)


def fixes_within(found: Iterable[dict[str, Any]], text: str, lines: frozenset[int]) -> list[Fix]:
    """Return the safe fixes within the lines of a text, of what ruff found in it."""
    starts = Lines.of(text).starts
    fixes = []
    for one in found:
        fix = one.get("fix") or {}
        edits = fix.get("edits") or []
        if fix.get("applicability") != "safe" or not edits or not all(_inside(edit, lines) for edit in edits):
            continue
        places = tuple(
            (_offset(edit["location"], starts), _offset(edit["end_location"], starts), edit["content"])
            for edit in edits
        )
        fixes.append(Fix(places, f"{fix.get('message') or one.get('message')} ({one.get('code')})"))
    return fixes


def ruff() -> str | None:
    """Return the ruff that is installed beside codegen-lsp, else the one on the path, or None."""
    beside = Path(sys.executable).with_name("ruff.exe" if sys.platform == "win32" else "ruff")
    return str(beside) if beside.is_file() else shutil.which("ruff")


def _inside(edit: dict[str, Any], lines: frozenset[int]) -> bool:
    first, last = edit["location"]["row"], edit["end_location"]["row"]
    # An edit of whole lines ends at the start of the next.
    last -= edit["end_location"]["column"] == 1 and last > first
    return all(number in lines for number in range(first, last + 1))


def _offset(location: dict[str, int], starts: list[int]) -> int:
    row = location["row"]
    return starts[min(row, len(starts)) - 1] + location["column"] - 1


def _compatible(fixes: list[Fix]) -> list[Fix]:
    """Return the fixes that don't overlap an earlier one."""
    taken: list[Fix] = []
    for fix in fixes:
        if all(_apart(one.edits, fix.edits) for one in taken):
            taken.append(fix)
    return taken


def _apart(some: Iterable[tuple[int, int, str]], others: tuple[tuple[int, int, str], ...]) -> bool:
    return all(a_end < b_start or b_end < a_start for a_start, a_end, _ in some for b_start, b_end, _ in others)


def _applied(text: str, fixes: list[Fix]) -> str:
    for start, end, new in sorted((edit for fix in fixes for edit in fix.edits), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _own(text: str, lines: frozenset[int]) -> list[tuple[str, str]]:
    from codegen_lsp.refactor.python.codemods import rewritten

    tree = ast.parse(text)
    before = ast.dump(tree)
    results = rewritten(text, tree, lines)
    return [(new, label) for new, label in results if new != text and ast.dump(ast.parse(new)) != before]
