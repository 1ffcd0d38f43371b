"""Notebooks: their cells are documents of their own, and the code of a cell continues that of the cells before it.

Editors that synchronize notebooks send the cells' text with them; each cell is an open document like any other. A
`Notebooks` object knows which cells a notebook has, in which order, so that a request in a cell can be answered as
though the cells before it, in its language, stood above it in one file.
"""

from __future__ import annotations

from lsprotocol import types

from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.open_documents import OpenDocument, OpenDocuments
from codegen_lsp.source.cell_magics import as_python, foreign_magic, in_command

SYNC = types.NotebookDocumentSyncOptions([types.NotebookDocumentFilterWithNotebook("*")])
"""Announced to editors: all cells of all notebooks."""

CELL_SCHEMES = ("vscode-notebook-cell:", "vscode-interactive-input:")
"""Beginnings of the URIs of cells that an editor opens as documents of their own."""

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

    def foreign_magic(self, document: TextDocument) -> str | None:
        """Return the magic, such as `%%bash`, that makes a Python cell something else; None for all other documents."""
        return foreign_magic(document.text) if self._is_python_cell(document) else None

    def in_command(self, document: TextDocument, offset: int) -> bool:
        """Return true in a line of a Python cell that is a magic or a shell command."""
        return self._is_python_cell(document) and in_command(document.text, offset)

    def _is_python_cell(self, document: TextDocument) -> bool:
        is_cell = document.uri in self._notebook or document.uri.startswith(CELL_SCHEMES)
        return is_cell and document.language == "python"

    def prelude(self, document: OpenDocument, documents: OpenDocuments) -> str:
        """Return the code of the cells before a cell, in its language; empty for a document that is not a cell.

        Of Python cells, magics and shell commands are left out.
        """
        uri, language = document.current.uri, document.current.language
        notebook = self._notebook.get(uri)
        if notebook is None:
            return ""
        cells = self._cells[notebook]
        before = [documents.get(cell) for cell in cells[: cells.index(uri)]]
        texts = [
            _code(cell.current).rstrip("\r\n")
            for cell in before
            if cell is not None and not cell.lost and cell.current.language == language
        ]
        return "".join(text + SEPARATOR for text in texts if text.strip())


def _code(cell: TextDocument) -> str:
    return as_python(cell.text) if cell.language == "python" else cell.text
