"""A dialogue: what was asked and what was written, turn by turn, as a plain Python file.

A turn begins with a block of comments at the start of a line, at the top of the file or below an empty line; what
follows, up to the next such block, is its code. Two kinds of comments are no text of the person: `#>` lines below the
code tell what the turn did when it was last run, and `#: edited` that the person wrote or changed the code. Without
them, the file is the prompt that the model is given.

    # Import libraries.
    import numpy as np

    # Sum the squares of x. `x = [1, 2]` → `5`
    np.square(x).sum()
    #> 5
"""

from __future__ import annotations

import io
import itertools
import tokenize
from collections.abc import Iterator

from attrs import evolve, frozen

from codegen_lsp.synthesis.turn_format import as_comment

OUTPUT = "#> "
NOTE = "#: "
EDITED = NOTE + "edited"
NOTES = ("#>", "#:")
"""Beginnings of the lines that are no text of the person."""
OUTPUT_LINES, OUTPUT_WIDTH = 20, 200
"""Limits of the output that is kept in the file."""


@frozen
class DialogueTurn:
    """What was asked, and the code that was written for it."""

    request: str
    """Text of the person, without comment signs; may have several lines."""
    code: str = ""
    """Without line breaks at its end."""
    output: str = ""
    """What it did when it was last run."""
    edited: bool = False
    """True if the person wrote or changed the code."""

    @property
    def prompt(self) -> str:
        """The turn as the model sees it."""
        return f"{as_comment(self.request)}{self.code}\n\n"


@frozen
class Dialogue:
    """A program in turns."""

    head: str = ""
    """Text above the first turn, as it is in the file."""
    turns: tuple[DialogueTurn, ...] = ()

    @property
    def prompt(self) -> str:
        """All turns as the model sees them."""
        head = f"{self.head.rstrip()}\n\n" if self.head.strip() else ""
        return head + "".join(turn.prompt for turn in self.turns)

    @property
    def program(self) -> str:
        """The program alone, to be run: the code of all turns with what was asked."""
        return self.prompt.rstrip("\n") + "\n"

    def until(self, number: int) -> Dialogue:
        """Return the dialogue with the first `number` turns."""
        return evolve(self, turns=self.turns[:number])

    def with_turn(self, number: int, turn: DialogueTurn) -> Dialogue:
        """Return the dialogue with another turn at an index, or with one more at its end."""
        return evolve(self, turns=(*self.turns[:number], turn, *self.turns[number + 1 :]))

    def with_inserted(self, number: int, turn: DialogueTurn) -> Dialogue:
        """Return the dialogue with a turn before the one at an index."""
        return evolve(self, turns=(*self.turns[:number], turn, *self.turns[number:]))

    def without(self, number: int) -> Dialogue:
        """Return the dialogue without the turn at an index."""
        return evolve(self, turns=(*self.turns[:number], *self.turns[number + 1 :]))


def render(dialogue: Dialogue) -> str:
    """Return the text of the file."""
    head = f"{dialogue.head.rstrip()}\n\n" if dialogue.head.strip() else ""
    return head + "\n".join(_turn_text(turn) for turn in dialogue.turns)


def parse(text: str) -> Dialogue:
    """Return the dialogue in the text of a file. Every text is one: without comments it has a head only."""
    lines = _lines(text)
    spans = line_spans(text)
    head = lines[: spans[0][0]] if spans else lines
    return Dialogue("\n".join(head), tuple(_parse_turn(lines[start:end]) for start, end in spans))


def revised(text: str, dialogue: Dialogue) -> str:
    """Return the text of a file after it became another dialogue, with LF line ends.

    The lines of the turns that stay, with the empty ones below them, are kept as they are: the file may have been
    written by hand. `render` would put one empty line between any two turns.
    """
    lines, spans, old = _lines(text), line_spans(text), parse(text)
    if dialogue == old:
        return "\n".join(lines)
    blocks = [_Block("\n".join(lines[start:end])) for start, end in spans]
    before, after = _kept(old.turns, dialogue.turns)
    found: list[_Block] = []
    if dialogue.head == old.head:
        found += [_Block("\n".join(lines[: spans[0][0]] if spans else lines))]
    else:
        found += [_Block(dialogue.head)]
    first_after = len(dialogue.turns) - after
    for number, turn in enumerate(dialogue.turns):
        at = number if number < before else number - first_after + len(blocks) - after
        if before <= number < first_after:
            replaces = len(blocks) == len(dialogue.turns)
            found.append(_Block(_turn_text(turn).rstrip("\n") + blocks[number].blank if replaces else _turn_text(turn)))
        elif old.turns[at] == turn:
            found.append(blocks[at])
        else:
            found.append(blocks[at].with_notes(_notes(turn)))
    found = [block for block in found if block.content]
    if not found:
        return ""
    last = found[-1].text if blocks and found[-1] is blocks[-1] else found[-1].content + "\n"
    return "".join(block.above_others for block in found[:-1]) + last


@frozen
class _Block:
    """Lines of a file: a turn or the head, with the empty lines below."""

    text: str

    @property
    def content(self) -> str:
        """The text without the empty lines."""
        lines = self.text.split("\n")
        while lines and not lines[-1].strip():
            lines.pop()
        return "\n".join(lines)

    @property
    def blank(self) -> str:
        """The empty lines, each with the line break before it."""
        return self.text[len(self.content) :]

    @property
    def above_others(self) -> str:
        """The text as it stands above another turn, which begins below an empty line or a note."""
        apart = self.text != self.content or self.text.rpartition("\n")[2].startswith(NOTES)
        return self.text + ("\n" if apart else "\n\n")

    def with_notes(self, notes: list[str]) -> _Block:
        """Return a turn with other notes: what it did, and that the person wrote it."""
        body = self.content.split("\n")
        while body and (not body[-1].strip() or body[-1].startswith(NOTES)):
            body.pop()
        return _Block("\n".join([*body, *notes]) + self.blank)


def _kept(old: tuple[DialogueTurn, ...], new: tuple[DialogueTurn, ...]) -> tuple[int, int]:
    """Return the number of turns at the beginning and at the end whose request and code stay."""
    same = [(one.request, one.code) == (two.request, two.code) for one, two in zip(old, new, strict=False)]
    before = same.index(False) if False in same else len(same)
    pairs = zip(reversed(old[before:]), reversed(new[before:]), strict=False)
    same = [(one.request, one.code) == (two.request, two.code) for one, two in pairs]
    return before, same.index(False) if False in same else len(same)


def line_spans(text: str) -> list[tuple[int, int]]:
    """Return the first line of each turn and the one after its last, from 0."""
    lines = _lines(text)
    inside = set(_lines_inside_strings("\n".join(lines)))
    starts = [
        number
        for number, line in enumerate(lines)
        if line.startswith("#")
        and not line.startswith((*NOTES, "#!"))
        and number not in inside
        and (number == 0 or not lines[number - 1].strip() or lines[number - 1].startswith((*NOTES, "#!")))
    ]
    return list(itertools.pairwise([*starts, len(lines)]))


def shortened(output: str) -> str:
    """Return output as it is kept in the file: few lines, none of them long, control characters escaped.

    A carriage return would end the comment, and a zero byte make the file none of Python.
    """
    text = output.replace("\r\n", "\n").rstrip()
    lines = [_escaped(line) for line in text.split("\n")] if text.strip() else []
    kept = [line[:OUTPUT_WIDTH] + ("…" if len(line) > OUTPUT_WIDTH else "") for line in lines[:OUTPUT_LINES]]
    return "\n".join([*kept, *([f"… {len(lines) - OUTPUT_LINES} more lines"] if len(lines) > OUTPUT_LINES else [])])


def _escaped(line: str) -> str:
    return "".join(sign if sign == "\t" or sign.isprintable() else repr(sign)[1:-1] for sign in line)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _turn_text(turn: DialogueTurn) -> str:
    # An empty line inside the code ends no turn, unless a comment at the start of a line follows.
    code = [turn.code] if turn.code else []
    return "\n".join([as_comment(turn.request).rstrip("\n"), *code, *_notes(turn)]) + "\n"


def _notes(turn: DialogueTurn) -> list[str]:
    """Return the lines below a turn's code: what it did, and that the person wrote it."""
    output = [f"{OUTPUT}{line}".rstrip() for line in turn.output.split("\n")] if turn.output else []
    return [*output, *([EDITED] if turn.edited else [])]


def _parse_turn(lines: list[str]) -> DialogueTurn:
    asked = 0
    while asked < len(lines) and _is_request(lines[asked]):
        asked += 1
    below = lines[asked:]
    while below and not below[-1].strip():
        below.pop()
    edited = bool(below) and below[-1].rstrip() == EDITED
    if edited:
        below.pop()
    end = len(below)
    while end and below[end - 1].startswith(OUTPUT.rstrip()):
        end -= 1
    request = "\n".join(line.removeprefix("# ").removeprefix("#").rstrip() for line in lines[:asked])
    output = "\n".join(line.removeprefix(OUTPUT).removeprefix(OUTPUT.rstrip()) for line in below[end:])
    return DialogueTurn(request, "\n".join(below[:end]).strip("\n"), output, edited)


def _is_request(line: str) -> bool:
    return line.startswith("#") and not line.startswith(NOTES)


def _lines_inside_strings(text: str) -> Iterator[int]:
    """Yield the lines, from 0, that begin inside a string of several lines, up to where the text can't be read."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            yield from range(token.start[0], token.end[0])
    except (tokenize.TokenError, SyntaxError):
        return
