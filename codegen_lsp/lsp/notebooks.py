"""Notebooks: their cells are documents of their own, and a cell goes on from the code of the cells before it.

An editor that synchronises notebooks sends the cells' text with them; each is kept with the other documents. What is
kept here is which cells a notebook has, in which order, so that a request in a cell can be asked as though the cells
before it, in its language, stood above it in one file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from codegen_lsp.lsp.documents import Document, Documents, did_change, did_close, did_open

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

SYNC = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook("*")])
"""What is announced to editors: all cells of all notebooks."""

BETWEEN = "\n\n"
"""Between two cells: a blank line, as between two parts of a file."""


class Notebooks:
    """The open notebooks: for each the URIs of its cells, in order."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}
        self._notebook: dict[str, str] = {}

    def set(self, notebook: str, cells: list[str]) -> None:
        """Note the cells of a notebook, in order."""
        self.forget(notebook)
        self._cells[notebook] = cells
        self._notebook |= dict.fromkeys(cells, notebook)

    def cells(self, notebook: str) -> list[str]:
        """The cells of a notebook, in order; none when it is not open."""
        return list(self._cells.get(notebook, []))

    def forget(self, notebook: str) -> None:
        """Forget a notebook."""
        for cell in self._cells.pop(notebook, []):
            self._notebook.pop(cell, None)

    def file_of(self, uri: str) -> str:
        """The notebook that a cell is in; any other document is its own file."""
        return self._notebook.get(uri, uri)

    def before(self, document: Document, documents: Documents) -> str:
        """Code of the cells before this one, in its language; empty for a document that is no cell."""
        notebook = self._notebook.get(document.uri)
        if notebook is None:
            return ""
        cells = self._cells[notebook]
        above = [documents.get(uri) for uri in cells[: cells.index(document.uri)] if not documents.is_lost(uri)]
        texts = [cell.text.rstrip("\r\n") for cell in above if cell is not None and cell.language == document.language]
        return "".join(text + BETWEEN for text in texts if text.strip())


def notebook_did_open(ls: CodegenServer, params: types.DidOpenNotebookDocumentParams) -> None:
    """`notebookDocument/didOpen`."""
    for item in params.cell_text_documents:
        did_open(ls, types.DidOpenTextDocumentParams(item))
    notebook = params.notebook_document
    ls.notebooks.set(notebook.uri, [cell.document for cell in notebook.cells])


def notebook_did_change(ls: CodegenServer, params: types.DidChangeNotebookDocumentParams) -> None:
    """`notebookDocument/didChange`: cells that come, go or move, and text that changes in them."""
    change = params.change.cells
    if change is None:
        return
    if change.structure is not None:
        _restructure(ls, params.notebook_document.uri, change.structure)
    for text in change.text_content or []:
        did_change(ls, types.DidChangeTextDocumentParams(text.document, text.changes))


def notebook_did_close(ls: CodegenServer, params: types.DidCloseNotebookDocumentParams) -> None:
    """`notebookDocument/didClose`."""
    for cell in params.cell_text_documents:
        did_close(ls, types.DidCloseTextDocumentParams(cell))
    ls.notebooks.forget(params.notebook_document.uri)


def _restructure(ls: CodegenServer, notebook: str, change: types.NotebookDocumentCellChangeStructure) -> None:
    for item in change.did_open or []:
        did_open(ls, types.DidOpenTextDocumentParams(item))
    cells, array = ls.notebooks.cells(notebook), change.array
    if array.start > len(cells):
        logger.warning("A change of the notebook %s begins beyond its %d cells", notebook, len(cells))
    cells[array.start : array.start + array.delete_count] = [cell.document for cell in array.cells or []]
    ls.notebooks.set(notebook, cells)
    for cell in change.did_close or []:
        did_close(ls, types.DidCloseTextDocumentParams(cell))
