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
EDIT = "codegen-lsp/synthesis/edit"
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
    code: str | None = None
    """The code to take, such as that of another candidate, instead of asking the model."""
    rewrite_later: bool = True
    """Write the turns below anew, except those marked as the user's own; otherwise they stay as they are."""
    ask_first: bool = False
    """Write nothing while the request leaves something open: the result has the questions alone."""


@frozen
class EditParams:
    """Params of `codegen-lsp/synthesis/edit`."""

    text_document: types.TextDocumentIdentifier
    turn: int
    """Index of the turn, from 0."""
    code: str | None = None
    """The user's code; None removes the turn."""
    run: bool = False
    """Run the program, and state what each turn did."""


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
class ProducedTable:
    """A table that a turn made: its value, or a file of comma-separated values."""

    name: str
    """Name of the file; empty for the value."""
    heads: list[str]
    """Of the columns; empty if they have none."""
    rows: list[list[str]]
    dropped: int
    """Rows that are left out."""


@frozen
class TurnOutcome:
    """What a turn did when it ran."""

    kind: str
    """As of `TurnProposal`."""
    reason: str = ""
    """Why it failed, or which example does not hold, in one line."""
    output: str = ""
    """What it printed."""
    value: str = ""
    """The value of its last expression."""
    error: str = ""
    """What ended it."""
    explanation: str = ""
    """The error in plain words; empty if there are none for it."""
    tables: list[ProducedTable] = field(factory=list)
    files: list[ProducedFile] = field(factory=list)


@frozen
class TurnProposal:
    """A candidate for the code of a turn."""

    code: str
    kind: str
    """`right`: its examples hold. `ran`: there are none. `contradicts`, `failed`, `timeout`: see `reason`."""
    output: str
    reason: str
    log_probability: float
    edits: list[types.TextEdit] | None
    """Changes of the document that take it. None where later turns would have to be written anew for it: it is taken by
    another request, with its `code`."""
    files: list[ProducedFile] = field(factory=list)
    outcome: TurnOutcome | None = None


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
    """Result of `codegen-lsp/synthesis/run` and `codegen-lsp/synthesis/edit`."""

    version: int
    kind: str
    reason: str
    edits: list[types.TextEdit]
    """Changes of the document: those that were asked for, and what each turn did."""
    files: list[ProducedFile] = field(factory=list)
    """Those of the last turn."""
    turns: list[TurnOutcome] = field(factory=list)
    """Of the turns up to the one that failed; empty if nothing was run."""


SYNTHESIS_VALUES: tuple[type, ...] = (
    TurnsParams,
    ProposeParams,
    EditParams,
    SessionTurn,
    SessionTurns,
    ProducedFile,
    ProducedTable,
    TurnOutcome,
    TurnProposal,
    OpenQuestion,
    TurnProposals,
    RunReport,
)
"""The classes of these messages."""
