"""Documents: the editor's text and the server's are the same, whatever is edited and however columns count.

The model of the test is a sequence of code units (bytes, UTF-16 units or code points), which is what an editor that
counts in them has; it shares no code with the server.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lsprotocol import types

from codegen_lsp.lsp.documents import TextDocument, end_of_change
from codegen_lsp.lsp.jsonrpc import make_converter
from codegen_lsp.lsp.open_documents import OpenDocuments
from codegen_lsp.suggest.service import SuggestionService

ENCODINGS = ("utf-8", "utf-16", "utf-32")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
CONVERTER = make_converter()


def document(text: str, encoding: str = "utf-16") -> TextDocument:
    return TextDocument("file:///a.py", "python", 1, text, types.PositionEncodingKind(encoding))


def change(start: tuple[int, int], end: tuple[int, int], text: str) -> dict[str, Any]:
    points = [{"line": line, "character": character} for line, character in (start, end)]
    return {"range": {"start": points[0], "end": points[1]}, "text": text}


def arrived(*changes: dict[str, Any], uri: str = "file:///a.py", version: int = 2) -> types.DidChangeTextDocumentParams:
    """Changes as they arrive: through JSON."""
    params = {"textDocument": {"uri": uri, "version": version}, "contentChanges": list(changes)}
    return CONVERTER.structure(json.loads(json.dumps(params)), types.DidChangeTextDocumentParams)


def changed(before: TextDocument, *changes: dict[str, Any]) -> TextDocument:
    """The document after changes."""
    return before.changed(arrived(*changes).content_changes, 2)


# Tables: a position and the text before it.


@pytest.mark.parametrize(
    ("text", "line", "column", "before"),
    [
        ("ab\ncd", 0, 1, "a"),
        ("ab\ncd", 1, 0, "ab\n"),
        ("ab\ncd", 1, 2, "ab\ncd"),
        # beyond the line: its end, before the line break
        ("ab\ncd", 0, 99, "ab"),
        ("ab\r\ncd", 0, 99, "ab"),
        ("ab\rcd", 0, 99, "ab"),
        ("ab\ncd", 1, 99, "ab\ncd"),
        ("a😀", 0, 99, "a😀"),
        # beyond the text: its end
        ("ab\ncd", 7, 3, "ab\ncd"),
        ("ab\n", 1, 5, "ab\n"),
        ("", 0, 0, ""),
        ("", 3, 3, ""),
        # CR, LF and CRLF end lines, and nothing else does
        ("a\r\nb\rc\nd", 3, 1, "a\r\nb\rc\nd"),
        ("a\rb", 1, 0, "a\r"),
        ("a\x0cb\u2028c\x85d\x1ee", 0, 99, "a\x0cb\u2028c\x85d\x1ee"),
        ("a\n\rb", 2, 0, "a\n\r"),
        # 2^31-1 is what editors say for "the end"
        ("ab\ncd", 0, 2**31 - 1, "ab"),
        ("ab\ncd", 2**31 - 1, 2**31 - 1, "ab\ncd"),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_offset_of_a_position(encoding: str, text: str, line: int, column: int, before: str) -> None:
    assert document(text, encoding).offset(types.Position(line, column)) == len(before)


@pytest.mark.parametrize(
    ("encoding", "columns"),
    [
        # a, é (combining), 😀, 日, b: the offset for each column; inside a character is its start
        ("utf-8", [0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 6, 6]),
        ("utf-16", [0, 1, 2, 3, 3, 4, 5, 6, 6]),
        ("utf-32", [0, 1, 2, 3, 4, 5, 6, 6]),
    ],
)
def test_columns_count_in_the_units_agreed_on(encoding: str, columns: list[int]) -> None:
    line = "ae\u0301😀日b"
    found = [document("\r\n" + line, encoding).offset(types.Position(1, column)) - 2 for column in range(len(columns))]
    assert found == columns


def test_a_family_is_many_characters() -> None:
    family = "👩‍👩‍👧"
    assert document(family + "x").offset(types.Position(0, 8)) == 5
    assert document(family + "x").position(5) == types.Position(0, 8)


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ("abc", [change((0, 1), (0, 2), "X")], "aXc"),
        ("abc", [change((0, 3), (0, 3), "d")], "abcd"),
        ("abc", [change((0, 9), (0, 9), "d")], "abcd"),
        ("a\nb", [change((0, 1), (1, 0), "")], "ab"),
        ("a\r\nb", [change((0, 1), (1, 0), "")], "ab"),
        ("a\nb", [change((5, 0), (5, 0), "c")], "a\nbc"),
        ("", [change((0, 0), (0, 0), "x\r\ny")], "x\r\ny"),
        ("😀b", [change((0, 2), (0, 3), "c")], "😀c"),
        ("a\x0cb\nc", [change((1, 0), (1, 1), "d")], "a\x0cb\nd"),
        # each change sees what the one before it left
        ("abc", [change((0, 0), (0, 1), ""), change((0, 0), (0, 1), "")], "c"),
        # CR and LF from two changes make one line break
        ("a\rb", [change((1, 0), (1, 0), "\n"), change((1, 0), (1, 1), "X")], "a\r\nX"),
        # the whole text
        ("abc", [{"text": "new"}], "new"),
        ("abc", [{"text": "new"}, change((0, 0), (0, 0), ">")], ">new"),
        # start and end the wrong way round
        ("abc", [change((0, 2), (0, 1), "X")], "aXc"),
        # half a pair
        ("a😀b", [change((0, 2), (0, 3), "")], "a\ud83db"),
        ("a😀b", [change((0, 2), (0, 3), "\ude01")], "a😁b"),
        ("a😀b", [change((0, 1), (0, 2), "\ud83e"), change((0, 4), (0, 4), "!")], "a\U0001fa00b!"),
    ],
)
def test_changes(before: str, changes: list[dict[str, Any]], after: str) -> None:
    assert changed(document(before), *changes).text == after


def test_the_old_document_stays_as_it_was() -> None:
    before = document("abc")
    changed(before, change((0, 0), (0, 3), ""))
    assert before.text == "abc"


def test_a_snapshot_has_no_half_pairs_and_all_offsets() -> None:
    snapshot = document("a\ud83db").snapshot(2)
    assert snapshot.text == "a\ufffdb"
    assert snapshot.text[snapshot.offset :] == "b"


@pytest.mark.parametrize(
    ("before", "edit", "cursor"),
    [
        ("ab\ncd", change((1, 1), (1, 1), "xyz"), "ab\ncxyz│d"),
        ("ab\ncd", change((0, 0), (1, 1), ""), "│d"),
        ("ab", {"text": "new"}, "new│"),
        ("a😀b", change((0, 3), (0, 3), "\n  "), "a😀\n  │b"),
    ],
)
def test_the_cursor_is_after_the_inserted_text(before: str, edit: dict[str, Any], cursor: str) -> None:
    after = changed(document(before), edit)
    at = end_of_change(after, arrived(edit).content_changes[0])
    assert after.text[:at] + "│" + after.text[at:] == cursor


# Properties.

PIECES = st.sampled_from(
    [
        "a",
        "b ",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\x0c",
        "\u2028",
        "\x85",
        "é",
        "e\u0301",
        "日本",
        "😀",
        "👩‍👩‍👧",
        "\U0010ffff",
        "x" * 30,
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS, st.sampled_from(ENCODINGS))
def test_every_offset_has_a_position_that_leads_back(text: str, encoding: str) -> None:
    shown = document(text, encoding)
    for offset in range(len(text) + 1):
        back = shown.offset(shown.position(offset))
        inside_break = text[offset - 1 : offset + 1] == "\r\n"
        assert back == (offset - 1 if inside_break else offset)


@given(TEXTS)
def test_lines_are_those_of_the_protocol(text: str) -> None:
    lines = re.split("\r\n|\r|\n", text)
    spans = [document(text).line_span(number) for number in range(len(lines))]
    assert [text[start:end] for start, end in spans] == lines
    assert len(document(text).line_starts) == len(lines)


@settings(max_examples=150, stateful_step_count=40, deadline=None)
class Synchronisation(RuleBasedStateMachine):
    """An editor and the server edit the same documents."""

    def __init__(self) -> None:
        super().__init__()
        self.documents = OpenDocuments(SuggestionService())
        self.texts: dict[str, list[bytes]] = {}
        """The editor's side: for each document its code units."""
        self.versions: dict[str, int] = {}

    @initialize(encoding=st.sampled_from(ENCODINGS))
    def agree(self, encoding: str) -> None:
        self.codec, self.width = CODECS[encoding]
        self.documents.encoding = types.PositionEncodingKind(encoding)

    @rule(name=st.sampled_from("abc"), text=TEXTS)
    def open(self, name: str, text: str) -> None:
        self.texts[name] = self.units(text)
        self.versions[name] = 1
        self.documents.open(types.TextDocumentItem(name, "python", 1, text))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.texts)))
        del self.texts[name]
        document = self.documents.pop(name)
        assert document is not None
        document.close()

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), count=st.integers(1, 3))
    def edit(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.texts)))
        changes = [self.one_change(data, name) for _ in range(count)]
        self.versions[name] += 1
        document = self.documents.get(name)
        assert document is not None
        document.change(arrived(*changes, uri=name, version=self.versions[name]))

    def one_change(self, data: st.DataObject, name: str) -> dict[str, Any]:
        text = data.draw(TEXTS)
        if data.draw(st.integers(0, 9)) == 0:
            self.texts[name] = self.units(text)
            return {"text": text}
        lines = self.lines(name)
        points = []
        for _ in range(2):
            line = data.draw(st.integers(0, len(lines) + 1))
            length = lines[line][1] - lines[line][0] if line < len(lines) else 0
            points.append((line, data.draw(st.integers(0, length + 2))))
        points.sort()
        start, end = (self.index(lines, *point) for point in points)
        units = self.texts[name]
        if self.width == 1:
            start, end = (self.character_start(units, at) for at in (start, end))
        units[start:end] = self.units(text)
        self.texts[name] = units
        return change(points[0], points[1], text)

    def units(self, text: str) -> list[bytes]:
        encoded = text.encode(self.codec, "surrogatepass")
        return [encoded[at : at + self.width] for at in range(0, len(encoded), self.width)]

    def lines(self, name: str) -> list[tuple[int, int]]:
        """Start and end of each line, in units."""
        lf, cr = self.units("\n")[0], self.units("\r")[0]
        units, lines, start, at = self.texts[name], [], 0, 0
        while at < len(units):
            if units[at] in (lf, cr):
                lines.append((start, at))
                at += 2 if units[at] == cr and units[at + 1 : at + 2] == [lf] else 1
                start = at
            else:
                at += 1
        return [*lines, (start, len(units))]

    def index(self, lines: list[tuple[int, int]], line: int, character: int) -> int:
        if line >= len(lines):
            return lines[-1][1]
        return min(lines[line][0] + character, lines[line][1])

    @staticmethod
    def character_start(units: list[bytes], at: int) -> int:
        while at < len(units) and units[at][0] & 0xC0 == 0x80:
            at -= 1
        return at

    @invariant()
    def the_texts_are_equal(self) -> None:
        ours = {shown.current.uri: shown.current.text for shown in self.documents}
        theirs = {name: b"".join(units).decode(self.codec, "surrogatepass") for name, units in self.texts.items()}
        assert ours == theirs
        assert {shown.current.uri: shown.current.version for shown in self.documents} == {
            name: self.versions[name] for name in theirs
        }


TestSynchronisation = Synchronisation.TestCase
