"""What an answer may consist of: no padding, no special tokens, and the bytes it is forced to begin with."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray


@frozen(eq=False)
class Constraint:
    """Which token may follow the bytes written so far."""

    token_bytes: list[bytes]
    """By id."""
    allowed: NDArray[np.bool_]
    """By id, shape (rows of the embedding,): real tokens and end tokens."""
    end_tokens: frozenset[int]
    forced: bytes = b""

    def bytes_of(self, ids: list[int]) -> bytes:
        """The bytes that the ids stand for together."""
        return b"".join(self.token_bytes[id] for id in ids if id < len(self.token_bytes))

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
        mask[[id for id, text in enumerate(self.token_bytes) if agrees(text, rest)]] = True
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
