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

import torch
from attrs import frozen
from torch import Tensor

from codegen_lsp.inference.engines.native.weights import ModelWeights


@frozen
class InterruptedChunk:
    """A chunk of a prompt whose prefill was interrupted before one of the layers."""

    ids: list[int]
    cache: weakref.ref[Tensor]
    offset: int
    layer: int
    x: Tensor
    """Input of that layer, in the layout of the implementation."""

    def is_of(self, ids: list[int], cache: Tensor, offset: int) -> bool:
        """Return whether it is the chunk of these ids, at this place of this cache."""
        return self.ids == ids and self.offset == offset and self.cache() is cache


class ForwardPass(ABC):
    """The forward pass of one decoder on the CPU. Not thread-safe; call it in inference mode."""

    def __init__(self, weights: ModelWeights) -> None:
        self.weights = weights
        self.layers = len(weights.layers)
        self.width = weights.width
        self.padded_vocab_size = weights.padded_vocab_size
        self._interrupted: InterruptedChunk | None = None

    def new_cache(self, capacity: int) -> Tensor:
        """Return an empty KV cache for `capacity` tokens: float32, (layers, 2 heads, capacity, head width).

        The first half of the second dimension are keys.
        """
        weights = self.weights
        return torch.empty(self.layers, 2 * weights.heads, capacity, weights.head_width)

    def forward(
        self, ids: Sequence[int], cache: Tensor, offset: int, positions: Sequence[int] | None = None,
        attn_mask: Tensor | None = None, check: Callable[[], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Run tokens, write their keys and values to the cache from `offset` on, and return their hidden states.

        Without `positions` and `attn_mask`, the tokens follow the `offset` tokens before them. `positions` are the
        positions of the tokens in their text; `attn_mask` is added to the attention scores: float32, (tokens,
        offset + tokens), 0 where a token attends to another and minus infinity elsewhere. `check` is called before each
        layer and may raise. The result is (tokens, width).
        """
        self._interrupted = None
        return self._forward(ids, cache, offset, positions, attn_mask, check)

    def prefill(self, ids: list[int], cache: Tensor, offset: int, check: Callable[[], None]) -> Tensor:
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
    def embed(self, ids: Sequence[int]) -> Tensor:
        """Return the input of the first layer for a chunk, in the layout of the implementation."""

    @abstractmethod
    def run_layer(self, layer: int, x: Tensor, count: int, cache: Tensor, offset: int) -> Tensor:
        """Run one layer over a chunk of `count` tokens and return its output; `x` may be overwritten.

        The last layer need only compute the output of the last token.
        """

    @abstractmethod
    def finish(self, x: Tensor, count: int) -> Tensor:
        """Return the hidden state of the last of `count` tokens, (1, width), from the output of the last layer."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the next token: (tokens, width) to (tokens, padded vocabulary size)."""

    @abstractmethod
    def _forward(
        self, ids: Sequence[int], cache: Tensor, offset: int, positions: Sequence[int] | None,
        attn_mask: Tensor | None, check: Callable[[], None] | None,
    ) -> Tensor:  # fmt: skip
        """See `forward`."""


def rotary_angles(weights: ModelWeights, length: int) -> Tensor:
    """Return the angles of the rotary embedding at the first `length` positions, in radians.

    float64, (length, rotary / 2). Frequencies and angles are rounded to float32, as in the training of the checkpoints
    and in CTranslate2: at position 1,000 an exact angle is up to 6e-5 away, far more than the error of all other
    arithmetic.
    """
    frequencies = 1 / weights.rotary_base ** (torch.arange(0, weights.rotary, 2, dtype=torch.float32) / weights.rotary)
    return (torch.arange(length, dtype=torch.float32)[:, None] * frequencies).double()
