"""Doing one refactoring: the menu's promise looked at again with the whole file, the work, the checks, the ranking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path

from attrs import evolve, field, frozen

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import CheckFailure, ProgramText, first_failure
from codegen_lsp.refactor.draft import RefactoringDraft
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.selection import SelectionView, whole_view, with_body
from codegen_lsp.refactor.refusal import RefactorError, RejectedResult
from codegen_lsp.refactor.registry import RefactoringKind, menu
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult, unwritten, verify
from codegen_lsp.sandbox.sandbox import SandboxError
from codegen_lsp.workspace.sources import OtherFile

logger = logging.getLogger(__name__)

Judge = Callable[[RefactoringDraft], CheckFailure | None]
"""Gives what speaks against a result, or None."""
Make = Callable[[SelectionView, ModelAssistant, ProgressReport], Awaitable[list[RefactoringDraft]]]


@frozen
class RefactoringOffer:
    """A result that passed all checks."""

    text: str
    """The whole document after it, with LF line ends."""
    label: str
    others: list[OtherFile] = field(factory=list)
    """Files that change along with it."""


@frozen
class RefactoringOutcome:
    """What came of a refactoring."""

    kind: RefactoringKind
    offers: list[RefactoringOffer]
    """The likeliest first."""
    rejected: list[RejectedResult] = field(factory=list)
    notes: list[str] = field(factory=list)
    verified: list[VerificationResult] = field(factory=list)
    """What the tests say of each offer, when they were run."""


async def perform(
    kind: RefactoringKind,
    source: SelectedSource,
    assistant: ModelAssistant,
    report: ProgressReport,
    policy: VerificationPolicy | None = None,
) -> RefactoringOutcome:
    """Do a refactoring at the selection. With a `trial`, results with which the tests fail are not offered.

    Raises RefactorError when it can't be done here or no result passes the checks, WorkerError and ModelError when
    the model fails, SandboxError when a trial is required and can't be made. Cancelling ends a generation within one
    token; work on syntax, and tests, go on unseen to their end.
    """
    report("Reading the file", 0.0)
    if source.language != "python":
        return await _perform_on_braces(kind, source, assistant, report)
    view = await asyncio.to_thread(_look, source)
    if kind.applies(view) is None:
        raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
    if kind.needs_model and assistant.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    assistant = evolve(assistant, optional=not kind.needs_model)
    make = _maker(kind)
    drafts = await make(view, assistant, report)
    before = ProgramText(view.source.text)
    outcome = await _chosen(
        kind, before.text, drafts, lambda draft: first_failure(before, draft.text, draft.allowed), assistant, report
    )
    return (
        outcome if policy is None or source.path is None else await _tried(outcome, view, source.path, policy, report)
    )


async def _perform_on_braces(
    kind: RefactoringKind, source: SelectedSource, assistant: ModelAssistant, report: ProgressReport
) -> RefactoringOutcome:
    from codegen_lsp.refactor import treesitter as braces

    if not any(entry.kind is kind for entry in menu(source)):
        raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
    if assistant.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    make = braces.docstring if kind.name == "docstring" else braces.body
    drafts = await make(source, assistant, report)
    return await _chosen(
        kind,
        source.text,
        drafts,
        lambda draft: braces.first_failure(source, draft.text, draft.allowed),
        assistant,
        report,
    )


async def _chosen(
    kind: RefactoringKind,
    old: str,
    drafts: Sequence[RefactoringDraft],
    failure: Judge,
    assistant: ModelAssistant,
    report: ProgressReport,
) -> RefactoringOutcome:
    """What passes the checks, the likeliest first. Raises RefactorError when nothing does."""
    report("Checking", 0.8)
    passed, rejected = await asyncio.to_thread(_checked, old, drafts, failure)
    _log(kind, rejected)
    if not passed:
        if rejected:
            first = rejected[0]
            raise RefactorError(first.rule, f"No result passed the checks. {first.reason}", rejected=rejected)
        raise RefactorError("no_answer", "The model had nothing to say that could be used.")
    order = await assistant.ranked(old, [draft.text for draft in passed]) if len(passed) > 1 else [0]
    report("Done", 1.0)
    offers = [RefactoringOffer(passed[at].text, passed[at].label, passed[at].others) for at in order]
    return RefactoringOutcome(kind, offers, rejected, list(assistant.notes))


async def _tried(
    outcome: RefactoringOutcome, view: SelectionView, path: Path, policy: VerificationPolicy, report: ProgressReport
) -> RefactoringOutcome:
    """What the tests have nothing against. Raises RefactorError when that is nothing, and SandboxError."""
    report("Running the tests", 0.9)
    text, function = view.source.text, view.function
    results = [{**{one.path: one.after for one in offer.others}, path: offer.text} for offer in outcome.offers]
    marked = None
    if outcome.kind.name == "complete-body" and function is not None:
        marked = unwritten(text, function.lineno)
    try:
        said = await asyncio.to_thread(verify, path, text, results, policy, marked)
    except SandboxError as error:
        if policy.required:
            raise
        return evolve(outcome, notes=[*outcome.notes, f"Tests were not run. {error.message}"])
    judged = list(zip(outcome.offers, said, strict=True))
    # What passed comes before what there was no time to try.
    kept = sorted((one for one in judged if one[1].kind != "failed"), key=lambda one: one[1].kind != "passed")
    failed = [
        RejectedResult(offer.label, "tests", f"{', '.join(one.tests)}: {one.detail}")
        for offer, one in judged
        if one.kind == "failed"
    ]
    _log(outcome.kind, failed)
    rejected = [*outcome.rejected, *failed]
    if not kept:
        advice = "Set `verify_refactorings` to `off`, or say --no-verify, to see the results in spite of that."
        raise RefactorError("tests", f"The tests fail with every result. {failed[0].reason}", advice, rejected)
    return evolve(outcome, offers=[offer for offer, _ in kept], rejected=rejected, verified=[one for _, one in kept])


def _log(kind: RefactoringKind, rejected: Sequence[RejectedResult]) -> None:
    for one in rejected:
        logger.info("%s: %r is not offered, by the check %s: %s", kind.name, one.label, one.rule, one.reason)


def _look(source: SelectedSource) -> SelectionView:
    view = whole_view(source)
    if view is None and (mended := with_body(source)) is not None:
        view = whole_view(mended)
    if view is None:
        raise RefactorError("syntax_error", _syntax_error(source.text), "Mend it first.")
    return view


def _syntax_error(text: str) -> str:
    try:
        compile(text, "<document>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"The file does not parse: line {error.lineno}: {error.msg}."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"The file does not parse: {error}."
    return "The file does not parse."


def _checked(
    old: str, drafts: Sequence[RefactoringDraft], failure: Judge
) -> tuple[list[RefactoringDraft], list[RejectedResult]]:
    passed: dict[str, RefactoringDraft] = {}
    rejected = []
    for draft in drafts:
        if draft.text == old or draft.text in passed:
            continue
        if found := failure(draft):
            rejected.append(RejectedResult(draft.label, found.check, found.reason))
        else:
            passed[draft.text] = draft
    return list(passed.values()), rejected


def _maker(kind: RefactoringKind) -> Make:
    module, _, function = kind.make.partition(":")
    make: Make = getattr(import_module(f"codegen_lsp.refactor.python.{module}"), function)
    return make
