"""`codegen-lsp/explain`: why there was no suggestion, or where the last one came from."""

from __future__ import annotations

import hashlib
import logging
from typing import TypeVar

from attrs import evolve

from codegen_lsp.errors import CodegenError
from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.extensions import DocumentState, ExplainParams, Explanation, RefactoringReport, Status
from codegen_lsp.lsp.open_documents import AnsweredRequest, EndedRefactoring
from codegen_lsp.lsp.session import Session
from codegen_lsp.suggest.origins import SuggestionOrigin, find_origin

logger = logging.getLogger(__name__)

Ended = TypeVar("Ended", AnsweredRequest, EndedRefactoring)


async def explain(session: Session, params: ExplainParams) -> Explanation:
    """`codegen-lsp/explain`."""
    uri = params.text_document.uri if params.text_document else None
    meant = [session.documents.get(uri)] if uri else list(session.documents)
    answered = _last([document.answered for document in meant if document])
    refactored = _last([document.refactored for document in meant if document])
    report = refactored.report if refactored else None
    document = session.documents.get(uri or (answered.uri if answered else ""))
    common = Explanation(
        message="",
        status=session.status.current,
        settings_problems=session.configuration.problems,
        shown=session.suggestions.acceptance.shown,
        accepted=session.suggestions.acceptance.accepted,
        generated_tokens=session.suggestions.generated_tokens,
        preparing=session.suggestions.prefetching,
        document=state_of(document.current) if document else None,
        refactoring=report,
    )
    if answered is None:
        if report is not None:
            return evolve(common, message=_refactoring_message(report), uri=uri)
        text = f"There was no request for a suggestion yet. {_state_text(common.status)}".strip()
        return evolve(common, message=text)
    result = answered.result
    origin = await _origin(session, answered) if params.origin else None
    parts = [_message(answered, common.status), origin.sentence if origin else ""]
    return evolve(
        common,
        message=" ".join(filter(None, [*parts, _refactoring_message(report) if report else ""])),
        origin=origin,
        uri=answered.uri,
        version=answered.version,
        position=answered.position,
        trigger=answered.trigger.value,
        suggestions=len(result.suggestions),
        source=result.source,
        rule=result.refusal.rule if result.refusal else None,
        reason=result.refusal.reason if result.refusal else None,
        stats=result.stats,
        milliseconds=round(result.seconds * 1000, 1),
    )


async def _origin(session: Session, answered: AnsweredRequest) -> SuggestionOrigin | None:
    """Return where the first suggestion of an answer comes from; None without one, or without a model to ask."""
    if not answered.result.suggestions:
        return None
    client, workspace = session.models.current.client, session.suggestions.indexer.workspace_of(answered.uri)
    try:
        return await find_origin(answered.snapshot, answered.result.suggestions[0], client, workspace)
    except CodegenError as error:
        logger.info("The origin of a suggestion is not known: %s", error)
        return None


def _last(records: list[Ended | None]) -> Ended | None:
    return max((record for record in records if record), key=lambda record: record.ended, default=None)


def state_of(document: TextDocument) -> DocumentState:
    """Return the version, the length and a digest of a document."""
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
    return DocumentState(document.version, len(document.text), digest)


def _message(answered: AnsweredRequest, status: Status) -> str:
    result = answered.result
    place = f"Line {answered.position.line + 1}, column {answered.position.character + 1}"
    took = f"{result.seconds * 1000:.0f} ms"
    if result.refusal is not None:
        rule = f"{place}: no suggestion, by the rule `{result.refusal.rule}`. {result.refusal.reason}"
        return f"{rule} {_state_text(status)}".strip()
    count = len(result.suggestions)
    what = "1 suggestion" if count == 1 else f"{count} suggestions"
    if result.source == "cache":
        return f"{place}: {what}, kept from before ({took})."
    if result.stats is None:
        return f"{place}: {what} ({took})."
    read = f"{result.stats.prompt_tokens} tokens read, {result.stats.cached_tokens} of them from the cache"
    return f"{place}: {what} from the model ({took}; {read}; {result.stats.generated_tokens} written)."


def _refactoring_message(refactored: RefactoringReport) -> str:
    place = f"line {refactored.position.line + 1}, column {refactored.position.character + 1}"
    began = f"The refactoring {refactored.kind} at {place}"
    if refactored.rule is not None:
        text = f"{began} was not done, by the rule `{refactored.rule}`. {refactored.reason}"
    else:
        count = len(refactored.offers)
        text = f"{began} gave {'1 result' if count == 1 else f'{count} results'} ({refactored.milliseconds:.0f} ms)."
    if refactored.rejected and refactored.rule is None:
        checks = ", ".join(sorted({f"`{one.rule}`" for one in refactored.rejected}))
        text += f" {len(refactored.rejected)} more did not pass the checks: {checks}."
    return " ".join([text, *refactored.notes])


def _state_text(status: Status) -> str:
    if status.state in ("ready", "busy"):
        return ""
    return f"{status.message} {status.advice}".strip() or f"The server's state is {status.state!r}."
