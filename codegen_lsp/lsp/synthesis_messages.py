"""The requests `codegen-lsp/synthesis/*`: programs in several turns, in an open document.

The document is the session: what is asked and written stands in its text, so undo, saving and versions are those of the
editor. All fields are sent in camel case.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from lsprotocol import types

TURNS = "codegen-lsp/synthesis/turns"
PROPOSE = "codegen-lsp/synthesis/propose"
RUN = "codegen-lsp/synthesis/run"


@frozen
class TurnsParams:
    """Params of `codegen-lsp/synthesis/turns` and `codegen-lsp/synthesis/run`."""

    text_document: types.TextDocumentIdentifier


@frozen
class ProposeParams:
    """Params of `codegen-lsp/synthesis/propose`."""

    text_document: types.TextDocumentIdentifier
    request: str
    """What the turn should do."""
    turn: int | None = None
    """Index of the turn, from 0; None for a new one at the end."""
    insert: bool = False
    """Insert before the turn instead of replacing it."""
    seed: int = 0
    """Another one gives other candidates."""
    candidates: int = 4


@frozen
class SessionTurn:
    """A turn of a document."""

    request: str
    code: str
    output: str
    """What it did when it was last run."""
    edited: bool
    """True if the user wrote or changed the code."""
    range: types.Range
    """The lines of the turn."""


@frozen
class SessionTurns:
    """Result of `codegen-lsp/synthesis/turns`."""

    version: int
    turns: list[SessionTurn]


@frozen
class ProducedFile:
    """A picture or table that a turn made."""

    name: str
    base64: str


@frozen
class TurnProposal:
    """A candidate for the code of a turn."""

    code: str
    kind: str
    """`right`: its examples hold. `ran`: there are none. `contradicts`, `failed`, `timeout`: see `reason`."""
    output: str
    reason: str
    log_probability: float
    edits: list[types.TextEdit]
    """Changes of the document that take it."""
    files: list[ProducedFile] = field(factory=list)


@frozen
class OpenQuestion:
    """Something that a request leaves open."""

    kind: Literal["undefined", "example"]
    text: str
    name: str


@frozen
class TurnProposals:
    """Result of `codegen-lsp/synthesis/propose`: candidates, the best first."""

    version: int
    """Version of the document that the edits are for."""
    proposals: list[TurnProposal]
    questions: list[OpenQuestion]


@frozen
class RunReport:
    """Result of `codegen-lsp/synthesis/run`."""

    version: int
    kind: str
    reason: str
    edits: list[types.TextEdit]
    """Changes of the document that state what each turn did."""
    files: list[ProducedFile] = field(factory=list)


SYNTHESIS_VALUES: tuple[type, ...] = (
    TurnsParams,
    ProposeParams,
    SessionTurn,
    SessionTurns,
    ProducedFile,
    TurnProposal,
    OpenQuestion,
    TurnProposals,
    RunReport,
)
"""The classes of these messages."""
