"""`codegen-lsp refactor`: one refactoring of a file, shown as a difference or written."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
import tokenize
from pathlib import Path

from attrs import frozen
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.location import PlaceError
from codegen_lsp.cli.session import open_session
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.dispatch import menu
from codegen_lsp.refactor.draft import RefactoringOffer, RefactoringOutcome
from codegen_lsp.refactor.edits import Original, SelectedSource, split_lines
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult
from codegen_lsp.settings import Settings
from codegen_lsp.source.languages import identifier_of
from codegen_lsp.source.lines import line_starts
from codegen_lsp.suggest.service import options_for
from codegen_lsp.workspace.decoding import read_source
from codegen_lsp.workspace.files import FileAccess, python_files
from codegen_lsp.workspace.sources import Workspace, project_of

RANGE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?(?:-(?P<last>\d+)(?::(?P<end>\d+))?)?")


@frozen
class Target:
    """A file and what is selected in it."""

    path: Path
    original: Original
    source: SelectedSource


def target_at(place: str, language: str | None = None) -> Target:
    """Read `FILE:LINE`, `FILE:LINE:COL`, `FILE:LINE-LINE` or `FILE:LINE:COL-LINE:COL`. Raises PlaceError.

    Lines and columns count from 1. Without columns, whole lines are selected, and of a single line its text's start.
    """
    match = RANGE.fullmatch(place)
    if match is None:
        advice = "Write FILE:LINE, FILE:LINE-LINE or FILE:LINE:COL-LINE:COL."
        raise PlaceError(f"{place!r} is no range in a file.", advice)
    path = Path(match["file"])
    text = read_source(path)
    starts = line_starts(text)

    def offset(line: int, column: int | None, *, at_end: bool = False) -> int:
        if not 1 <= line <= len(starts):
            raise PlaceError(f"{path} has {len(starts)} lines, not {line}.", f"Give a line from 1 to {len(starts)}.")
        start = starts[line - 1]
        end = starts[line] if line < len(starts) else len(text)
        width = len(text[start:end].rstrip("\r\n"))
        if column is None:
            return end if at_end else start
        if not 1 <= column <= width + 1:
            raise PlaceError(f"Line {line} of {path} has {width} characters.", f"Give a column from 1 to {width + 1}.")
        return start + column - 1

    line, column = int(match["line"]), match["column"]
    start = offset(line, int(column) if column else None)
    if match["last"]:
        end = offset(int(match["last"]), int(match["end"]) if match["end"] else None, at_end=True)
    else:
        start += 0 if column else len(text[start:]) - len(text[start:].lstrip(" \t"))
        end = start
    if end < start or (match["last"] and int(match["last"]) < line):
        raise PlaceError(f"The range {place!r} ends before it begins.", "Give the smaller place first.")
    original = Original(text)
    source = SelectedSource(
        original.normal(),
        original.normal_offset(start),
        original.normal_offset(end),
        language or identifier_of(path),
        path.absolute(),
        _workspace(path.absolute()),
    )
    return Target(path, original, source)


def _workspace(path: Path) -> Workspace:
    """The project that a file belongs to, by the marks of one, else the folder that its imports begin at."""
    root = project_of(path)
    return Workspace(root, lambda: python_files(FileAccess(root)))


async def refactor(
    target: Target,
    kind: RefactoringKind,
    settings: Settings,
    report: ProgressReport,
    policy: VerificationPolicy | None,
) -> RefactoringOutcome:
    """Do a refactoring, with the worker of an editor's windows if one runs.

    Raises RefactorError, ModelError, WorkerError and SandboxError.
    """
    report("Starting the model", 0.0)
    async with open_session(find(settings.model), settings) as session:
        options = options_for(settings, target.source.language, session.model)
        assistant = ModelAssistant.for_model(session.client, session.model, options, "refactor")
        return await perform(kind, target.source, assistant, report, policy)


def print_menu(console: Console, target: Target) -> None:
    """What may be done at the place."""
    entries = menu(target.source)
    if not entries:
        console.print("Nothing can be done here.", style="yellow")
        return
    table = Table(box=None, show_header=False)
    for entry in entries:
        table.add_row(entry.kind.name, entry.title)
    console.print(table)


def print_result(console: Console, target: Target, outcome: RefactoringOutcome, count: int) -> None:
    """The differences of the best results, as unified diffs."""
    for at, offer in enumerate(outcome.offers[:count]):
        if count > 1:
            console.rule(f"{at + 1}. {offer.label}", style="dim")
        text = difference(target.path, target.source.text, offer.text)
        for other in offer.others:
            text += difference(_relative(other.path), Original(other.before).normal(), other.after)
        shown = Syntax(text, "diff", theme="ansi_dark", background_color="default") if console.is_terminal else text
        console.print(shown, soft_wrap=True, highlight=False, markup=False, end="")
        if outcome.verified:
            console.print(_said(outcome.verified[at]), style="dim", highlight=False)
    for note in outcome.notes:
        console.print(note, style="yellow", highlight=False, markup=False)


def difference(path: Path, old: str, new: str) -> str:
    """A unified diff of a file's texts with LF line ends."""
    lines = difflib.unified_diff(split_lines(old), split_lines(new), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def write(path: Path, original: Original, new: str) -> None:
    """Put a new text in a file's place, in its own encoding and with its line ends. Raises PlaceError."""
    text = original.text
    for edit in reversed(original.edits(new)):
        text = text[: edit.start] + edit.new + text[edit.end :]
    path = path.resolve()
    temporary = None
    try:
        data = text.encode(_encoding(path))
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, path.stat().st_mode)  # noqa: PTH101 - a path from mkstemp
        Path(temporary).replace(path)
    except (OSError, UnicodeEncodeError) as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise PlaceError(f"{path} can't be written: {error}.", "Check its permissions; nothing was changed.") from error


def write_all(target: Target, offer: RefactoringOffer) -> list[Path]:
    """Write a result, the other files that change along with it included; the files that were written.

    Raises PlaceError.
    """
    write(target.path, target.original, offer.text)
    for other in offer.others:
        write(other.path, Original(other.before), other.after)
    return [target.path, *(_relative(other.path) for other in offer.others)]


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _encoding(path: Path) -> str:
    """The encoding to write in: what the file has, its byte order mark included."""
    if path.suffix in (".py", ".pyi"):
        with path.open("rb") as file:
            return tokenize.detect_encoding(file.readline)[0]
    return "utf-8-sig" if path.read_bytes().startswith(b"\xef\xbb\xbf") else "utf-8"


def _said(one: VerificationResult) -> str:
    ran = ", ".join(one.tests)
    return {
        "passed": f"Verified: {ran} pass before and after.",
        "nothing": f"Not verified. {one.detail}",
        "fails_before": f"Not verified: {ran} fail without the change. {one.detail}",
    }[one.kind]
