"""The open documents, exactly as the editor has them, and the way from its positions to code-point offsets and back.

The protocol counts columns in UTF-16 units unless something else was agreed, ends lines at LF, CRLF and CR only, and
takes a column beyond the end of a line for its end. pygls' own document differs in all three corners (form feeds end a
line, columns beyond the last line's end lose a character), so the arithmetic is done here.

A document is a value: a change makes a new one, so a request that is still running keeps the text that it was asked
about.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from lsprotocol import types
from pygls.uris import to_fs_path

from codegen_lsp.completion.snapshot import Selected, Snapshot, Trigger
from codegen_lsp.source.lines import line_starts
from codegen_lsp.workspace.files import FileAccess, innermost_folder

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

Encoding = types.PositionEncodingKind | str

_CODECS = {
    types.PositionEncodingKind.Utf8: ("utf-8", 1),
    types.PositionEncodingKind.Utf16: ("utf-16-le", 2),
    types.PositionEncodingKind.Utf32: ("utf-32-le", 4),
}
"""For each position encoding the codec whose code units are the columns, and the bytes of one unit."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@frozen
class Document:
    """One open document at one version."""

    uri: str
    language: str
    version: int
    text: str
    encoding: Encoding = types.PositionEncodingKind.Utf16
    """How this editor counts columns."""

    @cached_property
    def line_starts(self) -> Sequence[int]:
        """Offset of each line's first character; the last line may be empty."""
        return line_starts(self.text)

    def line_span(self, line: int) -> tuple[int, int]:
        """Offsets of a line's start and of its end, its line break left out. `line` must exist."""
        starts = self.line_starts
        start = starts[line]
        end = starts[line + 1] if line + 1 < len(starts) else len(self.text)
        if end > start and self.text[end - 1] == "\n":
            end -= 1
        if end > start and self.text[end - 1] == "\r" and line + 1 < len(starts):
            end -= 1
        return start, end

    def offset(self, position: types.Position) -> int:
        """The code-point offset of a position. Beyond a line's end is its end, beyond the last line is the end of the
        text, inside a character is the character's start."""
        return self._halves(position)[0]

    def position(self, offset: int) -> types.Position:
        """The position of an offset; between CR and LF is before both."""
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self.line_starts, offset) - 1
        start, end = self.line_span(line)
        return types.Position(line, units(self.text[start : min(offset, end)], self.encoding))

    def range(self, start: int, end: int) -> types.Range:
        """The range of two offsets."""
        return types.Range(self.position(start), self.position(end))

    def changed(self, changes: Sequence[types.TextDocumentContentChangeEvent], version: int) -> Document:
        """The document after the changes, each of which sees the text that the one before it left."""
        document = self
        for change in changes:
            document = evolve(document, text=_text_after(document, change))
        return evolve(document, version=version)

    def snapshot(
        self,
        offset: int,
        trigger: Trigger = Trigger.AUTOMATIC,
        selected: types.SelectedCompletionInfo | None = None,
        above: str = "",
    ) -> Snapshot:
        """What completion needs to know, with the cursor at an offset.

        `above` is text to read as though it stood at the document's start; offsets in the snapshot count it.
        Halves of surrogate pairs, which no tokenizer takes, become U+FFFD; all offsets stay.
        """
        whole, moved = above + self.text, len(above)
        text = whole if whole.isascii() else _SURROGATE.sub("\ufffd", whole)
        entry = None
        if selected is not None:
            start, end = self.offset(selected.range.start), self.offset(selected.range.end)
            entry = Selected(moved + start, moved + end, selected.text)
        return Snapshot(self.uri, self.version, self.language, text, moved + offset, trigger, entry)

    def _halves(self, position: types.Position) -> tuple[int, str, str]:
        """Offset of a position, and the halves of the surrogate pair that it splits (UTF-16 only), or empty strings."""
        if position.line >= len(self.line_starts):
            return len(self.text), "", ""
        start, end = self.line_span(position.line)
        line = self.text[start:end]
        if line.isascii():
            return min(start + position.character, end), "", ""
        codec, width = _codec(self.encoding)
        encoded = line.encode(codec, "surrogatepass")
        cut = min(position.character * width, len(encoded))
        if width == 1:
            while cut < len(encoded) and encoded[cut] & 0b1100_0000 == 0b1000_0000:
                cut -= 1
        before = encoded[:cut].decode(codec, "surrogatepass")
        at = start + len(before)
        if width != 2 or not before or line[len(before) - 1] == before[-1]:
            return at, "", ""
        return at - 1, before[-1], encoded[cut : cut + 2].decode(codec, "surrogatepass")


def units(text: str, encoding: Encoding) -> int:
    """The number of code units that the encoding needs for the text."""
    if text.isascii():
        return len(text)
    codec, width = _codec(encoding)
    return len(text.encode(codec, "surrogatepass")) // width


def _codec(encoding: Encoding) -> tuple[str, int]:
    return _CODECS[types.PositionEncodingKind(encoding)]


def _text_after(document: Document, change: types.TextDocumentContentChangeEvent) -> str:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return change.text
    first, last = sorted((change.range.start, change.range.end), key=lambda at: (at.line, at.character))
    start, first_half, _ = document._halves(first)
    end, _, second_half = document._halves(last)
    head, tail = document.text[:start], document.text[end + len(second_half) :]
    middle = first_half + change.text + second_half
    text = head + middle + tail
    if _SURROGATE.search(head[-1:] + middle + tail[:1]):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


class Documents:
    """The open documents by URI."""

    def __init__(self) -> None:
        self.encoding: Encoding = types.PositionEncodingKind.Utf16
        self._open: dict[str, Document] = {}
        self._lost: set[str] = set()

    def get(self, uri: str) -> Document | None:
        """The open document, or None."""
        return self._open.get(uri)

    def at(self, path: Path) -> Document | None:
        """The open document of a file, however the editor spells its URI, or None."""
        for uri, document in self._open.items():
            if uri.startswith("file:") and (place := to_fs_path(uri)) and Path(place).resolve() == path:
                return document
        return None

    def is_lost(self, uri: str) -> bool:
        """Whether an edit of the document could not be read, so that the text here is no longer the editor's."""
        return uri in self._lost

    def open(self, item: types.TextDocumentItem) -> Document:
        """Take in a document; one that is open already is replaced."""
        self._lost.discard(item.uri)
        document = Document(item.uri, item.language_id, item.version, item.text, self.encoding)
        self._open[item.uri] = document
        return document

    def change(self, params: types.DidChangeTextDocumentParams) -> Document | None:
        """Apply changes. None when the document is not open."""
        uri = params.text_document.uri
        document = self._open.get(uri)
        if document is None:
            return None
        if any(isinstance(change, types.TextDocumentContentChangeWholeDocument) for change in params.content_changes):
            self._lost.discard(uri)
        self._open[uri] = document.changed(params.content_changes, params.text_document.version)
        return self._open[uri]

    def close(self, uri: str) -> None:
        """Forget a document."""
        self._open.pop(uri, None)
        self._lost.discard(uri)

    def lose(self, uri: str) -> None:
        """Note that an edit of the document could not be read. Opening it again, or its whole text, mends that."""
        if uri in self._open:
            self._lost.add(uri)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._open.values()))


def did_open(ls: CodegenServer, params: types.DidOpenTextDocumentParams) -> None:
    """`textDocument/didOpen`."""
    document = ls.documents.open(params.text_document)
    ls.pauses.later(document.uri, len(document.text))


def did_change(ls: CodegenServer, params: types.DidChangeTextDocumentParams) -> None:
    """`textDocument/didChange`."""
    document = ls.documents.change(params)
    ls.refactorings.cancel(params.text_document.uri)
    if document is None:
        logger.warning("A change of a document that is not open is ignored: %s", params.text_document.uri)
        return
    if params.content_changes:
        last = params.content_changes[-1]
        end = end_of_change(document, last)
        ls.metronome.key()
        ls.outcomes.changed(document, last, end)
        ls.pauses.later(document.uri, end)
        ls.scanner.document_changed(document.uri)


def did_close(ls: CodegenServer, params: types.DidCloseTextDocumentParams) -> None:
    """`textDocument/didClose`. What is still being made for the document is no longer wanted."""
    uri = params.text_document.uri
    ls.documents.close(uri)
    ls.pauses.forget(uri)
    ls.looking.forget(uri)
    ls.requests.cancel(uri)
    ls.refactorings.cancel(uri)
    ls.completer.close(uri)
    ls.outcomes.closed(uri)
    ls.scanner.forget(uri)
    ls.answered.pop(uri, None)
    ls.refactored.pop(uri, None)


def end_of_change(document: Document, change: types.TextDocumentContentChangeEvent) -> int:
    """Offset just after what the change put in: where the cursor most likely is."""
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return len(document.text)
    start = min(change.range.start, change.range.end, key=lambda at: (at.line, at.character))
    return min(document.offset(start) + len(change.text), len(document.text))


def file_access(server: CodegenServer, uri: str) -> FileAccess | None:
    """Return what may be read of the workspace folder that a document is in; None when it is in none."""
    workspace = server.workspace
    folders = tuple(workspace.folders) or ((workspace.root_uri,) if workspace.root_uri else ())
    root = innermost_folder(uri, folders)
    if root is None:
        return None
    known = (other for other in server.documents if not server.documents.is_lost(other.uri))
    open_texts = {Path(path).resolve(): other.text for other in known if (path := to_fs_path(other.uri))}
    return FileAccess(root, folders, tuple(server.settings.exclude), open_texts)
