"""Doing one refactoring: the menu's promise looked at again with the whole file, the work, the checks, the ranking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module

from attrs import evolve, field, frozen

from codegen_lsp.refactor.checks import Text, first_failure
from codegen_lsp.refactor.draft import Draft, Report
from codegen_lsp.refactor.kinds import Kind
from codegen_lsp.refactor.refusal import RefactorError, RejectedResult
from codegen_lsp.refactor.source import Source
from codegen_lsp.refactor.syntax import View, whole_view, with_body
from codegen_lsp.refactor.writing import Writer

logger = logging.getLogger(__name__)

Make = Callable[[View, Writer, Report], Awaitable[list[Draft]]]


@frozen
class Offer:
    """A result that passed all checks."""

    text: str
    """The whole document after it, with LF line ends."""
    label: str


@frozen
class Outcome:
    """What came of a refactoring."""

    kind: Kind
    offers: list[Offer]
    """The likeliest first."""
    rejected: list[RejectedResult] = field(factory=list)
    notes: list[str] = field(factory=list)


async def perform(kind: Kind, source: Source, writer: Writer, report: Report) -> Outcome:
    """Do a refactoring at the selection.

    Raises RefactorError when it can't be done here or no result passes the checks, WorkerError and ModelError when
    the model fails. Cancelling ends a generation within one token; work on syntax goes on unseen to its end.
    """
    report("Reading the file", 0.0)
    seen = await asyncio.to_thread(_look, source)
    if kind.applies(seen) is None:
        raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
    if kind.needs_model and writer.model is None:
        raise RefactorError("no_model", "This needs a model, and none is ready.", "Wait for it, or choose one.")
    writer = evolve(writer, optional=not kind.needs_model)
    make = _maker(kind)
    drafts = await make(seen, writer, report)
    report("Checking", 0.8)
    passed, rejected = await asyncio.to_thread(_checked, seen.source.text, drafts)
    for one in rejected:
        logger.info("%s: %r is not offered, by the check %s: %s", kind.name, one.label, one.rule, one.reason)
    if not passed:
        if rejected:
            first = rejected[0]
            raise RefactorError(first.rule, f"No result passed the checks. {first.reason}", rejected=rejected)
        raise RefactorError("no_answer", "The model had nothing to say that could be used.")
    order = await writer.ranked(seen.source.text, [draft.text for draft in passed]) if len(passed) > 1 else [0]
    report("Done", 1.0)
    return Outcome(kind, [Offer(passed[at].text, passed[at].label) for at in order], rejected, list(writer.notes))


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


def _checked(old: str, drafts: Sequence[Draft]) -> tuple[list[Draft], list[RejectedResult]]:
    before = Text(old)
    passed: dict[str, Draft] = {}
    rejected = []
    for draft in drafts:
        if draft.text == old or draft.text in passed:
            continue
        if failure := first_failure(before, draft.text, draft.permits):
            rejected.append(RejectedResult(draft.label, failure.check, failure.reason))
        else:
            passed[draft.text] = draft
    return list(passed.values()), rejected


def _maker(kind: Kind) -> Make:
    module, _, function = kind.make.partition(":")
    make: Make = getattr(import_module(f"codegen_lsp.refactor.{module}"), function)
    return make
