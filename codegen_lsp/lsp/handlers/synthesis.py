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
    EditParams,
    OpenQuestion,
    ProducedFile,
    ProducedTable,
    ProposeParams,
    RunReport,
    SessionTurn,
    SessionTurns,
    TurnOutcome,
    TurnProposal,
    TurnProposals,
    TurnsParams,
)
from codegen_lsp.sandbox.sandbox import SandboxError
from codegen_lsp.synthesis.dialogue import Dialogue, line_spans, parse, revised
from codegen_lsp.synthesis.plain_errors import in_plain_words
from codegen_lsp.synthesis.questions import questions_about
from codegen_lsp.synthesis.running import TurnResult, TurnRunner
from codegen_lsp.synthesis.session import SynthesisSession
from codegen_lsp.synthesis.synthesizer import Proposal, Synthesizer, WritingOptions
from codegen_lsp.synthesis.tables import csv_table
from codegen_lsp.synthesis.turn_reports import TurnReport, report_of, report_turns, with_outputs

T = TypeVar("T")

TERMINAL = (
    "Use Linux where namespaces are allowed, or, in a virtual machine, a terminal: codegen-lsp synth --limits-only."
)
MOST_CANDIDATES = 16
MOST_CHARACTERS = 1 << 20
"""Characters of a session's document."""


class SessionDocumentError(CodegenError):
    """A document that can't be a session now."""


async def turns(session: Session, params: TurnsParams) -> SessionTurns:
    """`codegen-lsp/synthesis/turns`."""
    opened = _document(session, params.text_document.uri)
    document, dialogue = opened.current, _dialogue(opened)
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
    dialogue = _dialogue(opened)
    number = len(dialogue.turns) if params.turn is None else params.turn
    if not 0 <= number <= len(dialogue.turns):
        raise JsonRpcInvalidParams(f"There is no turn {number}.")
    above = dialogue.until(number)
    asked = [OpenQuestion(one.kind, one.text, one.name) for one in questions_about(above, params.request)]
    if params.ask_first and asked:
        return TurnProposals(document.version, [], asked)
    candidates = max(1, min(MOST_CANDIDATES, params.candidates))
    synthesizer = await _synthesizer(session, document, WritingOptions(candidates=candidates))
    later = dialogue.turns[number + (0 if params.insert else 1) :]
    if later and params.rewrite_later:
        rewritten = SynthesisSession(synthesizer, dialogue=dialogue)
        change = rewritten.insert if params.insert else rewritten.change
        work = change(number, params.request, seed=params.seed, code=params.code)
        proposals = await _latest(opened, work)
        opened.authorship.wrote(turn.code for turn in rewritten.dialogue.turns if not turn.edited)
        found = [_proposal(document, one, rewritten.dialogue if one is proposals[0] else None) for one in proposals]
    else:
        proposals = await _latest(opened, _written(synthesizer, above, params))
        stale = tuple(evolve(turn, output="") for turn in later)
        taken = [(one, evolve(above, turns=(*above.turns, one.turn(params.request), *stale))) for one in proposals]
        found = [_proposal(document, one, dialogue) for one, dialogue in taken]
    opened.authorship.wrote(proposal.code for proposal in proposals)
    return TurnProposals(document.version, found, asked)


async def edit(session: Session, params: EditParams) -> RunReport:
    """`codegen-lsp/synthesis/edit`. Raises: CodegenError, with what the user can do."""
    opened = _document(session, params.text_document.uri)
    document = opened.current
    dialogue = _dialogue(opened)
    number = params.turn
    if not 0 <= number < len(dialogue.turns):
        raise JsonRpcInvalidParams(f"There is no turn {number}.")
    if params.code is None:
        changed = dialogue.without(number)
    else:
        turn = evolve(dialogue.turns[number], code=params.code.strip("\n"), edited=True)
        changed = dialogue.with_turn(number, turn)
    if params.run and changed.turns:
        return await _run(opened, document, changed)
    # What these turns did is no longer known.
    stale = [turn if at < number else evolve(turn, output="") for at, turn in enumerate(changed.turns)]
    edits = text_edits(document, revised(document.text, evolve(changed, turns=tuple(stale))))
    return RunReport(document.version, "ran", "", edits)


async def run(session: Session, params: TurnsParams) -> RunReport:
    """`codegen-lsp/synthesis/run`. Raises: CodegenError, with what the user can do."""
    opened = _document(session, params.text_document.uri)
    return await _run(opened, opened.current, _dialogue(opened))


async def _run(opened: OpenDocument, document: TextDocument, dialogue: Dialogue) -> RunReport:
    """Run what a document is to become, and return the edits to it with what each turn did."""
    reports = await _latest(opened, report_turns(TurnRunner(), dialogue))
    failed = next((number for number, report in enumerate(reports) if report.result.error), len(reports))
    cleared = evolve(dialogue, turns=tuple(evolve(turn, output="") for turn in dialogue.turns))
    reports = reports[: failed + 1]
    edits = text_edits(document, revised(document.text, with_outputs(cleared, reports)))
    wrong = next((report for report in reports if report.kind not in ("right", "ran")), None)
    files = _files(reports[-1].result.files) if reports else []
    kind, reason = (wrong.kind, wrong.reason) if wrong else ("ran", "")
    return RunReport(document.version, kind, reason, edits, files, [_outcome(report) for report in reports])


async def _written(synthesizer: Synthesizer, above: Dialogue, params: ProposeParams) -> list[Proposal]:
    if params.code is not None:
        return [await synthesizer.judge(above, params.request, params.code)]
    return await synthesizer.propose(above, params.request, seed=params.seed)


def _dialogue(opened: OpenDocument) -> Dialogue:
    """Return the dialogue in a document, in which the turns with code of the user are marked."""
    return opened.authorship.marked(parse(opened.current.text))


async def _latest(document: OpenDocument, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work on a document. Raises: JsonRpcException when the document is changed meanwhile."""
    try:
        return await document.refactoring.run(work)
    except SandboxError as error:
        raise SessionDocumentError(error.message, TERMINAL) from error
    except SupersededRequest:
        raise JsonRpcException(
            "The document was changed meanwhile; ask again.", types.LSPErrorCodes.ContentModified.value
        ) from None


def _proposal(document: TextDocument, proposal: Proposal, dialogue: Dialogue | None) -> TurnProposal:
    """Return a proposal with the edits to the dialogue that it is taken by, if they are known."""
    done = proposal.run
    return TurnProposal(
        proposal.code,
        done.kind,
        done.last.text,
        done.reason,
        proposal.log_probability,
        None if dialogue is None else text_edits(document, revised(document.text, dialogue)),
        _files(done.last.files),
        _outcome(report_of(done)),
    )


def _outcome(report: TurnReport) -> TurnOutcome:
    result = report.result
    found = [("", result.table), *((name, csv_table(content)) for name, content in _csv_files(result))]
    tables = [ProducedTable(name, one.heads, one.rows, one.dropped) for name, one in found if one is not None]
    explanation = result.stopped or in_plain_words(result.error)
    return TurnOutcome(
        report.kind, report.reason, result.output, result.value, result.error, explanation, tables, _files(result.files)
    )


def _csv_files(result: TurnResult) -> list[tuple[str, bytes]]:
    return [(name, content) for name, content in result.files.items() if name.endswith(".csv")]


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
