"""What an answer may consist of: no padding, no special tokens, and the bytes it is forced to begin with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np
from attrs import frozen
from numpy.typing import NDArray


class TokenIndex:
    """The bytes of every token, by id and in alphabetical order."""

    def __init__(self, token_bytes: list[bytes]) -> None:
        self.token_bytes = token_bytes

    def agreeing(self, forced: bytes) -> list[int]:
        """Ids of all tokens that agree with the forced bytes, of which there is at least one (see `agrees`)."""
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
    """Which token may follow the bytes written so far."""

    tokens: TokenIndex
    allowed: NDArray[np.bool_]
    """By id, shape (rows of the embedding,): real tokens and end tokens."""
    end_tokens: frozenset[int]
    forced: bytes = b""

    def bytes_of(self, ids: list[int]) -> bytes:
        """The bytes that the ids stand for together."""
        table = self.tokens.token_bytes
        return b"".join(table[id] for id in ids if id < len(table))

    def permits(self, id: int, written: bytes) -> bool:
        """Whether the id may come after `written`."""
        if not self.allowed[id]:
            return False
        rest = self.forced[len(written) :]
        return not rest or (id not in self.end_tokens and agrees(self.bytes_of([id]), rest))

    def mask(self, written: bytes) -> NDArray[np.bool_]:
        """`permits` for all ids at once, shape (rows of the embedding,)."""
        rest = self.forced[len(written) :]
        if not rest:
            return self.allowed
        mask = np.zeros_like(self.allowed)
        mask[self.tokens.agreeing(rest)] = True
        mask &= self.allowed
        mask[list(self.end_tokens)] = False
        return mask


def agrees(text: bytes, forced: bytes) -> bool:
    """Whether non-empty text begins with the forced bytes, or is a beginning of them."""
    return bool(text) and (text.startswith(forced) or forced.startswith(text))


def allowed_ids(rows: int, size: int, special: frozenset[int], end_tokens: frozenset[int]) -> NDArray[np.bool_]:
    """Mask of shape (rows,): the first `size` ids without the special ones, and the end tokens."""
    allowed = np.zeros(rows, dtype=bool)
    allowed[:size] = True
    allowed[[id for id in special if id < rows]] = False
    allowed[list(end_tokens)] = True
    return allowed
