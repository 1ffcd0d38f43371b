"""Collecting the attention of a text, in little memory: in full for a suggestion, the largest weights for its prompt.

The weights of all tokens, layers and heads are gigabytes for a long prompt and a large model.
"""

from __future__ import annotations

import base64

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from codegen_lsp.inference.rpc.attribution import AttentionRecord
from codegen_lsp.inference.sampling import Logits

MAX_BYTES = 16 * 2**20
"""Size of the weights of a suggestion, beyond which its further tokens are left out, and of those of a prompt."""
MOST_KEPT = 6
"""Tokens that are named for each layer and head of a token of the prompt, fewer where they would take too much."""
BYTES_OF_KEPT = 3

Bytes = NDArray[np.uint8]


def quantised(weights: Logits) -> Bytes:
    """Return weights of 0 to 1 as bytes: see `AttentionRecord`. The least one that is not 0 is 4e-6."""
    return np.rint(np.sqrt(weights) * np.float32(255)).astype(np.uint8)


@define
class AttentionRecorder:
    """Takes the attention of a text as an engine reports it (`engines.base.OnAttention`)."""

    layers: int
    heads: int
    prompt: int
    """Tokens of the prompt, at least one."""
    suggestion: int
    kept: int = field(init=False)
    _tokens: NDArray[np.uint16] = field(init=False)
    _weights: Bytes = field(init=False)
    _rows: list[Bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        maps = self.layers * self.heads
        size = max(1, (self.prompt - 1) * maps * BYTES_OF_KEPT)
        self.kept = min(MOST_KEPT, max(1, MAX_BYTES // size))
        shape = (self.prompt - 1, self.layers, self.heads, self.kept)
        self._tokens, self._weights = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
        self._rows, used = [], 0
        for length in range(self.prompt, self.prompt + self.suggestion):
            used += maps * length
            if used > MAX_BYTES and self._rows:
                break
            self._rows.append(np.zeros((self.layers, self.heads, length), np.uint8))

    def take(self, layer: int, first: int, weights: Logits) -> None:
        """Take the attention of a part of the text in one layer: (heads, tokens, all tokens), from token `first` on."""
        read = min(weights.shape[1], max(0, self.prompt - 1 - first))
        if read:
            self._take_prompt(layer, first, weights[:, :read])
        for at in range(read, weights.shape[1]):
            row, length = first + at - (self.prompt - 1), first + at + 1
            if row < len(self._rows):
                self._rows[row][layer] = quantised(weights[:, at, :length])

    def _take_prompt(self, layer: int, first: int, weights: Logits) -> None:
        count = min(self.kept, weights.shape[2])
        best = np.argpartition(-weights, count - 1, axis=-1)[..., :count]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(weights, best, -1), axis=-1, kind="stable"), -1)
        found = quantised(np.take_along_axis(weights, best, -1))
        rows = slice(first, first + weights.shape[1])
        # A weight of 0 may be that of a later token.
        self._tokens[rows, layer, :, :count] = np.where(found, best, 0).transpose(1, 0, 2)
        self._weights[rows, layer, :, :count] = found.transpose(1, 0, 2)

    def record(self) -> AttentionRecord:
        """Return what was taken."""
        return AttentionRecord(
            self.layers,
            self.heads,
            [_text(row.tobytes()) for row in self._rows],
            self.kept,
            _text(self._tokens.astype("<u2").tobytes()),
            _text(self._weights.tobytes()),
        )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
