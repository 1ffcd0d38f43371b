"""`textDocument/didOpen`, `didChange`, `didSave` and `didClose`."""

from __future__ import annotations

import logging
from typing import Any

from lsprotocol import types

from codegen_lsp.lsp.session import Session

logger = logging.getLogger(__name__)


def did_open(session: Session, params: types.DidOpenTextDocumentParams) -> None:
    """`textDocument/didOpen`."""
    session.documents.open(params.text_document)


def did_change(session: Session, params: types.DidChangeTextDocumentParams) -> None:
    """`textDocument/didChange`."""
    document = session.documents.get(params.text_document.uri)
    if document is None:
        logger.warning("A change of a document that is not open is ignored: %s", params.text_document.uri)
        return
    document.change(params)


def did_close(session: Session, params: types.DidCloseTextDocumentParams) -> None:
    """`textDocument/didClose`."""
    if document := session.documents.pop(params.text_document.uri):
        document.close()


def did_save(session: Session, params: types.DidSaveTextDocumentParams) -> None:
    """`textDocument/didSave`."""
    session.suggestions.files_changed()


def unreadable_change(session: Session, method: str, message: dict[str, Any]) -> None:
    """Mark the documents of a change that could not be structured as lost."""
    if method == types.NOTEBOOK_DOCUMENT_DID_CHANGE:
        lost = session.notebooks.cells(_uri_in(message, "notebookDocument"))
    else:
        lost = [_uri_in(message, "textDocument")]
    for uri in lost:
        session.documents.lose(uri)


def _uri_in(message: dict[str, Any], name: str) -> str:
    """Return the URI of a document in a message whose params may be anything; empty if there is none."""
    params = message.get("params")
    document = params.get(name) if isinstance(params, dict) else None
    uri = document.get("uri") if isinstance(document, dict) else None
    return uri if isinstance(uri, str) else ""
