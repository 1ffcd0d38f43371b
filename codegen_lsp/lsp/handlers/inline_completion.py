"""`textDocument/inlineCompletion`: the ghost text.

The requirements of all editors: a range from the start of the replaced text to the cursor or beyond it, text that
begins with the text in that range, LF line ends, and an empty list if there is nothing to show (null leaves old ghost
text on the screen, an error becomes a message box). Automatic requests get one item at most.
"""

from __future__ import annotations

import asyncio
import logging
import time

from lsprotocol import types

from codegen_lsp.completion.snapshot import Refusal, Suggestion, Trigger
from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.extensions import ACCEPTED
from codegen_lsp.lsp.latest import SupersededRequest
from codegen_lsp.lsp.open_documents import AnsweredRequest
from codegen_lsp.lsp.session import Session
from codegen_lsp.suggest.request import SuggestionRequest, SuggestionResult, refused

logger = logging.getLogger(__name__)


async def inline_completion(session: Session, params: types.InlineCompletionParams) -> types.InlineCompletionList:
    """`textDocument/inlineCompletion`."""
    received = time.perf_counter()
    document = session.documents.get(params.text_document.uri)
    if document is None:
        logger.warning("A request for a document that is not open: %s", params.text_document.uri)
        return types.InlineCompletionList([])
    # Taken before the first await: the request is about the text as it was, and later messages may change it.
    text, context = document.current, params.context
    invoked = context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    trigger = Trigger.INVOKED if invoked else Trigger.AUTOMATIC
    offset = text.offset(params.position)
    snapshot = session.snapshot_of(document, offset, trigger, context.selected_completion_info)

    def note(result: SuggestionResult) -> None:
        document.answered = AnsweredRequest(
            text.uri, text.version, params.position, trigger, result, snapshot, time.perf_counter()
        )

    async def suggest(refusal: Refusal | None) -> SuggestionResult:
        if session.configuration.is_requested:
            # The settings had changed in the editor before it sent this request.
            await session.configuration.answered()
            refusal = session.refusal_at(document, offset)
        request = SuggestionRequest(snapshot, session.settings, session.models, received, refusal=refusal)
        return await session.suggestions.suggest(request)

    try:
        result = await document.completion.run(suggest(session.refusal_at(document, offset)))
    except SupersededRequest:
        return types.InlineCompletionList([])
    except asyncio.CancelledError:
        note(refused("cancelled", "The editor cancelled the request.", since=received))
        raise
    except Exception:
        logger.exception("Making a suggestion failed")
        result = refused("internal_error", "The server failed; its log says how.", since=received)
    note(result)
    return types.InlineCompletionList(
        [_item(text, suggestion, number) for suggestion, number in zip(result.suggestions, result.numbers, strict=True)]
    )


def _item(document: TextDocument, suggestion: Suggestion, number: int) -> types.InlineCompletionItem:
    arguments = [{"uri": document.uri, "suggestion": number}]
    return types.InlineCompletionItem(
        insert_text=suggestion.insert,
        range=document.range(suggestion.start, suggestion.end),
        command=types.Command("Accepted", ACCEPTED, arguments=arguments),
    )
