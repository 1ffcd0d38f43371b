"""The open documents: for each one record with its text and all work and results that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attrs import define, field, frozen
from lsprotocol import types

from codegen_lsp.completion.snapshot import Snapshot, Trigger
from codegen_lsp.lsp.documents import Encoding, TextDocument, end_of_change
from codegen_lsp.lsp.extensions import RefactoringReport
from codegen_lsp.lsp.latest import LatestTask
from codegen_lsp.suggest.request import SuggestionResult
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.synthesis.authorship import Authorship
from codegen_lsp.workspace.uris import path_of


@frozen
class AnsweredRequest:
    """A completion request and its result, for `codegen-lsp/explain`."""

    uri: str
    version: int
    position: types.Position
    trigger: Trigger
    result: SuggestionResult
    snapshot: Snapshot
    """The document as it was requested for."""
    ended: float
    """By `time.perf_counter`."""


@frozen
class EndedRefactoring:
    """A refactoring that ended, for `codegen-lsp/explain`."""

    report: RefactoringReport
    ended: float
    """By `time.perf_counter`."""


@define(eq=False)
class OpenDocument:
    """An open document."""

    current: TextDocument
    suggestions: SuggestionService
    lost: bool = False
    """An edit could not be read, so that `current` is no longer the editor's text."""
    completion: LatestTask = field(factory=LatestTask)
    """The completion request that is being answered."""
    refactoring: LatestTask = field(factory=LatestTask)
    """The refactoring that is being done."""
    authorship: Authorship = field(factory=Authorship)
    """If it is a session of programs in several turns, the code of it that the user wrote."""
    answered: AnsweredRequest | None = None
    refactored: EndedRefactoring | None = None

    def open(self, current: TextDocument) -> None:
        """Replace the text by that of another `didOpen`."""
        self.current, self.lost = current, False
        self.suggestions.opened(current.uri, current.version, len(current.text))

    def change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Apply changes. A refactoring of the text before them is superseded."""
        changes = params.content_changes
        if any(isinstance(change, types.TextDocumentContentChangeWholeDocument) for change in changes):
            self.lost = False
        self.current = current = self.current.changed(changes, params.text_document.version)
        self.refactoring.cancel()
        if changes:
            end = end_of_change(current, changes[-1])
            self.suggestions.changed(current.uri, current.version, current.text, end, changes[-1].text)

    def close(self) -> None:
        """Cancel all work for the document and forget its results."""
        self.completion.cancel()
        self.refactoring.cancel()
        self.suggestions.closed(self.current.uri)


class OpenDocuments:
    """The open documents by URI."""

    def __init__(self, suggestions: SuggestionService) -> None:
        self.encoding: Encoding = types.PositionEncodingKind.Utf16
        self._suggestions = suggestions
        self._documents: dict[str, OpenDocument] = {}

    def get(self, uri: str) -> OpenDocument | None:
        """Return the open document, or None."""
        return self._documents.get(uri)

    def at(self, path: Path) -> OpenDocument | None:
        """Return the open document of a file, independent of the spelling of its URI, or None."""
        for uri, document in self._documents.items():
            if (spelled := path_of(uri)) and Path(spelled).resolve() == path:
                return document
        return None

    def open(self, item: types.TextDocumentItem) -> OpenDocument:
        """Add a document, or replace the text of one that is open already."""
        current = TextDocument(item.uri, item.language_id, item.version, item.text, self.encoding)
        document = self._documents.setdefault(item.uri, OpenDocument(current, self._suggestions))
        document.open(current)
        return document

    def pop(self, uri: str) -> OpenDocument | None:
        """Remove and return a document."""
        return self._documents.pop(uri, None)

    def lose(self, uri: str) -> None:
        """Note that an edit of a document could not be read. Opening it again, or its whole text, mends that."""
        if document := self._documents.get(uri):
            document.lost = True

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[OpenDocument]:
        return iter(list(self._documents.values()))
