"""Notebooks: their cells are documents of their own, and the code of a cell continues that of the cells before it.

Editors that synchronize notebooks send the cells' text with them; each cell is an open document like any other. A
`Notebooks` object knows which cells a notebook has, in which order, so that a request in a cell can be answered as
though the cells before it, in its language, stood above it in one file.
"""

from __future__ import annotations

from lsprotocol import types

from codegen_lsp.lsp.open_documents import OpenDocument, OpenDocuments

SYNC = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook("*")])
"""Announced to editors: all cells of all notebooks."""

SEPARATOR = "\n\n"
"""Between two cells: a blank line, as between two parts of a file."""


class Notebooks:
    """The open notebooks: for each the URIs of its cells, in order."""

    def __init__(self) -> None:
        self._cells: dict[str, list[str]] = {}
        self._notebook: dict[str, str] = {}

    def set(self, notebook: str, cells: list[str]) -> None:
        """Set the cells of a notebook, in order."""
        self.forget(notebook)
        self._cells[notebook] = cells
        self._notebook |= dict.fromkeys(cells, notebook)

    def cells(self, notebook: str) -> list[str]:
        """Return the cells of a notebook, in order; an empty list if it is not open."""
        return list(self._cells.get(notebook, []))

    def forget(self, notebook: str) -> None:
        """Forget a notebook."""
        for cell in self._cells.pop(notebook, []):
            self._notebook.pop(cell, None)

    def file_of(self, uri: str) -> str:
        """Return the URI of the notebook that a cell is in; any other document is its own file."""
        return self._notebook.get(uri, uri)

    def prelude(self, document: OpenDocument, documents: OpenDocuments) -> str:
        """Return the code of the cells before a cell, in its language; empty for a document that is not a cell."""
        uri, language = document.current.uri, document.current.language
        notebook = self._notebook.get(uri)
        if notebook is None:
            return ""
        cells = self._cells[notebook]
        before = [documents.get(cell) for cell in cells[: cells.index(uri)]]
        texts = [
            cell.current.text.rstrip("\r\n")
            for cell in before
            if cell is not None and not cell.lost and cell.current.language == language
        ]
        return "".join(text + SEPARATOR for text in texts if text.strip())
