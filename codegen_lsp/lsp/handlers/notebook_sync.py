"""`notebookDocument/didOpen`, `didChange`, `didClose`."""

from __future__ import annotations

import logging

from lsprotocol import types

from codegen_lsp.lsp.handlers.text_sync import did_change, did_close, did_open
from codegen_lsp.lsp.session import Session

logger = logging.getLogger(__name__)


def notebook_did_open(session: Session, params: types.DidOpenNotebookDocumentParams) -> None:
    """`notebookDocument/didOpen`."""
    for item in params.cell_text_documents:
        did_open(session, types.DidOpenTextDocumentParams(item))
    notebook = params.notebook_document
    session.notebooks.set(notebook.uri, [cell.document for cell in notebook.cells])


def notebook_did_change(session: Session, params: types.DidChangeNotebookDocumentParams) -> None:
    """`notebookDocument/didChange`: cells that are added, removed or moved, and changes of their text."""
    change = params.change.cells
    if change is None:
        return
    if change.structure is not None:
        _restructure(session, params.notebook_document.uri, change.structure)
    for text in change.text_content or []:
        did_change(session, types.DidChangeTextDocumentParams(text.document, text.changes))


def notebook_did_close(session: Session, params: types.DidCloseNotebookDocumentParams) -> None:
    """`notebookDocument/didClose`."""
    for cell in params.cell_text_documents:
        did_close(session, types.DidCloseTextDocumentParams(cell))
    session.notebooks.forget(params.notebook_document.uri)


def _restructure(session: Session, notebook: str, change: types.NotebookDocumentCellChangeStructure) -> None:
    for item in change.did_open or []:
        did_open(session, types.DidOpenTextDocumentParams(item))
    cells, array = session.notebooks.cells(notebook), change.array
    if array.start > len(cells):
        logger.warning("A change of the notebook %s begins beyond its %d cells", notebook, len(cells))
    cells[array.start : array.start + array.delete_count] = [cell.document for cell in array.cells or []]
    session.notebooks.set(notebook, cells)
    for cell in change.did_close or []:
        did_close(session, types.DidCloseTextDocumentParams(cell))
