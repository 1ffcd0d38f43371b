"""KV cache: sequences whose keys and values are kept, so that only the new tokens of a prompt are computed.

A sequence is a list of token ids and an array with spare capacity. A prompt takes the sequence with which it shares the
longest prefix. The rest of that sequence is cut off and overwritten; if the rest is long, as after a jump to another
position or document, the prefix is copied to a new sequence instead. So it is where the sequence is in use by another
request. The least recently used sequences that are not in use are dropped when the budget is exceeded. A sequence also
keeps the logits after its last prompt: while a word is typed, the same prompt is requested again and again, and is then
answered without running the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.forward import Chunk

DROPPED = 8
"""Number of cut texts that are remembered, the latest ones."""
DROPPED_TOKENS, DROPPED_CONTEXT = 96, 8
"""Tokens of a cut text that are remembered: its first ones, and the last ones before it."""
STEP = 64
SPARE = 1 / 8
"""Share of the capacity that is added, in steps of `STEP` tokens, so that typing seldom moves a whole sequence."""
WORTH_KEEPING = 32
"""A shared prefix is copied when at least this many tokens, and `KEPT_SHARE` of its length, would be cut."""
KEPT_SHARE = 1 / 16
"""Copying the keys and values of a token takes about a hundredth of the time of computing them (350M shape). So a copy
pays if the tokens that it keeps, at this share of those that it copies, are requested again one time in six."""
WORTH_ADOPTING = 16
"""Tokens from which on a longer prefix is copied from another sequence while a prompt is computed."""

Ids = NDArray[np.int64]


@define(eq=False)
class CachedSequence:
    """Token ids, and their keys and values: the first `len(ids)` entries of the third dimension of `cache`."""

    ids: Ids
    cache: Floats
    """(layers, 2 kv_heads, capacity, head width)."""
    logits: Floats | None = None
    """Logits after the first `logits_at` ids, (padded vocabulary size,)."""
    logits_at: int = 0
    used: int = 0
    dropped: list[Ids] = field(factory=list)
    """Beginnings of the texts that were cut lately, with some context: deleted text, and answers that were not
    accepted. They are often written again."""
    in_use: bool = False
    """True while a request runs: then no other request may change it."""
    interrupted: Chunk | None = None
    """The chunk behind the ids that the last request had begun when it was cancelled."""

    @property
    def capacity(self) -> int:
        """Number of tokens that fit."""
        return int(self.cache.shape[2])

    @property
    def bytes(self) -> int:
        """Memory of the keys and values, spare capacity included."""
        return self.cache.nbytes

    def cut(self, length: int) -> None:
        """Cut the ids from `length` on, and remember the beginning of the cut text."""
        if length >= len(self.ids):
            return
        if length + 1 < len(self.ids):
            gone = self.ids[max(0, length - DROPPED_CONTEXT) : length + DROPPED_TOKENS]
            self.dropped = [*(one for one in self.dropped if not np.array_equal(one, gone)), gone][-DROPPED:]
        self.ids = self.ids[:length]
        if self.logits_at > length:
            self.logits = None

    def chunk(self, ids: list[int], *, logits: bool) -> Chunk:
        """Return the chunk that runs these ids behind the others: the interrupted one if it is the same.

        Keys and values are written behind the ids from now on, so an interrupted one is forgotten.
        """
        last, self.interrupted = self.interrupted, None
        same = last is not None and last.cache is self.cache and last.offset == len(self.ids) and last.ids == ids
        return last if last is not None and same else Chunk(ids, self.cache, len(self.ids), logits=logits)

    def append(self, ids: list[int]) -> None:
        """Record ids whose keys and values have been written."""
        self.ids = np.concatenate((self.ids, np.asarray(ids, dtype=np.int64)))

    def remember(self, logits: Floats) -> None:
        """Keep the logits after all ids."""
        self.logits, self.logits_at = logits, len(self.ids)

    def recall(self, length: int) -> Floats | None:
        """Return the logits after the first `length` ids, if they are kept."""
        return self.logits if self.logits_at == length else None


@define
class SequencePool:
    """All cached sequences of one model."""

    new_cache: Callable[[int], Floats]
    """Allocates the keys and values of a number of tokens."""
    token_bytes: int
    limit: int
    """Bytes that all sequences may take; a request that runs alone may exceed it, and so may one that is copied."""
    longest: int
    """Tokens of the model's context: no sequence gets spare capacity beyond it."""
    sequences: list[CachedSequence] = field(factory=list)
    _clock: int = 0

    @property
    def bytes(self) -> int:
        """Memory of all sequences."""
        return sum(sequence.bytes for sequence in self.sequences)

    def capacity(self, tokens: int) -> int:
        """Return the capacity to allocate for this number of tokens."""
        return max(tokens, min(round_up(tokens), self.longest))

    def fits(self, tokens: int) -> bool:
        """Return whether a sequence of this length can be kept."""
        return self.capacity(tokens) * self.token_bytes <= self.limit

    def shared(self, ids: Ids) -> int:
        """Return the length of the longest cached prefix of the ids."""
        return max((common_prefix(sequence.ids, ids) for sequence in self.sequences), default=0)

    def has_room(self, tokens: int) -> bool:
        """Return whether a sequence of this length may be taken beside those in use."""
        used = self._bytes_in_use
        return not used or used + self.capacity(tokens) * self.token_bytes <= self.limit

    def take(self, ids: Ids, spare: int) -> CachedSequence:
        """Return a sequence that holds the longest cached prefix of `ids`, with capacity for all of them and `spare`.

        Its ids are that prefix alone. It becomes the most recently used sequence, and is in use until it is given back.
        """
        capacity = len(ids) + spare
        sequence, shared = self._best(ids)
        rest = 0 if sequence is None else len(sequence.ids) - shared
        if sequence is None or sequence.in_use:
            self._evict(self.capacity(capacity), keep=sequence)
            sequence = self._copy(sequence, shared, capacity)
            self.sequences.append(sequence)
        elif rest >= max(WORTH_KEEPING, shared * KEPT_SHARE) and self._fit(self.capacity(capacity), keep=sequence):
            sequence = self._copy(sequence, shared, capacity)
            self.sequences.append(sequence)
        sequence.cut(shared)
        self._grow(sequence, capacity)
        self._use(sequence)
        return sequence

    def adopt(self, sequence: CachedSequence, ids: Ids) -> None:
        """Copy to a sequence in use, which holds a prefix of `ids`, what another one holds of them beyond it.

        So of requests that begin in the same way and run at the same time, each computes a part of what they share.
        """
        have = len(sequence.ids)
        other, shared = self._best(ids)
        if other is not None and shared >= have + WORTH_ADOPTING:
            sequence.interrupted = None
            sequence.cache[:, :, have:shared] = other.cache[:, :, have:shared]
            sequence.append(ids[have:shared].tolist())

    def take_empty(self, tokens: int) -> CachedSequence:
        """Return a new sequence without ids, to be dropped after use."""
        sequence = CachedSequence(np.empty(0, dtype=np.int64), self.new_cache(tokens))
        self.sequences.append(sequence)
        self._use(sequence)
        return sequence

    def give_back(self, sequence: CachedSequence) -> None:
        """End the use of a sequence, and drop what exceeds the limit."""
        sequence.in_use = False
        self.settle()

    def drop(self, sequence: CachedSequence) -> None:
        """Forget a sequence."""
        self.sequences.remove(sequence)

    def settle(self) -> None:
        """Drop the least recently used sequences until the others are within the limit, or all are in use."""
        self._evict(0, keep=None)

    def forget_dropped(self) -> None:
        """Forget the texts that were cut from the sequences."""
        for sequence in self.sequences:
            sequence.dropped = []

    def clear(self) -> None:
        """Drop all sequences."""
        self.sequences.clear()

    @property
    def _bytes_in_use(self) -> int:
        return sum(sequence.bytes for sequence in self.sequences if sequence.in_use)

    def _use(self, sequence: CachedSequence) -> None:
        self._clock += 1
        sequence.used, sequence.in_use = self._clock, True

    def _best(self, ids: Ids) -> tuple[CachedSequence | None, int]:
        """Return the sequence with the longest shared prefix, and its length; of equals, one that is not in use."""
        shares = [
            (common_prefix(one.ids, ids), not one.in_use, one.used, index) for index, one in enumerate(self.sequences)
        ]
        if not shares:
            return None, 0
        shared, _, _, index = max(shares)
        return self.sequences[index], shared

    def _fit(self, capacity: int, keep: CachedSequence) -> bool:
        """Return whether a sequence of that capacity fits beside `keep` and those in use; if so, make it fit."""
        needed = capacity * self.token_bytes
        if keep.bytes + self._bytes_in_use + needed > self.limit:
            return False
        self._evict(capacity, keep)
        return True

    def _evict(self, capacity: int, keep: CachedSequence | None) -> None:
        """Drop the least recently used sequences, but for `keep`, until another one of that capacity fits."""
        needed = capacity * self.token_bytes
        for oldest in sorted(self.sequences, key=lambda one: one.used):
            if self.bytes + needed <= self.limit:
                break
            if oldest is not keep and not oldest.in_use:
                self.drop(oldest)

    def _copy(self, source: CachedSequence | None, length: int, capacity: int) -> CachedSequence:
        """Return a new sequence with the first `length` ids of another one."""
        cache = self.new_cache(self.capacity(capacity))
        if source is None:
            return CachedSequence(np.empty(0, dtype=np.int64), cache)
        cache[:, :, :length] = source.cache[:, :, :length]
        kept = source.logits_at <= length
        logits = source.logits if kept else None
        return CachedSequence(source.ids[:length], cache, logits, source.logits_at, dropped=source.dropped)

    def _grow(self, sequence: CachedSequence, capacity: int) -> None:
        if capacity <= sequence.capacity:
            return
        length = len(sequence.ids)
        if not length:
            sequence.cache = self.new_cache(0)  # its memory is free before the new one is taken
        self._evict(self.capacity(capacity) - sequence.capacity, keep=sequence)
        larger = self.new_cache(self.capacity(capacity))
        larger[:, :, :length] = sequence.cache[:, :, :length]
        sequence.cache = larger


def round_up(tokens: int) -> int:
    """Return a number of tokens with the spare share, in whole steps."""
    return math.ceil(tokens * (1 + SPARE) / STEP) * STEP


def common_prefix(first: Ids, second: Ids) -> int:
    """Return the length of the longest common prefix."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length
