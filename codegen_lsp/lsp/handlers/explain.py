"""The `codegen-lsp/explain` request: why there was no suggestion, or where the last one came from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from lsprotocol import types

from codegen_lsp.completion.snapshot import Trigger
from codegen_lsp.inference.rpc.messages import GenerationStats
from codegen_lsp.lsp.documents import Document
from codegen_lsp.lsp.status import Status
from codegen_lsp.refactor.refusal import RejectedResult
from codegen_lsp.suggest.service import Outcome

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

EXPLAIN = "codegen-lsp/explain"


@frozen
class ExplainParams:
    """Params of `codegen-lsp/explain`."""

    text_document: types.TextDocumentIdentifier | None = None
    """The document whose last request is meant; without it, the last request of any."""


@frozen
class DocumentState:
    """A document as the server has it. Where this differs from what the editor has, edits were lost."""

    version: int
    characters: int
    """Code points."""
    sha256: str
    """Of the text in UTF-8."""


@frozen
class Refactoring:
    """A refactoring that was chosen, and how it ended."""

    kind: str
    version: int
    position: types.Position
    offers: list[str]
    """What tells the results that passed all checks from each other."""
    rejected: list[RejectedResult]
    rule: str | None = None
    """Name of the rule or check that spoke against it."""
    reason: str | None = None
    notes: list[str] = field(factory=list)
    milliseconds: float = 0.0


@frozen
class Explanation:
    """Result of `codegen-lsp/explain`."""

    message: str
    """The whole answer in words."""
    status: Status
    settings_problems: list[str]
    document: DocumentState | None = None
    """The document as it is here now, to compare with the editor's."""
    uri: str | None = None
    version: int | None = None
    position: types.Position | None = None
    trigger: str | None = None
    """`automatic` or `invoked`."""
    suggestions: int = 0
    """How many there were."""
    source: str | None = None
    """`model`; `cache` when a suggestion was typed through or made ahead; `flight` when an earlier request's was under
    way; `none` when the model was not asked."""
    rule: str | None = None
    """Name of the rule that spoke against a suggestion."""
    reason: str | None = None
    stats: GenerationStats | None = None
    """What the model did."""
    milliseconds: float | None = None
    """From the request's arrival to its answer."""
    refactoring: Refactoring | None = None
    """How the document's last refactoring ended, whatever was suggested since."""
    shown: int = 0
    """Suggestions given since the server started."""
    accepted: int = 0
    """Suggestions accepted whole since the server started."""
    generated_tokens: int = 0
    """Tokens that the model wrote since the server started, those of cancelled requests left out."""
    preparing: bool = False
    """Whether the suggestion that may come next is being made."""


@frozen
class Answered:
    """A request for suggestions and how it ended."""

    uri: str
    version: int
    position: types.Position
    trigger: Trigger
    outcome: Outcome


def explain(ls: CodegenServer, params: ExplainParams) -> Explanation:
    """`codegen-lsp/explain`."""
    uri = params.text_document.uri if params.text_document else None
    answered = ls.answered.get(uri) if uri else next(reversed(ls.answered.values()), None)
    document = ls.documents.get(uri or (answered.uri if answered else ""))
    common = Explanation(
        message="",
        status=ls.status.current,
        settings_problems=ls.configuration.problems,
        shown=ls.counts.shown,
        accepted=ls.counts.accepted,
        generated_tokens=ls.completer.generated_tokens,
        preparing=ls.looking.waiting or ls.completer.preparing,
        document=state_of(document) if document else None,
    )
    refactored = ls.refactored.get(uri) if uri else next(reversed(ls.refactored.values()), None)
    common = evolve(common, refactoring=refactored)
    if answered is None and refactored is not None:
        return evolve(common, message=_refactoring_message(refactored), uri=uri)
    if answered is None:
        return evolve(
            common, message=f"There was no request for a suggestion yet. {_state_text(common.status)}".strip()
        )
    outcome = answered.outcome
    return evolve(
        common,
        message=" ".join(
            [_message(answered, common.status), *([_refactoring_message(refactored)] if refactored else [])]
        ),
        uri=answered.uri,
        version=answered.version,
        position=answered.position,
        trigger=answered.trigger.value,
        suggestions=len(outcome.suggestions),
        source=outcome.source,
        rule=outcome.refusal.rule if outcome.refusal else None,
        reason=outcome.refusal.reason if outcome.refusal else None,
        stats=outcome.stats,
        milliseconds=round(outcome.seconds * 1000, 1),
    )


def state_of(document: Document) -> DocumentState:
    """What tells a document from another."""
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
    return DocumentState(document.version, len(document.text), digest)


def _message(answered: Answered, status: Status) -> str:
    outcome = answered.outcome
    place = f"Line {answered.position.line + 1}, column {answered.position.character + 1}"
    took = f"{outcome.seconds * 1000:.0f} ms"
    if outcome.refusal is not None:
        rule = f"{place}: no suggestion, by the rule `{outcome.refusal.rule}`. {outcome.refusal.reason}"
        return f"{rule} {_state_text(status)}".strip()
    count = len(outcome.suggestions)
    what = "1 suggestion" if count == 1 else f"{count} suggestions"
    if outcome.source == "cache":
        return f"{place}: {what}, kept from before ({took})."
    if outcome.stats is None:
        return f"{place}: {what} ({took})."
    read = f"{outcome.stats.prompt_tokens} tokens read, {outcome.stats.cached_tokens} of them from the cache"
    return f"{place}: {what} from the model ({took}; {read}; {outcome.stats.generated_tokens} written)."


def _refactoring_message(refactored: Refactoring) -> str:
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
