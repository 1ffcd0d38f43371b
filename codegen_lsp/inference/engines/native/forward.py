"""The forward pass of a decoder: the interface of its two implementations, in C and in PyTorch, and what they share.

`Rows` are decode steps, several candidates or a draft: they differ in the number of tokens, and in the positions that
each token attends to. Those of several sequences can be run in one pass. A `Chunk` of a prompt is run layer by layer,
and other work can be done between two layers. So chunks can be as long as the kernels need, and a cancelled request
ends within the time of one layer; what it has computed is not lost if the same chunk is the next one to run.

Keys and values are written in place, to a KV cache that the caller holds.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from attrs import define
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.arrays import Floats, empty_floats
from codegen_lsp.inference.engines.native.weights import ModelWeights


@define(eq=False)
class Rows:
    """Tokens of one sequence that are run in one pass. The result are the logits after each of them."""

    ids: Sequence[int]
    cache: Floats
    offset: int
    """Place in the cache of the first one."""
    positions: Sequence[int] | None = None
    """Positions of the tokens in their text; None where they follow the `offset` tokens before them."""
    attn_mask: Floats | None = None
    """Added to the attention scores: (tokens, offset + tokens), 0 where a token attends to another and minus infinity
    elsewhere. None where a token attends to all before it."""
    seconds: float = 0.0
    """Time that it took; 0 if it was run together with others."""


@define(eq=False)
class Chunk:
    """Tokens of a prompt, behind the `offset` tokens of the cache, that are run layer by layer.

    The result are the logits after the last token, or after every one; None where they are not wanted.
    """

    ids: list[int]
    cache: Floats
    offset: int
    every: bool = False
    """Whether the output of every token is wanted, not only of the last one."""
    logits: bool = True
    layer: int = 0
    """The next layer to run."""
    x: Floats | None = None
    """Input of that layer, in the layout of the implementation; None before the first one."""
    seconds: float = 0.0
    """Time of the layers that were run."""
    on_layer: Callable[[int, Floats], None] | None = None
    """Called after each layer with its number and its input, (tokens, width), when its keys are in the cache."""


class ForwardPass(ABC):
    """The forward pass of one decoder on the CPU. Not thread-safe."""

    rows_at_once: int = 1
    """Rows that are run in one pass; more take more."""

    def __init__(self, weights: ModelWeights) -> None:
        self.weights = weights
        self.layers = len(weights.layers)
        self.width = weights.width
        self.padded_vocab_size = weights.padded_vocab_size

    def new_cache(self, capacity: int) -> Floats:
        """Return an empty KV cache for `capacity` tokens: (layers, 2 kv_heads, capacity, head width).

        The first half of the second dimension are keys.
        """
        weights = self.weights
        return empty_floats(self.layers, 2 * weights.kv_heads, capacity, weights.head_width)

    @abstractmethod
    def forward(
        self, ids: Sequence[int], cache: Floats, offset: int, positions: Sequence[int] | None = None,
        attn_mask: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Run tokens and return their hidden states, (tokens, width). The parameters are those of `Rows`."""

    def together(self, several: Sequence[Rows]) -> list[Floats]:
        """Run the rows of several sequences and return the logits of each, (tokens, padded vocabulary size)."""
        return [
            self.logits(self.forward(one.ids, one.cache, one.offset, one.positions, one.attn_mask)) for one in several
        ]

    def advance(self, chunk: Chunk) -> None:
        """Run the next layer of a chunk."""
        started = time.perf_counter()
        x = self.embed(chunk.ids) if chunk.x is None else chunk.x
        # A layer may overwrite its input.
        entered = None if chunk.on_layer is None else self.finish(x, len(chunk.ids), every=True).copy()
        chunk.x = self.run_layer(chunk.layer, x, len(chunk.ids), chunk.cache, chunk.offset, every=chunk.every)
        if chunk.on_layer is not None and entered is not None:
            chunk.on_layer(chunk.layer, entered)
        chunk.layer += 1
        chunk.seconds += time.perf_counter() - started

    def output(self, chunk: Chunk) -> Floats:
        """Return the hidden states of a chunk whose layers have all been run: (1, width), or of every token."""
        assert chunk.x is not None
        return self.finish(chunk.x, len(chunk.ids), every=chunk.every)

    @abstractmethod
    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the input of the first layer for a chunk, in the layout of the implementation."""

    @abstractmethod
    def run_layer(self, layer: int, x: Floats, count: int, cache: Floats, offset: int, *, every: bool) -> Floats:
        """Run one layer over a chunk of `count` tokens and return its output; `x` may be overwritten.

        Unless `every` is true, the last layer need only compute the output of the last token.
        """

    @abstractmethod
    def finish(self, x: Floats, count: int, *, every: bool) -> Floats:
        """Return the hidden state of the last of `count` tokens, (1, width), or of every one, from the output of the
        last layer."""

    @abstractmethod
    def queries(self, layer: int, hidden: Floats, offset: int) -> Floats:
        """Return the queries of a layer for its input, (tokens, width), at the positions from `offset` on.

        (heads, tokens, head width): rotated, divided by the square root of the head width, and with their entries in
        the order of the keys in the cache. They are computed again, to explain what a layer attends to.
        """

    @abstractmethod
    def logits(self, hidden: Floats) -> Floats:
        """Return the logits of the next token: (tokens, width) to (tokens, padded vocabulary size)."""


def rotary_angles(weights: ModelWeights, length: int) -> NDArray[np.float64]:
    """Return the angles of the rotary embedding at the first `length` positions, in radians.

    float64, (length, rotary / 2). Powers, frequencies and angles are rounded to float32, as in the training of the
    checkpoints and in CTranslate2: at position 1,000 an exact angle is up to 6e-5 away, far more than the error of all
    other arithmetic.
    """
    exponents = np.arange(0, weights.rotary, 2, dtype=np.float32) / np.float32(weights.rotary)
    powers = (weights.rotary_base ** exponents.astype(np.float64)).astype(np.float32)
    if weights.rotary_divisors is not None:
        powers *= weights.rotary_divisors
    positions = np.arange(length, dtype=np.float32) / np.float32(weights.rotary_factor)
    return (positions[:, None] * (1 / powers)).astype(np.float64)
