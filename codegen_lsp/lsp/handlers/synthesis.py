"""`codegen-lsp/synthesis/*`: programs in several turns, in an open document.

A user asks for each of these by a command; nothing runs before that, and everything runs in the sandbox.
"""

from __future__ import annotations

import base64
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from attrs import evolve
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams

from codegen_lsp.errors import CodegenError
from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.edits import text_edits
from codegen_lsp.lsp.latest import SupersededRequest
from codegen_lsp.lsp.open_documents import OpenDocument
from codegen_lsp.lsp.session import Session
from codegen_lsp.lsp.synthesis_messages import (
    OpenQuestion,
    ProducedFile,
    ProposeParams,
    RunReport,
    SessionTurn,
    SessionTurns,
    TurnProposal,
    TurnProposals,
    TurnsParams,
)
from codegen_lsp.synthesis.dialogue import Dialogue, line_spans, parse, render, shortened
from codegen_lsp.synthesis.questions import questions_about
from codegen_lsp.synthesis.running import TurnRunner
from codegen_lsp.synthesis.session import SynthesisSession
from codegen_lsp.synthesis.synthesizer import Proposal, Synthesizer, WritingOptions

T = TypeVar("T")

MOST_CANDIDATES = 16
MOST_CHARACTERS = 1 << 20
"""Characters of a session's document."""


class SessionDocumentError(CodegenError):
    """A document that can't be a session now."""


async def turns(session: Session, params: TurnsParams) -> SessionTurns:
    """`codegen-lsp/synthesis/turns`."""
    document = _document(session, params.text_document.uri).current
    dialogue = parse(document.text)
    spans = line_spans(document.text)
    found = [
        SessionTurn(turn.request, turn.code, turn.output, turn.edited, document.range(*_offsets(document, *span)))
        for turn, span in zip(dialogue.turns, spans, strict=True)
    ]
    return SessionTurns(document.version, found)


async def propose(session: Session, params: ProposeParams) -> TurnProposals:
    """`codegen-lsp/synthesis/propose`. Raises: CodegenError, with what the user can do."""
    opened = _document(session, params.text_document.uri)
    document = opened.current
    dialogue = parse(document.text)
    number = len(dialogue.turns) if params.turn is None else params.turn
    if not 0 <= number <= len(dialogue.turns):
        raise JsonRpcInvalidParams(f"There is no turn {number}.")
    candidates = max(1, min(MOST_CANDIDATES, params.candidates))
    synthesizer = await _synthesizer(session, document, WritingOptions(candidates=candidates))
    above = dialogue.until(number)
    replaced = 0 if params.insert else 1
    later = dialogue.turns[number + replaced :]
    found: list[TurnProposal] = []
    if later and params.turn is not None:
        rewritten = SynthesisSession(synthesizer, dialogue=dialogue)
        change = rewritten.insert if params.insert else rewritten.change
        proposals = await _latest(opened, change(number, params.request))
        found = [_proposal(document, proposals[0], rewritten.dialogue)] if proposals else []
    else:
        proposals = await _latest(opened, synthesizer.propose(above, params.request, seed=params.seed))
        for proposal in proposals:
            found.append(_proposal(document, proposal, above.with_turn(number, proposal.turn(params.request))))
    asked = [OpenQuestion(one.kind, one.text, one.name) for one in questions_about(above, params.request)]
    return TurnProposals(document.version, found, asked)


async def run(session: Session, params: TurnsParams) -> RunReport:
    """`codegen-lsp/synthesis/run`. Raises: CodegenError, with what the user can do."""
    opened = _document(session, params.text_document.uri)
    document = opened.current
    dialogue = parse(document.text)
    done = await _latest(opened, TurnRunner().run_cancellable(dialogue))
    outputs = [result.text for result in done.turns]
    stated = [
        evolve(turn, output=shortened(outputs[number]) if number < len(outputs) else "")
        for number, turn in enumerate(dialogue.turns)
    ]
    new = render(evolve(dialogue, turns=tuple(stated)))
    edits = text_edits(document, new) if stated else []
    return RunReport(document.version, done.kind, done.reason, edits, _files(done.last.files))


async def _latest(document: OpenDocument, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work on a document. Raises: JsonRpcException when the document is changed meanwhile."""
    try:
        return await document.refactoring.run(work)
    except SupersededRequest:
        raise JsonRpcException(
            "The document was changed meanwhile; ask again.", types.LSPErrorCodes.ContentModified.value
        ) from None


def _proposal(document: TextDocument, proposal: Proposal, dialogue: Dialogue) -> TurnProposal:
    done = proposal.run
    return TurnProposal(
        proposal.code,
        done.kind,
        done.last.text,
        done.reason,
        proposal.log_probability,
        text_edits(document, render(dialogue)),
        _files(done.last.files),
    )


def _files(files: Mapping[str, bytes]) -> list[ProducedFile]:
    return [ProducedFile(name, base64.b64encode(content).decode()) for name, content in files.items()]


async def _synthesizer(session: Session, document: TextDocument, options: WritingOptions) -> Synthesizer:
    model = await session.models.wait()
    if model is None or model.description is None:
        raise SessionDocumentError("The model is not ready yet.", "Wait for it, then ask again.")
    return Synthesizer(model.client, TurnRunner(), options, f"synthesis {document.uri}")


def _document(session: Session, uri: str) -> OpenDocument:
    """Return an open document that may be a session. Raises: SessionDocumentError."""
    document = session.documents.get(uri)
    if document is None:
        raise SessionDocumentError("The document is not open.", "Open it in the editor first.")
    if (refusal := session.refusal_of(document)) is not None:
        raise SessionDocumentError(refusal.reason, "Use another file.")
    if document.current.language != "python":
        raise SessionDocumentError("A session is a Python file.", "Choose Python as its language.")
    if len(document.current.text) > MOST_CHARACTERS:
        raise SessionDocumentError("The file is too long for a session.", "Begin a new one.")
    return document


def _offsets(document: TextDocument, first: int, end: int) -> tuple[int, int]:
    """Return the offsets of the lines from `first` up to `end`."""
    starts = document.line_starts
    return starts[first], starts[end] if end < len(starts) else len(document.text)
