"""The messages that the server has beyond the protocol: `codegen-lsp/status`, its requests, and its commands.

docs/protocol.md describes them for authors of editor plugins. All fields are sent in camel case.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from lsprotocol import types

from codegen_lsp.advice.advising import LatencyAims, MachineAdvice, MachineReport, ModelAdvice
from codegen_lsp.inference.rpc.messages import GenerationStats, ModelDescription
from codegen_lsp.lsp.synthesis_messages import (
    EDIT,
    PROPOSE,
    RUN,
    SYNTHESIS_VALUES,
    TURNS,
    EditParams,
    ProposeParams,
    TurnsParams,
)
from codegen_lsp.refactor.refusal import RejectedResult
from codegen_lsp.suggest.origins import SuggestionOrigin

STATUS = "codegen-lsp/status"
EXPLAIN = "codegen-lsp/explain"
MODEL_ADVICE = "codegen-lsp/modelAdvice"

ACCEPTED = "codegen-lsp.accepted"
RESTART_WORKER = "codegen-lsp.restartWorker"
SWITCH_MODEL = "codegen-lsp.switchModel"
REFACTOR = "codegen-lsp.refactor"

State = Literal["starting", "loading", "ready", "busy", "error", "disabled"]


@frozen
class Status:
    """Params of `codegen-lsp/status`."""

    state: State
    """`starting`: no model yet. `loading`, `ready`, `busy` (a suggestion is being made). `error`: no suggestions until
    the cause is removed. `disabled`: off in the settings."""
    message: str = ""
    """The event, as a sentence."""
    advice: str = ""
    """Advice to the user, as a sentence; empty if there is nothing to do."""
    model: ModelDescription | None = None
    worker_pid: int | None = None
    """Process of the model."""


@frozen
class ExplainParams:
    """Params of `codegen-lsp/explain`."""

    text_document: types.TextDocumentIdentifier | None = None
    """The document whose last request is meant; without it, the last request of any."""
    origin: bool = True
    """Search for the place that the suggestion comes from, which takes some milliseconds."""


@frozen
class ModelAdviceParams:
    """Params of `codegen-lsp/modelAdvice`, whose result is a `MachineAdvice`."""

    measure: Literal["no", "ifNeeded", "again"] = "no"
    """Measure the machine: never, if no measurement is kept, or in any case. It takes some seconds of all processors,
    so it is for a user who asks for it."""


@frozen
class DocumentState:
    """A document as the server has it. Where this differs from the editor's text, edits were lost."""

    version: int
    characters: int
    """Code points."""
    sha256: str
    """Of the text in UTF-8."""


@frozen
class RefactoringReport:
    """A refactoring that was chosen, and how it ended."""

    kind: str
    version: int
    position: types.Position
    offers: list[str]
    """Labels of the results that passed all checks."""
    rejected: list[RejectedResult]
    rule: str | None = None
    """Name of the rule or check that refused it."""
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
    """The document as it is now, to compare with the editor's."""
    uri: str | None = None
    version: int | None = None
    position: types.Position | None = None
    trigger: str | None = None
    """`automatic` or `invoked`."""
    suggestions: int = 0
    """Number of suggestions."""
    source: str | None = None
    """`model`; `cache` if a suggestion was typed through or prefetched; `flight` if a generation for an earlier request
    was in flight; `none` if the model was not asked."""
    rule: str | None = None
    """Name of the rule that refused a suggestion."""
    reason: str | None = None
    stats: GenerationStats | None = None
    milliseconds: float | None = None
    """From the request's arrival to its answer."""
    origin: SuggestionOrigin | None = None
    """The place that agrees longest with the first suggestion."""
    refactoring: RefactoringReport | None = None
    """The last refactoring of the document, independent of the suggestions since."""
    shown: int = 0
    """Suggestions given since the server started."""
    accepted: int = 0
    """Suggestions accepted whole since the server started."""
    generated_tokens: int = 0
    """Tokens generated since the server started, those of cancelled requests left out."""
    preparing: bool = False
    """True while the suggestion that may come next is prefetched."""


VALUES: tuple[type, ...] = (
    ModelDescription,
    GenerationStats,
    Status,
    DocumentState,
    ExplainParams,
    RejectedResult,
    SuggestionOrigin,
    RefactoringReport,
    Explanation,
    ModelAdviceParams,
    ModelAdvice,
    LatencyAims,
    MachineReport,
    MachineAdvice,
    *SYNTHESIS_VALUES,
)
"""The classes of these messages."""

REQUEST_PARAMS: dict[str, type] = {
    EXPLAIN: ExplainParams,
    MODEL_ADVICE: ModelAdviceParams,
    TURNS: TurnsParams,
    PROPOSE: ProposeParams,
    EDIT: EditParams,
    RUN: TurnsParams,
}
"""Params of the requests beyond the protocol."""
