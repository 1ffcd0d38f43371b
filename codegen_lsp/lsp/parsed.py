"""The document that refactorings were asked about last, with its syntax trees."""

from __future__ import annotations

from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.refactor.backend import Backend
from codegen_lsp.refactor.dispatch import backend_for
from codegen_lsp.refactor.edits import Original


class ParsedDocument:
    """One document at one version, and the backend that keeps its syntax trees."""

    def __init__(self) -> None:
        self._document: TextDocument | None = None
        self._original = Original("")
        self._text = ""
        self._backend: Backend | None = None

    def of(self, document: TextDocument) -> tuple[Original, str, Backend | None]:
        """Return the document, its text with LF line ends, and the backend of its language."""
        if self._document is not document:
            self._document = document
            self._original = Original(document.text)
            self._text = self._original.normal()
            self._backend = backend_for(document.language)
        return self._original, self._text, self._backend
