"""Constraints of an answer: no padding, no special tokens, and bytes that it is forced to begin with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np
from attrs import frozen
from numpy.typing import NDArray


class TokenIndex:
    """The bytes of every token, by id and in sorted order."""

    def __init__(self, token_bytes: list[bytes]) -> None:
        self.token_bytes = token_bytes

    def agreeing(self, forced: bytes) -> list[int]:
        """Return the ids of all tokens that agree (see `agrees`) with the forced bytes, which must not be empty."""
        order, texts = self._sorted
        size = len(forced)
        begin = bisect_left(texts, forced)
        end = bisect_right(texts, forced, lo=begin, key=lambda text: text[:size])
        ids = order[begin:end]
        for length in range(1, size):
            begin = bisect_left(texts, forced[:length])
            ids += order[begin : bisect_right(texts, forced[:length], lo=begin)]
        return ids

    @cached_property
    def _sorted(self) -> tuple[list[int], list[bytes]]:
        order = sorted(range(len(self.token_bytes)), key=self.token_bytes.__getitem__)
        return order, [self.token_bytes[id] for id in order]


@frozen(eq=False)
class Constraint:
    """The tokens that may follow the bytes written so far."""

    tokens: TokenIndex
    allowed: NDArray[np.bool_]
    """Mask of real tokens and end tokens: (padded vocabulary size,)."""
    end_tokens: frozenset[int]
    forced: bytes = b""

    def bytes_of(self, ids: list[int]) -> bytes:
        """Return the bytes of the ids, concatenated."""
        table = self.tokens.token_bytes
        return b"".join(table[id] for id in ids if id < len(table))

    def permits(self, id: int, written: bytes) -> bool:
        """Return whether the id may follow `written`."""
        if not self.allowed[id]:
            return False
        rest = self.forced[len(written) :]
        return not rest or (id not in self.end_tokens and agrees(self.bytes_of([id]), rest))

    def mask(self, written: bytes) -> NDArray[np.bool_]:
        """Return `permits` for all ids: (padded vocabulary size,)."""
        rest = self.forced[len(written) :]
        if not rest:
            return self.allowed
        mask = np.zeros_like(self.allowed)
        mask[self.tokens.agreeing(rest)] = True
        mask &= self.allowed
        mask[list(self.end_tokens)] = False
        return mask


def agrees(text: bytes, forced: bytes) -> bool:
    """Return whether a text is not empty and starts with the forced bytes, or is a prefix of them."""
    return bool(text) and (text.startswith(forced) or forced.startswith(text))


def allowed_ids(padded_size: int, size: int, special: frozenset[int], end_tokens: frozenset[int]) -> NDArray[np.bool_]:
    """Return the mask, (padded_size,), of the first `size` ids without the special ones, and of the end tokens."""
    allowed = np.zeros(padded_size, dtype=bool)
    allowed[:size] = True
    allowed[[id for id in special if id < padded_size]] = False
    allowed[list(end_tokens)] = True
    return allowed
