"""Cursor places of the line evaluation: at line starts, within lines, within words.

Only places in code count. Comments and texts can't be predicted, and lines of brackets alone need no model; both would
blur the figures. So a place has part of a word after it on its line, and in Python it lies neither in a string of
several lines nor on a line with a comment.
"""

from __future__ import annotations

import io
import random
import re
import tokenize
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from attrs import frozen

from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument, in_turn

Kind = Literal["line start", "mid-line", "mid-word"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""`line start`: after the indentation, where an editor leaves the cursor after Enter. `mid-line`: between two words or
symbols of a line. `mid-word`: after the first characters of an identifier or keyword."""

WORD = re.compile(r"[^\W\d]\w{2,}")
"""Identifiers and keywords of three characters or more; shorter ones leave nothing to complete."""
LEAST_LINES_ABOVE = 3
"""Minimum lines of code above a place, for the model to go by."""

ROUNDS = 200
"""Maximum number of passes over the documents."""


@frozen
class CursorPlace:
    """A cursor in a document; the rest of its line is to be completed."""

    kind: Kind
    document: SourceDocument
    offset: int
    """Offset of the cursor, in code points."""

    @property
    def line_end(self) -> int:
        """The offset of the end of the line."""
        end = self.document.text.find("\n", self.offset)
        return len(self.document.text) if end < 0 else end

    @property
    def before(self) -> str:
        """The text up to the cursor."""
        return self.document.text[: self.offset]

    @property
    def rest(self) -> str:
        """The rest of the line, without trailing blanks."""
        return self.document.text[self.offset : self.line_end].rstrip()

    @property
    def below(self) -> str:
        """The text after the line, from its line break on."""
        return self.document.text[self.line_end :]

    @property
    def line_number(self) -> int:
        """The number of the line, from 1."""
        return self.before.count("\n") + 1


def draw(documents: Iterable[SourceDocument], cases: int, seed: int) -> list[CursorPlace]:
    """Draw `cases` places of each kind, from as many files as possible, packages in turn; the same for a seed.

    The kinds alternate, so that any beginning of the list is balanced. There are fewer when the documents have no more.

    Raises: EvaluationError when they have none.
    """
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    order = list(in_turn(documents, dice))
    drawn: dict[Kind, list[CursorPlace]] = {kind: [] for kind in KINDS}
    taken: set[tuple[int, int]] = set()
    lines: dict[int, list[tuple[int, int]]] = {}
    for _ in range(ROUNDS):
        for number, document in enumerate(order):
            if all(len(places) == cases for places in drawn.values()):
                break
            if number not in lines:
                lines[number] = code_lines(document)
            for kind in KINDS:
                place = _one(document, lines[number], kind, dice)
                if place is None or len(drawn[kind]) == cases or (number, place.offset) in taken:
                    continue
                taken.add((number, place.offset))
                drawn[kind].append(place)
    places = [drawn[kind][n] for n in range(cases) for kind in KINDS if n < len(drawn[kind])]
    if not places:
        raise EvaluationError("There is no code to complete in these files.", "Give files or folders of source code.")
    return places


def _one(document: SourceDocument, lines: list[tuple[int, int]], kind: Kind, dice: random.Random) -> CursorPlace | None:
    if not lines:
        return None
    start, end = dice.choice(lines)
    offsets = list(_OFFSETS[kind](document.text, start, end))
    return CursorPlace(kind, document, dice.choice(offsets)) if offsets else None


def code_lines(document: SourceDocument) -> list[tuple[int, int]]:
    """Return the start and end offsets of the lines on which places may lie."""
    text = document.text
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    excluded = _not_code(text) if document.language == "python" else frozenset()
    found = []
    for number, (start, after) in enumerate(zip(starts, [*starts[1:], len(text) + 1], strict=True), start=1):
        line = text[start : after - 1]
        if number not in excluded and any(map(str.isalnum, line)):
            found.append((start, start + len(line.rstrip())))
    return found[LEAST_LINES_ABOVE:]


def _not_code(text: str) -> frozenset[int]:
    """Return the numbers of lines with a comment or part of a string of several lines; all if tokenizing fails."""
    excluded: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            first, last = token.start[0], token.end[0]
            if token.type == tokenize.COMMENT or (last > first and token.type in _STRINGS):
                excluded.update(range(first, last + 1))
    except (tokenize.TokenError, SyntaxError):
        return frozenset(range(text.count("\n") + 2))
    return frozenset(excluded | _docstring_lines(text))


_STRINGS = frozenset({tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)})


def _docstring_lines(text: str) -> set[int]:
    """Return the numbers of lines that consist of one string."""
    return {n for n, line in enumerate(text.split("\n"), start=1) if _ONE_STRING.fullmatch(line.strip())}


_ONE_STRING = re.compile(r"[rRbBuU]{0,2}(\"\"\".*\"\"\"|'''.*'''|\"[^\"]*\"|'[^']*')")


def offsets(kind: Kind, text: str, start: int, end: int) -> Iterator[int]:
    """Yield the offsets of a kind of place in the line of a text from `start` to `end`."""
    yield from _OFFSETS[kind](text, start, end)


def _line_start(text: str, start: int, end: int) -> Iterator[int]:
    yield start + len(text[start:end]) - len(text[start:end].lstrip())


def _mid_line(text: str, start: int, end: int) -> Iterator[int]:
    for offset in range(next(_line_start(text, start, end)) + 1, end):
        within_word = _in_word(text[offset - 1]) and _in_word(text[offset])
        if not within_word and any(map(_in_word, text[offset:end])):
            yield offset


def _mid_word(text: str, start: int, end: int) -> Iterator[int]:
    for word in WORD.finditer(text, start, end):
        yield from range(word.start() + 1, word.end())


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


_OFFSETS = {"line start": _line_start, "mid-line": _mid_line, "mid-word": _mid_word}
