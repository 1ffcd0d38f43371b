"""Doing one refactoring: the menu's promise looked at again with the whole file, the work, the checks, the ranking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path

from attrs import evolve, field, frozen

from codegen_lsp.refactor.checks import Failure, Text, first_failure
from codegen_lsp.refactor.draft import Draft, Report
from codegen_lsp.refactor.edits import Source
from codegen_lsp.refactor.model_assistant import Writer
from codegen_lsp.refactor.python.selection import View, whole_view, with_body
from codegen_lsp.refactor.refusal import RefactorError, RejectedResult
from codegen_lsp.refactor.registry import Kind, menu
from codegen_lsp.refactor.verification import Trial, Verification, unwritten, verify
from codegen_lsp.sandbox.sandbox import SandboxError
from codegen_lsp.workspace.sources import OtherFile

logger = logging.getLogger(__name__)

Judge = Callable[[Draft], Failure | None]
"""Gives what speaks against a result, or None."""
Make = Callable[[View, Writer, Report], Awaitable[list[Draft]]]


@frozen
class Offer:
    """A result that passed all checks."""

    text: str
    """The whole document after it, with LF line ends."""
    label: str
    others: list[OtherFile] = field(factory=list)
    """Files that change along with it."""


@frozen
class Outcome:
    """What came of a refactoring."""

    kind: Kind
    offers: list[Offer]
    """The likeliest first."""
    rejected: list[RejectedResult] = field(factory=list)
    notes: list[str] = field(factory=list)
    verified: list[Verification] = field(factory=list)
    """What the tests say of each offer, when they were run."""


async def perform(kind: Kind, source: Source, writer: Writer, report: Report, trial: Trial | None = None) -> Outcome:
    """Do a refactoring at the selection. With a `trial`, results with which the tests fail are not offered.

    Raises RefactorError when it can't be done here or no result passes the checks, WorkerError and ModelError when
    the model fails, SandboxError when a trial is required and can't be made. Cancelling ends a generation within one
    token; work on syntax, and tests, go on unseen to their end.
    """
    report("Reading the file", 0.0)
    if source.language != "python":
        return await _perform_on_braces(kind, source, writer, report)
    seen = await asyncio.to_thread(_look, source)
    if kind.applies(seen) is None:
        raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
    if kind.needs_model and writer.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    writer = evolve(writer, optional=not kind.needs_model)
    make = _maker(kind)
    drafts = await make(seen, writer, report)
    before = Text(seen.source.text)
    outcome = await _chosen(
        kind, before.text, drafts, lambda draft: first_failure(before, draft.text, draft.permits), writer, report
    )
    return outcome if trial is None or source.path is None else await _tried(outcome, seen, source.path, trial, report)


async def _perform_on_braces(kind: Kind, source: Source, writer: Writer, report: Report) -> Outcome:
    from codegen_lsp.refactor import treesitter as braces

    if not any(entry.kind is kind for entry in menu(source)):
        raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
    if writer.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    make = braces.docstring if kind.name == "docstring" else braces.body
    drafts = await make(source, writer, report)
    return await _chosen(
        kind, source.text, drafts, lambda draft: braces.first_failure(source, draft.text, draft.permits), writer, report
    )


async def _chosen(
    kind: Kind, old: str, drafts: Sequence[Draft], failure: Judge, writer: Writer, report: Report
) -> Outcome:
    """What passes the checks, the likeliest first. Raises RefactorError when nothing does."""
    report("Checking", 0.8)
    passed, rejected = await asyncio.to_thread(_checked, old, drafts, failure)
    _log(kind, rejected)
    if not passed:
        if rejected:
            first = rejected[0]
            raise RefactorError(first.rule, f"No result passed the checks. {first.reason}", rejected=rejected)
        raise RefactorError("no_answer", "The model had nothing to say that could be used.")
    order = await writer.ranked(old, [draft.text for draft in passed]) if len(passed) > 1 else [0]
    report("Done", 1.0)
    offers = [Offer(passed[at].text, passed[at].label, passed[at].others) for at in order]
    return Outcome(kind, offers, rejected, list(writer.notes))


async def _tried(outcome: Outcome, seen: View, path: Path, trial: Trial, report: Report) -> Outcome:
    """What the tests have nothing against. Raises RefactorError when that is nothing, and SandboxError."""
    report("Running the tests", 0.9)
    text, function = seen.source.text, seen.function
    results = [{**{one.path: one.after for one in offer.others}, path: offer.text} for offer in outcome.offers]
    marked = None
    if outcome.kind.name == "complete-body" and function is not None:
        marked = unwritten(text, function.lineno)
    try:
        said = await asyncio.to_thread(verify, path, text, results, trial, marked)
    except SandboxError as error:
        if trial.required:
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


def _log(kind: Kind, rejected: Sequence[RejectedResult]) -> None:
    for one in rejected:
        logger.info("%s: %r is not offered, by the check %s: %s", kind.name, one.label, one.rule, one.reason)


def _look(source: Source) -> View:
    seen = whole_view(source)
    if seen is None and (mended := with_body(source)) is not None:
        seen = whole_view(mended)
    if seen is None:
        raise RefactorError("syntax_error", _syntax_error(source.text), "Mend it first.")
    return seen


def _syntax_error(text: str) -> str:
    try:
        compile(text, "<document>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"The file does not parse: line {error.lineno}: {error.msg}."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"The file does not parse: {error}."
    return "The file does not parse."


def _checked(old: str, drafts: Sequence[Draft], failure: Judge) -> tuple[list[Draft], list[RejectedResult]]:
    passed: dict[str, Draft] = {}
    rejected = []
    for draft in drafts:
        if draft.text == old or draft.text in passed:
            continue
        if found := failure(draft):
            rejected.append(RejectedResult(draft.label, found.check, found.reason))
        else:
            passed[draft.text] = draft
    return list(passed.values()), rejected


def _maker(kind: Kind) -> Make:
    module, _, function = kind.make.partition(":")
    make: Make = getattr(import_module(f"codegen_lsp.refactor.python.{module}"), function)
    return make
