"""Signature to body, and comment to code: the model writes code at a place and within a block.

The model gives several candidates; those that don't parse, repeat themselves or copy the text around are left out here,
those that use undefined names by the checks.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise

from codegen_lsp.inference.rpc.messages import Candidate, StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.edits import margin_of
from codegen_lsp.refactor.generated_code import CODE_CANDIDATES, CODE_LINES, CODE_TOKENS, label_of
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.ast_nodes import docstring_node, lines_of
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.python.writing_conditions import comment_above_nothing
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft
from codegen_lsp.source.lines import start_of_line

REPEATS = 3
"""Equal lines in a row that count as a loop."""


async def complete_body(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    """Write bodies for the function at the cursor. Raises RefactorError, WorkerError and ModelError."""
    node = view.function
    assert node is not None
    text = view.source.text
    own = docstring_node(node)
    fillers = [one for one in node.body if one is not own]
    margin = margin_of(text, view.span(node)[0])
    inner = margin + unit_of(text) if own is None else margin_of(text, view.span(own)[0])
    if not fillers:
        assert own is not None
        before, end = f"{text[: view.span(own)[1]]}\n", view.span(own)[1]
    else:
        start, end = view.span(fillers[0])[0], view.span(fillers[-1])[1]
        line = start_of_line(text, start)
        on_own_line = not text[line:start].strip()
        before = text[:line] if on_own_line else text[:start].rstrip() + "\n"
        inner = text[line:start] if on_own_line else inner
    stop = StopRules(max_tokens=CODE_TOKENS, max_lines=CODE_LINES, min_indent=len(inner.expandtabs(8)))
    report("Writing", 0.2)
    candidates = await assistant.continuations(before + inner, text[end:], stop=stop, candidates=CODE_CANDIDATES)
    allowed = AllowedChanges(lines=lines_of(*fillers))
    drafts = [
        RefactoringDraft(f"{before}{inner}{code}{text[end:]}", label_of(code), allowed)
        for code in usable(candidates, inner)
        if not is_copy(code, text)
    ]
    if not drafts:
        raise RefactorError("no_answer", f"The model wrote no body for {node.name} that could be used.")
    return drafts


async def comment_to_code(
    view: SelectionView, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    """Write code below the comment at the cursor. Raises RefactorError, WorkerError and ModelError."""
    place = comment_above_nothing(view)
    assert place is not None
    text = view.source.text
    start, end = place
    margin = margin_of(text, start)
    stop = StopRules(
        max_tokens=CODE_TOKENS,
        max_lines=CODE_LINES,
        min_indent=len(margin.expandtabs(8)) or None,
        strings=["\n\n", "\n#"],
    )
    report("Writing", 0.2)
    candidates = await assistant.continuations(
        f"{text[:end]}\n{margin}", text[end:], stop=stop, candidates=CODE_CANDIDATES
    )
    codes = [code for code in usable(candidates, margin) if not is_copy(code, text)]
    if below := _block_below(text, end, margin):
        codes = [code for code in codes if not _leaves(code, margin) and code.split("\n", 1)[0].rstrip() != below]
    drafts = [
        RefactoringDraft(f"{text[:end]}\n{margin}{code}{text[end:]}", label_of(code), AllowedChanges(any_new=True))
        for code in codes
    ]
    if not drafts:
        raise RefactorError("no_answer", "The model wrote no code for the comment that could be used.")
    return drafts


def is_copy(code: str, text: str) -> bool:
    """Return whether code of several lines is a copy of lines in the text, as models often write."""
    lines = [line.strip() for line in code.split("\n") if line.strip()]
    there = "\n".join(line.strip() for line in text.split("\n") if line.strip())
    wanted = "\n".join(lines)
    return len(lines) > 1 and f"\n{wanted}\n" in f"\n{there}\n"


def _block_below(text: str, end: int, margin: str) -> str:
    """Return the next line of the same block, or an empty text where the block ends."""
    line = next((line for line in text[end:].split("\n") if line.strip()), "")
    return line.strip() if len(margin_of(line, 0).expandtabs(8)) >= len(margin.expandtabs(8)) else ""


def _leaves(code: str, margin: str) -> bool:
    """Return whether the code would make the statements below it unreachable."""
    last = [line for line in code.split("\n") if not line.startswith((f"{margin} ", f"{margin}\t"))][-1]
    return bool(re.match(r"(?:return|raise|break|continue)\b", last.strip()))


def unit_of(text: str) -> str:
    """Return one level of indentation as the file has it."""
    found = re.search(r"^(?:[^\s#][^\n]*:[ \t]*\n)([ \t]+)\S", text, re.MULTILINE)
    return found.group(1) if found else "    "


def usable(candidates: list[Candidate], margin: str) -> list[str]:
    """Return the candidates that have code, without an unfinished last statement."""
    found = []
    for one in candidates:
        lines = one.text.rstrip().split("\n")
        if one.finish == "length" and len(lines) > 1:
            lines = lines[:-1]
        lines = [line.rstrip() for line in lines]
        lines = _whole_statements(lines, margin)
        code = "\n".join(lines).strip("\n").lstrip(" \t") if lines else ""
        if not code or code == "pass" or code == "..." or _repeats_a_line(lines) or not _has_code(lines):
            continue
        found.append(code)
    return list(dict.fromkeys(found))


def _whole_statements(lines: list[str], margin: str) -> list[str]:
    """Return the longest prefix of the lines that consists of whole statements."""
    for count in range(len(lines), 0, -1):
        block = "async def _():\n while 1:\n"
        body = "\n".join([f"{margin}{lines[0]}", *lines[1:count]])
        shifted = "\n".join(f"  {line}" if line.strip() else "" for line in body.split("\n"))
        if _compiles(block + shifted):
            return lines[:count]
    return []


def _compiles(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _repeats_a_line(lines: list[str]) -> bool:
    """Return whether a line is repeated `REPEATS` times in a row, as by a model in a loop."""
    same = 1
    for above, line in pairwise(lines):
        same = same + 1 if line.strip() and line == above else 1
        if same >= REPEATS:
            return True
    return False


def _has_code(lines: list[str]) -> bool:
    """Return whether the lines have code besides comments, a docstring, `pass` and `...`."""
    words = [line.strip() for line in lines]
    return any(word not in ("", "pass", "...") and not word.startswith(("#", '"""', "'''")) for word in words)
