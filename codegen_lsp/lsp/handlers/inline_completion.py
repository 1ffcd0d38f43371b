"""`textDocument/inlineCompletion`: the ghost text.

What editors need, whatever else they can do: a range from where the replaced text begins to the cursor or beyond it,
text that begins with what stands in that range, LF line ends, and an empty list where there is nothing (null leaves old
ghost text on the screen, an error becomes a message box). Automatic requests get one item at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from attrs import evolve
from lsprotocol import types

from codegen_lsp.completion.snapshot import Snapshot, Suggestion, Trigger
from codegen_lsp.lsp.documents import Document, file_access
from codegen_lsp.lsp.handlers.commands import ACCEPTED
from codegen_lsp.lsp.handlers.explain import Answered
from codegen_lsp.suggest.inflight import SupersededRequest
from codegen_lsp.suggest.service import Outcome, options_for, refused
from codegen_lsp.suggest.workspace_context import ScanRequest
from codegen_lsp.workspace.ignore import excluding_pattern

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a request waits for a model that is loading."""


async def inline_completion(ls: CodegenServer, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    """Suggestions at a position."""
    uri, context = params.text_document.uri, params.context
    invoked = context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    trigger = Trigger.INVOKED if invoked else Trigger.AUTOMATIC
    started = time.perf_counter()
    # Taken before the first await: later messages may change the document, this request is about what it was.
    document = ls.documents.get(uri)
    if document is None:
        logger.warning("A request for a document that is not open: %s", uri)
        return types.InlineCompletionList([])
    above = ls.notebooks.before(document, ls.documents)
    offset = document.offset(params.position)
    snapshot = document.snapshot(offset, trigger, context.selected_completion_info, above)
    ls.pauses.stop()
    ls.looking.stop()
    try:
        outcome = await ls.requests.newest(uri, _outcome(ls, snapshot))
    except SupersededRequest:
        return types.InlineCompletionList([])
    except asyncio.CancelledError:
        outcome = refused("cancelled", "The editor cancelled the request.")
        _note(ls, document, params.position, trigger, outcome, started)
        raise
    except Exception:
        logger.exception("Making a suggestion failed")
        outcome = refused("internal_error", "The server failed; its log says how.")
    if outcome.suggestions and ls.documents.get(uri) is not document:
        outcome = refused("document_changed", "The document was changed before the answer was ready.")
    _note(ls, document, params.position, trigger, outcome, started)
    in_document = [
        evolve(suggestion, start=suggestion.start - len(above), end=suggestion.end - len(above))
        for suggestion in outcome.suggestions
    ]
    if outcome.source in ("cache", "none"):
        ls.pauses.later(uri, offset)
    if outcome.suggestions and not invoked:
        ls.looking.later(uri, (snapshot, outcome.suggestions[0]))
    if ls.status.current.model is not None:
        first = in_document[0] if in_document else None
        timed = evolve(outcome, seconds=time.perf_counter() - started)
        ls.outcomes.answered(evolve(snapshot, offset=offset), timed, first, ls.status.current.model.name)
    shown = in_document[: ls.settings.candidates if invoked else 1]
    return types.InlineCompletionList([_item(ls, document, suggestion) for suggestion in shown])


async def read_ahead(server: CodegenServer, uri: str, offset: int) -> None:
    """Let the model read a document up to an offset while nothing else is to be done."""
    if not (server.settings.warm and server.settings.enabled) or not await server.models.wait(PATIENCE):
        return
    document = server.documents.get(uri)
    if document is None or refusal_of_document(server, uri) or server.status.current.state != "ready":
        return
    if not (server.requests.idle and server.refactorings.idle):
        return
    await scan_workspace(server, uri, min(offset, len(document.text)))
    snapshot = document.snapshot(
        min(offset, len(document.text)), above=server.notebooks.before(document, server.documents)
    )
    options = options_for(server.settings, document.language, server.status.current.model)
    await server.completer.warm(snapshot, options, server.models.client)


async def scan_workspace(server: CodegenServer, uri: str, offset: int) -> None:
    """Scan the workspace for the next suggestions in a document, unless that was just done or is of no use."""
    document = server.documents.get(uri)
    model = server.status.current.model
    if document is None or model is None or not server.scanner.is_due(uri):
        return
    ablated = server.settings.ablate
    snippets = model.ngrams and "context" not in ablated
    modules = document.language == "python" and not {"correctness", "modules"} & set(ablated)
    access = file_access(server, uri)
    if access is not None and (snippets or modules):
        await server.scanner.scan(ScanRequest(document.snapshot(offset), access, snippets, modules))


async def prepare_next(server: CodegenServer, shown: tuple[Snapshot, Suggestion]) -> None:
    """Make the suggestion that follows the one that is on the screen, while nothing else is to be done."""
    snapshot, suggestion = shown
    if not server.settings.warm or not server.requests.idle or server.status.current.state != "ready":
        return
    options = options_for(server.settings, snapshot.language, server.status.current.model)
    around = server.scanner.context(snapshot.uri)
    client = server.models.client
    work = server.completer.prepare(snapshot, suggestion, options, client, around=around)
    # A newer request doesn't end it: the worker does, if that request needs the model.
    await asyncio.shield(server.background(work))


async def _outcome(server: CodegenServer, snapshot: Snapshot) -> Outcome:
    if outcome := refusal_of_document(server, snapshot.uri):
        return outcome
    options = options_for(server.settings, snapshot.language, server.status.current.model)
    if outcome := server.completer.typed_through(snapshot, options):
        return outcome
    if not await server.models.wait(PATIENCE):
        return refused("no_model", "The model is not ready yet.")
    options = options_for(server.settings, snapshot.language, server.status.current.model)
    waits = server.settings.debounce == "auto" and snapshot.trigger is Trigger.AUTOMATIC
    outcome = await server.completer.suggest(
        snapshot,
        options,
        server.models.client,
        wait=server.metronome.wait(snapshot) if waits else 0.0,
        around=server.scanner.context(snapshot.uri),
    )
    if outcome.stats is not None and outcome.source == "model":
        server.metronome.answered(outcome.stats.queue_seconds + outcome.stats.total_seconds)
    return outcome


def refusal_of_document(server: CodegenServer, uri: str) -> Outcome | None:
    """Why nothing may be suggested in the document, whatever the position."""
    if server.documents.is_lost(uri):
        return refused("document_unknown", "An edit could not be read, so the text is not known. Open the file again.")
    workspace = server.workspace
    folders = list(workspace.folders) or ([workspace.root_uri] if workspace.root_uri else [])
    if pattern := excluding_pattern(server.notebooks.file_of(uri), folders, server.settings.exclude):
        return refused("excluded", f"The setting `exclude` names this file by the pattern {pattern!r}.")
    return None


def _note(
    server: CodegenServer,
    document: Document,
    position: types.Position,
    trigger: Trigger,
    outcome: Outcome,
    started: float,
) -> None:
    if server.documents.get(document.uri) is None:
        return
    outcome = evolve(outcome, seconds=time.perf_counter() - started)
    server.note(Answered(document.uri, document.version, position, trigger, outcome))


def _item(server: CodegenServer, document: Document, suggestion: Suggestion) -> types.InlineCompletionItem:
    accepted = types.Command(
        "Accepted", ACCEPTED, arguments=[{"uri": document.uri, "suggestion": server.counts.show()}]
    )
    return types.InlineCompletionItem(
        insert_text=suggestion.insert,
        range=document.range(suggestion.start, suggestion.end),
        command=accepted,
    )
