"""Perform one refactoring: prepare it with the whole file parsed, make drafts, check, rank and verify them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from attrs import evolve

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.backend import PreparedRefactoring
from codegen_lsp.refactor.dispatch import backend_for
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.refusal import RefactorError, RejectedResult
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.results import RefactoringDraft, RefactoringOffer, RefactoringOutcome
from codegen_lsp.refactor.verification import VerificationPolicy
from codegen_lsp.sandbox.sandbox import SandboxError

logger = logging.getLogger(__name__)


async def perform(
    kind: RefactoringKind,
    source: SelectedSource,
    assistant: ModelAssistant,
    report: ProgressReport,
    policy: VerificationPolicy | None = None,
) -> RefactoringOutcome:
    """Perform a refactoring at the selection; with a policy, withhold results with which the tests fail.

    Cancelling ends a generation within one token. Work on syntax, and tests, run to their end in their threads, and
    their results are dropped.

    Raises:
        RefactorError: when the refactoring can't be done here or no result passes the checks.
        WorkerError, ModelError: when the model fails.
        SandboxError: when verification is required and programs can't be confined.
    """
    report("Reading the file", 0.0)
    backend = backend_for(source.language)
    if backend is None:
        raise RefactorError("not_here", f"There are no refactorings for {source.language}.")
    prepared = await asyncio.to_thread(backend.prepare, kind, source)
    if kind.needs_model and assistant.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    assistant = evolve(assistant, optional=not kind.needs_model)
    drafts = await prepared.make(assistant, report)
    outcome = await _checked(kind, prepared, drafts, assistant, report)
    return outcome if policy is None else await _verified(outcome, prepared, policy, report)


async def _checked(
    kind: RefactoringKind,
    prepared: PreparedRefactoring,
    drafts: Sequence[RefactoringDraft],
    assistant: ModelAssistant,
    report: ProgressReport,
) -> RefactoringOutcome:
    """Return the drafts that pass the checks, the likeliest first. Raises RefactorError when none does."""
    report("Checking", 0.8)
    passed, rejected = await asyncio.to_thread(_check_all, prepared, drafts)
    _log(kind, rejected)
    if not passed:
        if rejected:
            first = rejected[0]
            raise RefactorError(first.rule, f"No result passed the checks. {first.reason}", rejected=rejected)
        raise RefactorError("no_answer", "The model had nothing to say that could be used.")
    order = await assistant.ranked(prepared.text, [draft.text for draft in passed]) if len(passed) > 1 else [0]
    report("Done", 1.0)
    offers = [RefactoringOffer(passed[at].text, passed[at].label, passed[at].others) for at in order]
    return RefactoringOutcome(kind, offers, rejected, list(assistant.notes))


def _check_all(
    prepared: PreparedRefactoring, drafts: Sequence[RefactoringDraft]
) -> tuple[list[RefactoringDraft], list[RejectedResult]]:
    """Split the drafts into those that pass and those that don't; drop duplicates, and drafts that change nothing."""
    passed: dict[str, RefactoringDraft] = {}
    rejected = []
    for draft in drafts:
        if draft.text == prepared.text or draft.text in passed:
            continue
        if failure := prepared.check(draft):
            rejected.append(RejectedResult(draft.label, failure.check, failure.reason))
        else:
            passed[draft.text] = draft
    return list(passed.values()), rejected


async def _verified(
    outcome: RefactoringOutcome, prepared: PreparedRefactoring, policy: VerificationPolicy, report: ProgressReport
) -> RefactoringOutcome:
    """Return the outcome without the results with which the tests fail.

    Raises RefactorError when none is left, and SandboxError.
    """
    try:
        results = await prepared.verify(outcome.offers, policy, report)
    except SandboxError as error:
        if policy.required:
            raise
        return evolve(outcome, notes=[*outcome.notes, f"Tests were not run. {error.message}"])
    if results is None:
        return outcome
    verified = list(zip(outcome.offers, results, strict=True))
    # Results that passed come before those that there was no time to verify.
    kept = sorted((one for one in verified if one[1].kind != "failed"), key=lambda one: one[1].kind != "passed")
    failed = [
        RejectedResult(offer.label, "tests", f"{', '.join(result.tests)}: {result.detail}")
        for offer, result in verified
        if result.kind == "failed"
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
