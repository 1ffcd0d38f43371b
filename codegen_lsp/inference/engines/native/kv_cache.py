"""Sequences whose keys and values are kept, so that a prompt costs only what is new in it.

A sequence is a list of token ids and a tensor with room for a few more. A prompt takes the sequence that it shares the
longest beginning with. What that sequence has beyond it is cut off and written over; but when that is a good deal, as
after a jump to another place or document, the beginning is copied to a new sequence and the old one stays. The least
recently used sequences go when the budget is exceeded. A sequence also keeps the logits after its last prompt: typing
within a word asks for the same prompt again and again, and it is then answered without running the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import define, field
from numpy.typing import NDArray
from torch import Tensor

DROPPED = 8
"""How many texts that were cut off are remembered, the latest ones."""
DROPPED_TOKENS, DROPPED_CONTEXT = 96, 8
"""What is remembered of each: its first tokens, and the last ones before it."""
STEP = 64
SPARE = 1 / 8
"""Room is made for this share of tokens more, and in steps of `STEP`, so that typing seldom moves a whole sequence."""
WORTH_KEEPING = 32
"""Tokens beyond the shared beginning that are worth a copy of it, when they are also `KEPT_SHARE` of it."""
KEPT_SHARE = 1 / 16
"""Copying a token's keys and values takes about a hundredth of the time of computing them (350M shape), so a copy pays
when what it keeps is that much of what is copied and is asked for again one time in six."""

Ids = NDArray[np.int64]


@define(eq=False)
class CachedSequence:
    """Token ids, and their keys and values: the first `len(ids)` places of `cache`'s third dimension."""

    ids: Ids
    cache: Tensor
    """(layers, 2 heads, capacity, head width)."""
    logits: Tensor | None = None
    """Of the token after the first `logits_at` ids, (rows,)."""
    logits_at: int = 0
    used: int = 0
    dropped: list[Ids] = field(factory=list)
    """Beginnings of what was cut off lately, with a little of what was before: deleted text, and answers that were not
    taken. They may well be written again."""

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return int(self.cache.shape[2])

    @property
    def bytes(self) -> int:
        """Memory of the keys and values, room included."""
        return self.cache.numel() * self.cache.element_size()

    def cut(self, length: int) -> None:
        """Forget the ids from `length` on."""
        if length >= len(self.ids):
            return
        if length + 1 < len(self.ids):
            gone = self.ids[max(0, length - DROPPED_CONTEXT) : length + DROPPED_TOKENS]
            self.dropped = [*(one for one in self.dropped if not np.array_equal(one, gone)), gone][-DROPPED:]
        self.ids = self.ids[:length]
        if self.logits_at > length:
            self.logits = None

    def append(self, ids: list[int]) -> None:
        """Take note of ids whose keys and values have been written."""
        self.ids = np.concatenate((self.ids, np.asarray(ids, dtype=np.int64)))

    def remember(self, logits: Tensor) -> None:
        """Keep what comes after all of the ids."""
        self.logits, self.logits_at = logits, len(self.ids)

    def recall(self, length: int) -> Tensor | None:
        """The logits after the first `length` ids, when they are kept."""
        return self.logits if self.logits_at == length else None


@define
class SequencePool:
    """All cached sequences of one model."""

    new_cache: Callable[[int], Tensor]
    """Gives room for keys and values of so many tokens."""
    token_bytes: int
    limit: int
    """Bytes that all sequences may take when no request runs; a running one may exceed it."""
    sequences: list[CachedSequence] = field(factory=list)
    _clock: int = 0

    @property
    def bytes(self) -> int:
        """Memory of all sequences."""
        return sum(sequence.bytes for sequence in self.sequences)

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of this many tokens can be kept."""
        return round_up(tokens) * self.token_bytes <= self.limit

    def shared(self, ids: Ids) -> int:
        """How many of the first ids some sequence has."""
        return max((common_prefix(sequence.ids, ids) for sequence in self.sequences), default=0)

    def take(self, ids: Ids, room: int) -> CachedSequence:
        """A sequence that holds the longest cached beginning of `ids`, with room for them all and `room` more.

        Its own ids are that beginning and no more. It is the most recently used one from now on.
        """
        capacity = len(ids) + room
        sequence, shared = self._best(ids)
        rest = 0 if sequence is None else len(sequence.ids) - shared
        if sequence is None or (
            rest >= max(WORTH_KEEPING, shared * KEPT_SHARE) and self._evict(round_up(capacity), keep=sequence)
        ):
            sequence = self._copy(sequence, shared, capacity)
            self.sequences.append(sequence)
        sequence.cut(shared)
        self._make_room(sequence, capacity)
        self._clock += 1
        sequence.used = self._clock
        return sequence

    def settle(self) -> None:
        """Drop the least recently used sequences until the rest is within the limit."""
        self.sequences.sort(key=lambda one: one.used)
        while self.sequences and self.bytes > self.limit:
            del self.sequences[0]

    def forget_dropped(self) -> None:
        """Forget all that was cut off from sequences."""
        for sequence in self.sequences:
            sequence.dropped = []

    def clear(self) -> None:
        """Drop everything."""
        self.sequences.clear()

    def _best(self, ids: Ids) -> tuple[CachedSequence | None, int]:
        shares = [(common_prefix(one.ids, ids), one.used, index) for index, one in enumerate(self.sequences)]
        if not shares:
            return None, 0
        shared, _, index = max(shares)
        return self.sequences[index], shared

    def _evict(self, capacity: int, keep: CachedSequence) -> bool:
        """Whether a sequence of that capacity fits beside `keep`; if so, the least recently used make room for it."""
        needed = capacity * self.token_bytes
        if keep.bytes + needed > self.limit:
            return False
        for oldest in sorted(self.sequences, key=lambda one: one.used):
            if self.bytes + needed <= self.limit:
                break
            if oldest is not keep:
                self.sequences.remove(oldest)
        return True

    def _copy(self, source: CachedSequence | None, length: int, capacity: int) -> CachedSequence:
        """A new sequence with the first `length` ids of another one."""
        cache = self.new_cache(round_up(capacity))
        if source is None:
            return CachedSequence(np.empty(0, dtype=np.int64), cache)
        cache[:, :, :length] = source.cache[:, :, :length]
        kept = source.logits_at <= length
        logits = source.logits if kept else None
        return CachedSequence(source.ids[:length], cache, logits, source.logits_at, dropped=source.dropped)

    def _make_room(self, sequence: CachedSequence, capacity: int) -> None:
        if capacity <= sequence.capacity:
            return
        larger = self.new_cache(round_up(capacity))
        length = len(sequence.ids)
        larger[:, :, :length] = sequence.cache[:, :, :length]
        sequence.cache = larger


def round_up(tokens: int) -> int:
    """Capacity to allocate for this many tokens."""
    return math.ceil(tokens * (1 + SPARE) / STEP) * STEP


def common_prefix(first: Ids, second: Ids) -> int:
    """Length of the longest common prefix."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length
