"""The forward pass of a decoder: the interface of its two implementations, in C and in PyTorch, and what they share.

One method runs a chunk of a prompt, a decode step, several candidates or a draft: they differ in the number of tokens,
and in the positions that each token attends to. Keys and values are written in place, to a KV cache that the caller
holds.

The prefill of a chunk can be interrupted before each layer, and continues from that layer if the same chunk is the next
one to run. So chunks can be as long as the kernels need, a cancelled request ends within the time of one layer, and
what it has computed is not lost.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.arrays import Floats, empty_floats
from codegen_lsp.inference.engines.native.weights import ModelWeights


@frozen
class InterruptedChunk:
    """A chunk of a prompt whose prefill was interrupted before one of the layers."""

    ids: list[int]
    cache: weakref.ref[Floats]
    offset: int
    layer: int
    x: Floats
    """Input of that layer, in the layout of the implementation."""

    def is_of(self, ids: list[int], cache: Floats, offset: int) -> bool:
        """Return whether it is the chunk of these ids, at this place of this cache."""
        return self.ids == ids and self.offset == offset and self.cache() is cache


class ForwardPass(ABC):
    """The forward pass of one decoder on the CPU. Not thread-safe."""

    def __init__(self, weights: ModelWeights) -> None:
        self.weights = weights
        self.layers = len(weights.layers)
        self.width = weights.width
        self.padded_vocab_size = weights.padded_vocab_size
        self._interrupted: InterruptedChunk | None = None

    def new_cache(self, capacity: int) -> Floats:
        """Return an empty KV cache for `capacity` tokens: (layers, 2 heads, capacity, head width).

        The first half of the second dimension are keys.
        """
        weights = self.weights
        return empty_floats(self.layers, 2 * weights.heads, capacity, weights.head_width)

    def forward(
        self, ids: Sequence[int], cache: Floats, offset: int, positions: Sequence[int] | None = None,
        attn_mask: Floats | None = None, check: Callable[[], None] | None = None,
    ) -> Floats:  # fmt: skip
        """Run tokens, write their keys and values to the cache from `offset` on, and return their hidden states.

        Without `positions` and `attn_mask`, the tokens follow the `offset` tokens before them. `positions` are the
        positions of the tokens in their text; `attn_mask` is added to the attention scores: (tokens,
        offset + tokens), 0 where a token attends to another and minus infinity elsewhere. `check` is called before each
        layer and may raise. The result is (tokens, width).
        """
        self._interrupted = None
        return self._forward(ids, cache, offset, positions, attn_mask, check)

    def prefill(self, ids: list[int], cache: Floats, offset: int, check: Callable[[], None]) -> Floats:
        """Run a chunk of a prompt as `forward` does, and return the hidden state of its last token, (1, width).

        `check` is called before each layer. When it raises, the chunk is interrupted there.
        """
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None and interrupted.is_of(ids, cache, offset):
            first, x = interrupted.layer, interrupted.x
        else:
            first, x = 0, self.embed(ids)
        for layer in range(first, self.layers):
            try:
                check()
            except BaseException:
                self._interrupted = InterruptedChunk(ids, weakref.ref(cache), offset, layer, x)
                raise
            x = self.run_layer(layer, x, len(ids), cache, offset)
        return self.finish(x, len(ids))

    @abstractmethod
    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the input of the first layer for a chunk, in the layout of the implementation."""

    @abstractmethod
    def run_layer(self, layer: int, x: Floats, count: int, cache: Floats, offset: int) -> Floats:
        """Run one layer over a chunk of `count` tokens and return its output; `x` may be overwritten.

        The last layer need only compute the output of the last token.
        """

    @abstractmethod
    def finish(self, x: Floats, count: int) -> Floats:
        """Return the hidden state of the last of `count` tokens, (1, width), from the output of the last layer."""

    @abstractmethod
    def logits(self, hidden: Floats) -> Floats:
        """Return the logits of the next token: (tokens, width) to (tokens, padded vocabulary size)."""

    @abstractmethod
    def _forward(
        self, ids: Sequence[int], cache: Floats, offset: int, positions: Sequence[int] | None,
        attn_mask: Floats | None, check: Callable[[], None] | None,
    ) -> Floats:  # fmt: skip
        """See `forward`."""


def rotary_angles(weights: ModelWeights, length: int) -> NDArray[np.float64]:
    """Return the angles of the rotary embedding at the first `length` positions, in radians.

    float64, (length, rotary / 2). Powers, frequencies and angles are rounded to float32, as in the training of the
    checkpoints and in CTranslate2: at position 1,000 an exact angle is up to 6e-5 away, far more than the error of all
    other arithmetic.
    """
    exponents = np.arange(0, weights.rotary, 2, dtype=np.float32) / np.float32(weights.rotary)
    powers = (weights.rotary_base ** exponents.astype(np.float64)).astype(np.float32)
    return (np.arange(length, dtype=np.float32)[:, None] * (1 / powers)).astype(np.float64)
