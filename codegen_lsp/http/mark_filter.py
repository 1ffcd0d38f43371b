"""Marks of other models kept out of answers: a text ends before the first one, also if it comes in parts.

Every answer ends before marks that nothing but a prompt has. The answer to a prompt in some format ends before all
marks of that format, too, and before those of its models for the end of a text. A document that has marks as text is no
exception: clients cut the answer there as well, and nobody sees a mark that the model took over from a prompt.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from functools import cache

from attrs import evolve

from codegen_lsp.http.infill_marks import FORMATS, InfillFormat
from codegen_lsp.http.requests import Completed, CompletedText, Piece, TokenPiece

OTHER_MARKS = (
    *("<fim_pad>", "<|fim_pad|>", "<fim-pad>", "<file_sep>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>"),
    *("<gh_stars>", "<|im_start|>", "<|im_end|>", "<|cursor|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    *("<[begin▁of▁sentence]>", "<[end▁of▁sentence]>", "<mask_1>"),
)
"""Marks of the models of `FORMATS`, beside those for infilling, that are not used as text."""
MARKS_OF_ENDS = ("<|endoftext|>", "<EOT>", "<eos>", "</s>", "<filename>", "<reponame>", "<repo_name>", "<sep>")
"""Further ones, which other texts use as well."""
ALWAYS = tuple(dict.fromkeys((*(mark for one in FORMATS if not one.ordinary for mark in one.marks), *OTHER_MARKS)))


def end_marks(form: InfillFormat) -> tuple[str, ...]:
    """Return the marks that end the answer to a prompt in a format, beside `ALWAYS`."""
    return tuple(mark for mark in (*form.marks, *MARKS_OF_ENDS) if mark not in ALWAYS)


class MarkFilter:
    """Passes on a text that comes in parts, up to the first mark. What may be the beginning of one is held back."""

    def __init__(self, marks: tuple[str, ...] = ()) -> None:
        """`marks` are looked for beside `ALWAYS`."""
        self._pattern, self._beginnings, self._longest = _compiled(marks)
        self._held = ""
        self.found = ""
        """The mark that ended the text; empty until then."""

    def feed(self, part: str) -> str:
        """Take the next part; return what can be passed on."""
        if self.found:
            return ""
        text = self._held + part
        if (mark := self._pattern.search(text)) is not None:
            self.found, self._held = mark[0], ""
            return text[: mark.start()]
        begun = next((n for n in range(min(self._longest, len(text)), 0, -1) if text[-n:] in self._beginnings), 0)
        self._held = text[len(text) - begun :]
        return text[: len(text) - begun]

    def finish(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def without_marks(completed: Completed, marks: tuple[str, ...]) -> Completed:
    """Return the answers, each ended before its first mark."""
    pattern, _, _ = _compiled(marks)
    texts = tuple(_cut(text, pattern) for text in completed.texts)
    return completed if texts == completed.texts else evolve(completed, texts=texts)


async def pieces_without_marks(pieces: AsyncIterator[Piece], marks: tuple[str, ...]) -> AsyncIterator[Piece]:
    """Yield the pieces of answers, each answer ended before its first mark.

    Tokens come with the piece in which their text can be passed on.
    """
    filters: dict[int, MarkFilter] = {}
    waiting: dict[int, tuple[TokenPiece, ...]] = {}
    pattern, _, _ = _compiled(marks)
    async for piece in pieces:
        passing = filters.setdefault(piece.candidate, MarkFilter(marks))
        tokens = () if passing.found else waiting.pop(piece.candidate, ()) + piece.tokens
        text = passing.feed(piece.text)
        if piece.finished is not None:
            text += passing.finish()
        if passing.found:
            tokens = _covering(tokens, len(text))
        elif not text and piece.finished is None:
            waiting[piece.candidate], tokens = tokens, ()
        yield evolve(
            piece,
            text=text,
            tokens=tokens,
            finished=None if piece.finished is None else _cut(piece.finished, pattern),
            completed=None if piece.completed is None else without_marks(piece.completed, marks),
        )


def _cut(text: CompletedText, pattern: re.Pattern[str]) -> CompletedText:
    if (mark := pattern.search(text.text)) is None:
        return text
    return evolve(text, text=text.text[: mark.start()], finish="stop", pieces=_covering(text.pieces, mark.start()))


def _covering(tokens: Iterable[TokenPiece], length: int) -> tuple[TokenPiece, ...]:
    """Return the tokens that begin within the first `length` characters of their text."""
    kept, at = [], 0
    for token in tokens:
        if at >= length:
            break
        kept.append(token)
        at += len(token.text)
    return tuple(kept)


@cache
def _compiled(marks: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str], int]:
    """Return a pattern for the marks, their proper beginnings, and the length of the longest beginning."""
    marks = (*ALWAYS, *marks)
    beginnings = frozenset(mark[:length] for mark in marks for length in range(1, len(mark)))
    return re.compile("|".join(map(re.escape, marks))), beginnings, max(map(len, beginnings))
