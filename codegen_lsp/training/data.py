"""From token ids of whole documents to rows a model trains on.

Half of the samples are plain text. The other half teach infilling in the order that suits a completion server:

    <fim_suffix> text after the cursor <fim_prefix> text before the cursor, then the middle <|endoftext|>

The prefix runs on into the middle without a mark, and both are tokenised as one text: so while a user types, the prompt
only grows at its end, its cached beginning stays good, and the model never sees a word cut in two at the cursor. The
model learns to write until the text meets the suffix, and then to stop. What a sample has to choose is therefore only
where the middle ends: at the end of a line, of a block, before the brackets an editor closed, or inside a line.

Rows are full, and made one after another from a small state, so a run that is resumed goes on with the very row that
would have come next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codegen_lsp.training import tokenizer as code_tokenizer

Ids = NDArray[np.uint16]

INFILL_MARKS = 3
"""Special tokens an infilling sample needs: before the suffix, before the prefix, at the end."""
SHORTEST_INFILL = 64
NOT_COUNTED = -1
"""Target of a token whose loss is not counted."""

LINE_END, BLOCK_END, BEFORE_CLOSERS, IN_LINE = range(4)
ENDINGS = (0.40, 0.20, 0.15, 0.25)
"""How often a middle ends in each of these ways."""
NO_SUFFIX = 0.1
"""Share of infilling samples with nothing after the cursor: code written at the end of a file."""
CLOSERS = ")]}\"':,"


@attrs.frozen
class Encoded:
    """Documents as token ids, one after another; document i is `ids[starts[i]:starts[i + 1]]`."""

    ids: Ids
    starts: NDArray[np.int64]

    @property
    def documents(self) -> int:
        return len(self.starts) - 1


@attrs.frozen
class Vocabulary:
    """What the sampler must know of the tokenizer: tables by token id."""

    tokenizer: Tokenizer
    pieces: list[bytes]
    sizes: NDArray[np.int64]
    breaks: NDArray[np.bool_]
    indents: NDArray[np.int64]
    end: int
    suffix: int
    prefix: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        pieces = code_tokenizer.token_bytes(tokenizer)
        return cls(
            tokenizer=tokenizer,
            pieces=pieces,
            sizes=np.array([len(piece) for piece in pieces]),
            breaks=np.array([b"\n" in piece for piece in pieces]),
            indents=np.array([len(piece) - piece.rfind(b"\n") - 1 for piece in pieces]),
            end=code_tokenizer.token_id(tokenizer, code_tokenizer.END),
            suffix=code_tokenizer.token_id(tokenizer, code_tokenizer.SUFFIX),
            prefix=code_tokenizer.token_id(tokenizer, code_tokenizer.PREFIX),
        )


def encode(tokenizer: Tokenizer, texts: Iterable[str], folder: Path, name: str) -> Encoded:
    """Tokenise documents and write NAME.ids.npy and NAME.starts.npy into `folder`."""
    chunks: list[Ids] = []
    starts = [0]
    for batch in _batches(texts, 256):
        for encoding in tokenizer.encode_batch_fast(batch):
            chunks.append(np.array(encoding.ids, dtype=np.uint16))
            starts.append(starts[-1] + len(chunks[-1]))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.ids.npy", np.concatenate(chunks) if chunks else np.zeros(0, np.uint16))
    np.save(folder / f"{name}.starts.npy", np.array(starts, dtype=np.int64))
    return read(folder, name)


def read(folder: Path, name: str) -> Encoded:
    """Open what `encode` wrote; the ids stay on disk (memory-mapped)."""
    return Encoded(np.load(folder / f"{name}.ids.npy", mmap_mode="r"), np.load(folder / f"{name}.starts.npy"))


def _batches(texts: Iterable[str], size: int) -> Iterable[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@attrs.define
class Position:
    """Where the next row begins: all that has to be saved to go on later."""

    row: int = 0
    epoch: int = 0
    place: int = 0
    offset: int = 0


@attrs.define
class Rows:
    """An endless supply of rows of `length + 1` token ids.

    `infill` is the share of samples that are infilling samples. Documents come in an order shuffled anew in every
    epoch; all choices depend on `seed` and `position` alone.
    """

    encoded: Encoded
    vocabulary: Vocabulary
    length: int
    infill: float
    seed: int = 0
    position: Position = attrs.Factory(Position)
    _order: tuple[int, NDArray[np.int64]] | None = None

    def batch(self, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (rows, length); targets that are not counted are -1."""
        ids = np.stack([self.row() for _ in range(rows)])
        inputs, targets = ids[:, :-1], ids[:, 1:].copy()
        targets[(targets == self.vocabulary.suffix) | (targets == self.vocabulary.prefix)] = NOT_COUNTED
        return np.ascontiguousarray(inputs), targets

    def row(self) -> NDArray[np.int64]:
        """The next row, (length + 1,)."""
        dice = np.random.default_rng((self.seed, self.position.row))
        self.position.row += 1
        row: list[NDArray[np.int64]] = []
        room = self.length + 1
        while room > 0:
            document = self._document()
            rest = len(document) - self.position.offset
            if dice.random() < self.infill and min(room, rest) > SHORTEST_INFILL + INFILL_MARKS:
                piece, used = self._infill_sample(document[self.position.offset :], room, dice)
            else:
                used = min(room, rest)
                piece = document[self.position.offset : self.position.offset + used]
                if used == rest and used < room:
                    piece = np.append(piece, self.vocabulary.end)
            self._advance(used, len(document))
            row.append(piece[:room])
            room -= len(row[-1])
        return np.concatenate(row)

    def _infill_sample(
        self, rest: NDArray[np.int64], room: int, dice: np.random.Generator
    ) -> tuple[NDArray[np.int64], int]:
        longest = min(room - INFILL_MARKS - 1, len(rest))
        window = rest[: int(dice.integers(SHORTEST_INFILL, longest + 1))]
        window = window[: _last_top_level_break(window, self.vocabulary)]
        return infill(window, self.vocabulary, dice), len(window)

    def _document(self) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != self.position.epoch:
            shuffled = np.random.default_rng((self.seed, 1 << 32, self.position.epoch))
            self._order = self.position.epoch, shuffled.permutation(self.encoded.documents)
        number = int(self._order[1][self.position.place])
        start, stop = self.encoded.starts[number : number + 2]
        return self.encoded.ids[start:stop].astype(np.int64)

    def _advance(self, used: int, size: int) -> None:
        self.position.offset += used
        if self.position.offset < size:
            return
        self.position.offset = 0
        self.position.place += 1
        if self.position.place == self.encoded.documents:
            self.position.place = 0
            self.position.epoch += 1


def _last_top_level_break(window: NDArray[np.int64], vocabulary: Vocabulary) -> int:
    """Where to end a window: after its last line break without indentation, if one lies in its second half."""
    places = np.flatnonzero(vocabulary.breaks[window] & (vocabulary.indents[window] == 0))
    return int(places[-1]) + 1 if len(places) and places[-1] >= len(window) // 2 else len(window)


def infill(window: NDArray[np.int64], vocabulary: Vocabulary, dice: np.random.Generator) -> NDArray[np.int64]:
    """An infilling sample from a stretch of a document: suffix, then prefix and middle in one.

    At most one token longer than the window and its marks (a word that is cut in two is two tokens or more; the suffix
    is shortened for it).
    """
    before, after = _split(window, vocabulary, dice)
    after = after[: _suffix_length(after, vocabulary, dice)]
    limit = len(window) + 1
    if len(before) + len(after) > limit:
        after = after[: max(limit - len(before), 0)]
        before = before[-limit:]
    marks = [np.array([mark]) for mark in (vocabulary.suffix, vocabulary.prefix, vocabulary.end)]
    return np.concatenate([marks[0], after, marks[1], before, marks[2]])


def _split(
    window: NDArray[np.int64], vocabulary: Vocabulary, dice: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The text before the middle's end and the text after it."""
    every_break = np.flatnonzero(vocabulary.breaks[window])
    breaks = every_break[every_break > 0]
    breaks = breaks[~vocabulary.breaks[window[breaks - 1]]]
    if not len(breaks):
        return window, window[:0]
    ending = int(dice.choice(len(ENDINGS), p=ENDINGS))
    if ending == BLOCK_END:
        indents = vocabulary.indents[window[_last_of_runs(breaks, every_break)]]
        falls = np.flatnonzero(indents[1:] < indents[:-1]) + 1
        breaks = breaks[falls] if len(falls) else breaks
    stop = int(dice.choice(breaks))
    if ending in (LINE_END, BLOCK_END):
        return window[:stop], window[stop:]
    earlier = every_break[every_break < stop]
    start = int(earlier[-1]) + 1 if len(earlier) else 0
    line = b"".join(vocabulary.pieces[i] for i in window[start:stop]).decode("utf-8", errors="ignore")
    cut = _before_closers(line) if ending == BEFORE_CLOSERS else _inside(line, dice)
    if not 0 < cut < len(line):
        return window[:stop], window[stop:]
    left, right = (np.array(vocabulary.tokenizer.encode(part).ids) for part in (line[:cut], line[cut:]))
    return np.concatenate([window[:start], left]), np.concatenate([right, window[stop:]])


def _last_of_runs(breaks: NDArray[np.int64], every_break: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last break of each run of breaks (empty lines may take several tokens): it tells the next line's indentation.

    `breaks` are the first of each run.
    """
    ends = every_break[np.append(np.diff(every_break) > 1, True)]
    last: NDArray[np.int64] = ends[np.searchsorted(ends, breaks)]
    return last


def _before_closers(line: str) -> int:
    return len(line.rstrip(CLOSERS))


def _inside(line: str, dice: np.random.Generator) -> int:
    """A place in the line with no blank before it: nobody's completion ends in a blank."""
    places = [place for place in range(1, len(line)) if not line[place - 1].isspace()]
    return int(dice.choice(places)) if places else 0


def _suffix_length(after: NDArray[np.int64], vocabulary: Vocabulary, dice: np.random.Generator) -> int:
    """How much of the text after the cursor is told: none now and then, else up to a line's end, short or long."""
    if dice.random() < NO_SUFFIX:
        return 0
    length = int(len(after) * dice.random()) + 1
    line_ends = np.flatnonzero(vocabulary.breaks[after[length:]])
    return length + int(line_ends[0]) if len(line_ends) else len(after)
