"""`codegen-lsp refactor`: one refactoring of a file, shown as a diff or written."""

from __future__ import annotations

import asyncio
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.options import Device, LanguageIdentifier, Model, Threads
from codegen_lsp.progress import ProgressReport
from codegen_lsp.settings import Settings

if TYPE_CHECKING:
    from codegen_lsp.cli.refactor_target import RefactoringTarget
    from codegen_lsp.refactor.registry import RefactoringKind
    from codegen_lsp.refactor.results import RefactoringOutcome
    from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult


def refactor(
    place: Annotated[
        str,
        typer.Argument(metavar="FILE:RANGE", help="LINE, LINE:COL, LINE-LINE or LINE:COL-LINE:COL, counted from 1."),
    ],
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Kind of refactoring; without it, those that apply at the place are listed."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show a diff; the default.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Change the file.")] = False,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, max=8, help="Number of results to show.")] = 1,
    choose: Annotated[int, typer.Option(metavar="N", min=1, max=8, help="Number of the result to write.")] = 1,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Run doctests and the file's tests in a sandbox; by default where the model writes code.",
        ),
    ] = None,
    limits_only: Annotated[
        bool,
        typer.Option("--limits-only", help="Run tests without namespaces: they can reach files and network."),
    ] = False,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: LanguageIdentifier = None,
) -> None:
    """Refactor at a place in a file: extract, inline, rename, docstring, type hints, and more."""
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.cli.refactor_target import target_at

    target = target_at(place, language)
    if kind is None:
        _print_menu(Console(), target)
        return
    chosen_kind = _kind_named(kind)
    policy = _verification_policy(chosen_kind, verify=verify, limits_only=limits_only)
    settings = Settings(model=model, device=device, threads=threads, languages={target.source.language: True})
    with progress_bar() as report:
        outcome = asyncio.run(_perform(target, chosen_kind, settings, report, policy))
    if write:
        _check_choice(outcome, choose)
    if diff or not write:
        _print_offers(Console(), target, outcome, number)
    if write:
        _write(target, outcome, choose)


def _kind_named(name: str) -> RefactoringKind:
    """Return the kind of refactoring with this name. Raises: BadParameter when there is none."""
    from codegen_lsp.refactor.registry import KINDS, kind_named

    found = kind_named(name)
    if found is None:
        raise typer.BadParameter(f"there is no kind {name!r}; there are: {', '.join(one.name for one in KINDS)}")
    return found


def _verification_policy(kind: RefactoringKind, *, verify: bool | None, limits_only: bool) -> VerificationPolicy | None:
    from codegen_lsp.refactor.verification import policy_for

    policy = policy_for({None: "auto", True: "on", False: "off"}[verify], kind)
    return attrs.evolve(policy, confinement="limits") if policy is not None and limits_only else policy


async def _perform(
    target: RefactoringTarget,
    kind: RefactoringKind,
    settings: Settings,
    report: ProgressReport,
    policy: VerificationPolicy | None,
) -> RefactoringOutcome:
    """Perform a refactoring, with the worker of an editor's windows if one runs.

    Raises: RefactorError, ModelError, WorkerError and SandboxError.
    """
    from codegen_lsp.cli.session import open_session
    from codegen_lsp.refactor.model_assistant import ModelAssistant
    from codegen_lsp.refactor.perform import perform
    from codegen_lsp.suggest.options import options_for

    report("Starting the model", 0.0)
    async with open_session(find(settings.model), settings) as session:
        options = options_for(settings, target.source.language, session.model)
        assistant = ModelAssistant.for_model(session.client, session.model, options, "refactor")
        return await perform(kind, target.source, assistant, report, policy)


def _check_choice(outcome: RefactoringOutcome, choice: int) -> None:
    """Raise RefactorError when there is no result with this number, counted from 1."""
    from codegen_lsp.refactor.refusal import RefactorError

    count = len(outcome.offers)
    if choice > count:
        raise RefactorError("no_such_result", f"There are only {count} results.", "See them with -n 8.")


def _write(target: RefactoringTarget, outcome: RefactoringOutcome, choice: int) -> None:
    from codegen_lsp.cli.refactor_target import write_offer

    offer = outcome.offers[choice - 1]
    written = write_offer(target, offer)
    typer.echo(f"Wrote {', '.join(map(str, written))}: {offer.label}")


def _print_menu(console: Console, target: RefactoringTarget) -> None:
    """Print the refactorings that apply at the place."""
    from rich.table import Table

    from codegen_lsp.refactor.dispatch import menu

    entries = menu(target.source)
    if not entries:
        console.print("Nothing can be done here.", style="yellow")
        return
    table = Table(box=None, show_header=False)
    for entry in entries:
        table.add_row(entry.kind.name, entry.title)
    console.print(table)


def _print_offers(console: Console, target: RefactoringTarget, outcome: RefactoringOutcome, count: int) -> None:
    """Print the best results as unified diffs."""
    from rich.syntax import Syntax

    from codegen_lsp.cli.refactor_target import relative
    from codegen_lsp.refactor.edits import Original

    for at, offer in enumerate(outcome.offers[:count]):
        if count > 1:
            console.rule(f"{at + 1}. {offer.label}", style="dim")
        text = _unified_diff(target.path, target.source.text, offer.text)
        for other in offer.others:
            text += _unified_diff(relative(other.path), Original(other.before).normal(), other.after)
        shown = Syntax(text, "diff", theme="ansi_dark", background_color="default") if console.is_terminal else text
        console.print(shown, soft_wrap=True, highlight=False, markup=False, end="")
        if outcome.verified:
            console.print(_describe(outcome.verified[at]), style="dim", highlight=False)
    for note in outcome.notes:
        console.print(note, style="yellow", highlight=False, markup=False)


def _unified_diff(path: Path, old: str, new: str) -> str:
    """Return a unified diff of a file's texts with LF line ends."""
    from codegen_lsp.refactor.edits import split_lines

    lines = difflib.unified_diff(split_lines(old), split_lines(new), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def _describe(result: VerificationResult) -> str:
    ran = ", ".join(result.tests)
    return {
        "passed": f"Verified: {ran} pass before and after.",
        "nothing": f"Not verified. {result.detail}",
        "fails_before": f"Not verified: {ran} fail without the change. {result.detail}",
    }[result.kind]
