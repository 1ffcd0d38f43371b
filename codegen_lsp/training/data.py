"""RowSampler of token ids for training, from tokenised files: plain text and infilling samples.

An infilling sample has the order in which the completion server builds its prompts:

    <fim_suffix> text after the cursor <fim_prefix> text before the cursor, then the middle <|endoftext|>

Prefix and middle are one text without a mark between them: while a user types, the prompt grows at its end only, so its
cached beginning stays valid, and the tokenisation does not depend on the position of the cursor. The model learns to
write until the text meets the suffix and to stop there.

Rows are full. They are produced one after another from a small state (`SamplerPosition`), so a resumed run continues
with the next row.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codegen_lsp.training import tokenizer as code_tokenizer

Ids = NDArray[Any]
"""Token ids: uint16, or uint32 where a vocabulary has more than 65,536 entries."""

INFILL_MARKS = 3
"""Special tokens of an infilling sample: before the suffix, before the prefix, at the end."""
SHORTEST_INFILL = 64
"""Smallest number of tokens of a file that an infilling sample is made from."""
NOT_COUNTED = -1
"""Target of a token whose loss is not counted."""

LINE_END, BLOCK_END, BEFORE_CLOSERS, IN_LINE = range(4)
ENDINGS = (0.40, 0.20, 0.15, 0.25)
"""Probabilities of the ends of a middle: line, block, before closing brackets, inside a line."""
NO_SUFFIX, SHORT_SUFFIX = 0.1, 0.6
"""Probabilities of an empty suffix and of one of 1 to `SHORT_LINES` lines; other suffixes have any length."""
SHORT_LINES = 3
CLOSERS = ")]}\"':,"


@attrs.frozen
class EncodedCorpus:
    """Files as token ids, one after another; file i is `ids[starts[i]:starts[i + 1]]`.

    `gains`, parallel to `ids`, are the n-gram gains of each token (`ngram_gains`), if they were computed.
    """

    ids: Ids
    starts: NDArray[np.int64]
    gains: NDArray[np.float16] | None = None

    @property
    def documents(self) -> int:
        """Number of files."""
        return len(self.starts) - 1


@attrs.frozen
class TokenTables:
    """Properties of the tokens, by token id, and the ids of the special tokens the sampler uses.

    `pieces` are the tokens' bytes, `sizes` their lengths; `breaks` tells which contain a line break, `indents` the
    number of bytes after the last one.
    """

    tokenizer: Tokenizer
    pieces: list[bytes]
    sizes: NDArray[np.int64]
    breaks: NDArray[np.bool_]
    indents: NDArray[np.int64]
    end: int
    suffix: int
    prefix: int

    @property
    def infills(self) -> bool:
        """True if there are marks for infilling samples."""
        return self.suffix != NOT_COUNTED

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTables:
        """Return the tables of a tokenizer made by `codegen_lsp.training.tokenizer`."""
        plain = cls.of_pieces(
            tokenizer, code_tokenizer.token_bytes(tokenizer), code_tokenizer.token_id(tokenizer, code_tokenizer.END)
        )
        return attrs.evolve(
            plain,
            suffix=code_tokenizer.token_id(tokenizer, code_tokenizer.SUFFIX),
            prefix=code_tokenizer.token_id(tokenizer, code_tokenizer.PREFIX),
        )

    @classmethod
    def of_pieces(cls, tokenizer: Tokenizer, pieces: list[bytes], end: int) -> TokenTables:
        """Return the tables of any tokenizer, by the bytes of its tokens, for samples without infilling."""
        return cls(
            tokenizer=tokenizer,
            pieces=pieces,
            sizes=np.array([len(piece) for piece in pieces]),
            breaks=np.array([b"\n" in piece for piece in pieces]),
            indents=np.array([len(piece) - piece.rfind(b"\n") - 1 for piece in pieces]),
            end=end,
            suffix=NOT_COUNTED,
            prefix=NOT_COUNTED,
        )


def encode(tokenizer: Tokenizer, texts: Iterable[str], folder: Path, name: str) -> EncodedCorpus:
    """Tokenise texts and write NAME.ids.npy and NAME.starts.npy into `folder`."""
    kind = np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32
    chunks: list[Ids] = []
    starts = [0]
    for batch in _batches(texts, 256):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            chunks.append(np.array(encoding.ids, dtype=kind))
            starts.append(starts[-1] + len(chunks[-1]))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.ids.npy", np.concatenate(chunks) if chunks else np.zeros(0, kind))
    np.save(folder / f"{name}.starts.npy", np.array(starts, dtype=np.int64))
    return read(folder, name)


def read(folder: Path, name: str) -> EncodedCorpus:
    """Open the arrays written by `encode` and, if present, NAME.gains.npy; ids and gains are memory-mapped."""
    gains = folder / f"{name}.gains.npy"
    return EncodedCorpus(
        np.load(folder / f"{name}.ids.npy", mmap_mode="r"),
        np.load(folder / f"{name}.starts.npy"),
        np.load(gains, mmap_mode="r") if gains.exists() else None,
    )


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
class SamplerPosition:
    """Place at which the next row begins: number of the row, epoch, file in the epoch's order, offset in the file."""

    row: int = 0
    epoch: int = 0
    place: int = 0
    offset: int = 0


@attrs.frozen(eq=False)
class Batch:
    """Inputs and targets, each (rows, length), int64; targets are `NOT_COUNTED` where the loss is not counted.

    `gains`, float16 of the same shape, are the n-gram gains of the targets, if the corpus has them.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    gains: NDArray[np.float16] | None


@attrs.define
class RowSampler:
    """Endless supply of rows.

    `infill` is the share of samples that are infilling samples. Files are shuffled anew in every epoch. All choices
    depend on `seed` and `position` alone.
    """

    encoded: EncodedCorpus
    tables: TokenTables
    infill: float
    seed: int = 0
    position: SamplerPosition = attrs.Factory(SamplerPosition)
    _order: tuple[int, NDArray[np.int64]] | None = None

    def batch(self, rows: int, length: int) -> Batch:
        """Return the next `rows` rows of `length` inputs each."""
        pairs = [self.row(length) for _ in range(rows)]
        ids = np.stack([pair[0] for pair in pairs])
        inputs, targets = ids[:, :-1], ids[:, 1:].copy()
        targets[(targets == self.tables.suffix) | (targets == self.tables.prefix)] = NOT_COUNTED
        gains = None if self.encoded.gains is None else np.stack([pair[1][1:] for pair in pairs])
        return Batch(np.ascontiguousarray(inputs), targets, gains)

    def row(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Return the ids of the next row and their n-gram gains (zeros without), each (length + 1,)."""
        dice = np.random.default_rng((self.seed, self.position.row))
        self.position.row += 1
        row = np.empty(length + 1, dtype=np.int64)
        gains = np.zeros(length + 1, dtype=np.float16)
        filled = 0
        while filled <= length:
            room = length + 1 - filled
            start, stop = self._document()
            begin = start + self.position.offset
            rest = stop - begin
            if dice.random() < self.infill and min(room, rest) > SHORTEST_INFILL + INFILL_MARKS:
                piece, used = self._infill_sample(self.encoded.ids[begin:stop].astype(np.int64), room, dice)
            else:
                used = min(room, rest)
                piece = self.encoded.ids[begin : begin + used].astype(np.int64)
                if self.encoded.gains is not None:
                    gains[filled : filled + used] = self.encoded.gains[begin : begin + used]
                if used == rest and used < room:
                    piece = np.append(piece, self.tables.end)
            self._advance(used, stop - start)
            taken = min(len(piece), room)
            row[filled : filled + taken] = piece[:taken]
            filled += taken
        return row, gains

    def _infill_sample(
        self, rest: NDArray[np.int64], room: int, dice: np.random.Generator
    ) -> tuple[NDArray[np.int64], int]:
        longest = min(room - INFILL_MARKS - 1, len(rest))
        window = rest[: int(dice.integers(SHORTEST_INFILL, longest + 1))]
        window = window[: _last_top_level_break(window, self.tables)]
        return infill(window, self.tables, dice), len(window)

    def _document(self) -> tuple[int, int]:
        if self._order is None or self._order[0] != self.position.epoch:
            shuffled = np.random.default_rng((self.seed, 1 << 32, self.position.epoch))
            self._order = self.position.epoch, shuffled.permutation(self.encoded.documents)
        number = int(self._order[1][self.position.place])
        return int(self.encoded.starts[number]), int(self.encoded.starts[number + 1])

    def _advance(self, used: int, size: int) -> None:
        self.position.offset += used
        if self.position.offset < size:
            return
        self.position.offset = 0
        self.position.place += 1
        if self.position.place == self.encoded.documents:
            self.position.place = 0
            self.position.epoch += 1


def _last_top_level_break(window: NDArray[np.int64], tables: TokenTables) -> int:
    """Return the length up to the last unindented line break in the window's second half, or the whole length."""
    places = np.flatnonzero(tables.breaks[window] & (tables.indents[window] == 0))
    return int(places[-1]) + 1 if len(places) and places[-1] >= len(window) // 2 else len(window)


def infill(window: NDArray[np.int64], tables: TokenTables, dice: np.random.Generator) -> NDArray[np.int64]:
    """Return an infilling sample made from a stretch of a file.

    It is at most one token longer than the window and its marks: a word cut in two becomes two tokens or more, and the
    suffix is shortened accordingly.
    """
    before, after = _split(window, tables, dice)
    after = after[: _suffix_length(after, tables, dice)]
    limit = len(window) + 1
    if len(before) + len(after) > limit:
        after = after[: max(limit - len(before), 0)]
        before = before[-limit:]
    marks = [np.array([mark]) for mark in (tables.suffix, tables.prefix, tables.end)]
    return np.concatenate([marks[0], after, marks[1], before, marks[2]])


def _split(
    window: NDArray[np.int64], tables: TokenTables, dice: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut a window at the end of the middle; return the ids before and after."""
    every_break = np.flatnonzero(tables.breaks[window])
    breaks = every_break[every_break > 0]
    breaks = breaks[~tables.breaks[window[breaks - 1]]]
    if not len(breaks):
        return window, window[:0]
    ending = int(dice.choice(len(ENDINGS), p=ENDINGS))
    if ending == BLOCK_END:
        indents = tables.indents[window[_last_of_runs(breaks, every_break)]]
        falls = np.flatnonzero(indents[1:] < indents[:-1]) + 1
        breaks = breaks[falls] if len(falls) else breaks
    stop = int(dice.choice(breaks))
    if ending in (LINE_END, BLOCK_END):
        return window[:stop], window[stop:]
    earlier = every_break[every_break < stop]
    start = int(earlier[-1]) + 1 if len(earlier) else 0
    line = b"".join(tables.pieces[i] for i in window[start:stop]).decode("utf-8", errors="ignore")
    cut = _before_closers(line) if ending == BEFORE_CLOSERS else _inside(line, dice)
    if not 0 < cut < len(line):
        return window[:stop], window[stop:]
    left, right = (np.array(tables.tokenizer.encode(part).ids) for part in (line[:cut], line[cut:]))
    return np.concatenate([window[:start], left]), np.concatenate([right, window[stop:]])


def _last_of_runs(breaks: NDArray[np.int64], every_break: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the last break of each run of breaks, which carries the next line's indentation.

    Empty lines may take several tokens. `breaks` are the first of each run.
    """
    ends = every_break[np.append(np.diff(every_break) > 1, True)]
    last: NDArray[np.int64] = ends[np.searchsorted(ends, breaks)]
    return last


def _before_closers(line: str) -> int:
    return len(line.rstrip(CLOSERS))


def _inside(line: str, dice: np.random.Generator) -> int:
    """Return a random place in the line that no blank precedes, or 0."""
    places = [place for place in range(1, len(line)) if not line[place - 1].isspace()]
    return int(dice.choice(places)) if places else 0


def _suffix_length(after: NDArray[np.int64], tables: TokenTables, dice: np.random.Generator) -> int:
    """Choose the length of the suffix in tokens; a suffix ends at a line's end."""
    choice = dice.random()
    if choice < NO_SUFFIX:
        return 0
    if choice < NO_SUFFIX + SHORT_SUFFIX:
        line_ends = np.flatnonzero(tables.breaks[after])
        line = int(dice.integers(1, SHORT_LINES + 1))
        return int(line_ends[line]) if line < len(line_ends) else len(after)
    length = int(len(after) * dice.random()) + 1
    line_ends = np.flatnonzero(tables.breaks[after[length:]])
    return length + int(line_ends[0]) if len(line_ends) else len(after)
