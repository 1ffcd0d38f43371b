"""The text of a document as the editor has it, and the conversion between its positions and code-point offsets.

The protocol counts columns in UTF-16 units unless something else was agreed, ends lines at LF, CRLF and CR only, and
takes a column beyond the end of a line for its end. pygls' own document differs in these corners (form feeds end a
line, columns beyond the last line's end lose a character), so the arithmetic is done here.

A `TextDocument` is a value: a change returns a new one, and a request in progress keeps the text that it is about.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

from attrs import evolve, frozen
from lsprotocol import types

from codegen_lsp.completion.snapshot import Selected, Snapshot, Trigger
from codegen_lsp.source.lines import line_starts

Encoding = types.PositionEncodingKind | str

_CODECS = {
    types.PositionEncodingKind.Utf8: ("utf-8", 1),
    types.PositionEncodingKind.Utf16: ("utf-16-le", 2),
    types.PositionEncodingKind.Utf32: ("utf-32-le", 4),
}
"""For each position encoding, the codec whose code units are the columns, and the bytes of one unit."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@frozen
class TextDocument:
    """A document at one version."""

    uri: str
    language: str
    version: int
    text: str
    encoding: Encoding = types.PositionEncodingKind.Utf16
    """Unit of the editor's columns."""

    @cached_property
    def line_starts(self) -> Sequence[int]:
        """Offsets of the first characters of the lines; the last line may be empty."""
        return line_starts(self.text)

    def line_span(self, line: int) -> tuple[int, int]:
        """Return the offsets of a line's start and end, without its line break. `line` must exist."""
        starts = self.line_starts
        start = starts[line]
        end = starts[line + 1] if line + 1 < len(starts) else len(self.text)
        if end > start and self.text[end - 1] == "\n":
            end -= 1
        if end > start and self.text[end - 1] == "\r" and line + 1 < len(starts):
            end -= 1
        return start, end

    def offset(self, position: types.Position) -> int:
        """Return the code-point offset of a position.

        Beyond a line's end it is that end, beyond the last line the end of the text, and inside a character the
        character's start.
        """
        return self._halves(position)[0]

    def position(self, offset: int) -> types.Position:
        """Return the position of an offset; between CR and LF it is that of the CR."""
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self.line_starts, offset) - 1
        start, end = self.line_span(line)
        return types.Position(line, units(self.text[start : min(offset, end)], self.encoding))

    def range(self, start: int, end: int) -> types.Range:
        """Return the range between two offsets."""
        return types.Range(self.position(start), self.position(end))

    def changed(self, changes: Sequence[types.TextDocumentContentChangeEvent], version: int) -> TextDocument:
        """Return the document after the changes, each of which applies to the result of the one before it."""
        document = self
        for change in changes:
            document = evolve(document, text=_text_after(document, change))
        return evolve(document, version=version)

    def snapshot(
        self,
        offset: int,
        trigger: Trigger = Trigger.AUTOMATIC,
        selected: types.SelectedCompletionInfo | None = None,
        prelude: str = "",
    ) -> Snapshot:
        """Return the document with the cursor at an offset, as completion takes it.

        `prelude` is text to read as though it stood at the document's start; offsets in the snapshot count it.
        Halves of surrogate pairs, which tokenizers reject, become U+FFFD; all offsets stay.
        """
        whole, moved = prelude + self.text, len(prelude)
        text = whole if whole.isascii() else _SURROGATE.sub("\ufffd", whole)
        entry = None
        if selected is not None:
            start, end = self.offset(selected.range.start), self.offset(selected.range.end)
            entry = Selected(moved + start, moved + end, selected.text)
        return Snapshot(self.uri, self.version, self.language, text, moved + offset, trigger, entry, moved)

    def _halves(self, position: types.Position) -> tuple[int, str, str]:
        """Return the offset of a position, and the halves of the surrogate pair that it splits (UTF-16 only)."""
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
    """Return the number of code units of a text in an encoding."""
    if text.isascii():
        return len(text)
    codec, width = _codec(encoding)
    return len(text.encode(codec, "surrogatepass")) // width


def _codec(encoding: Encoding) -> tuple[str, int]:
    return _CODECS[types.PositionEncodingKind(encoding)]


def _text_after(document: TextDocument, change: types.TextDocumentContentChangeEvent) -> str:
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


def end_of_change(document: TextDocument, change: types.TextDocumentContentChangeEvent) -> int:
    """Return the offset after the text that a change inserted, where the cursor most likely is."""
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return len(document.text)
    start = min(change.range.start, change.range.end, key=lambda at: (at.line, at.character))
    return min(document.offset(start) + len(change.text), len(document.text))
