"""The forward pass: new tokens at a place in a sequence, whose keys and values are written in place.

One function runs a cold prompt, a chunk of it, one decoding step, several candidates or a draft: they differ in how
many tokens come and in what each may see. Matrices with the same input are one product (query, key, value and, in
GPT-J's block, the MLP's first), since a call costs as much as a small product.

Attention is two batched products and a softmax. torch's own fused attention is slower on a CPU, with one query as with
128 (`docs/lab.md`): its products are small ones, of 32 queries. Its scale is in the query's weights.

A prompt's chunk can be interrupted before each layer, and is taken up again where it was. So chunks can be as long as
is good for the kernels, a cancelled request ends within a layer's time, and what it has computed is not lost.

Rotary embeddings (Su et al., RoFormer, 2021) turn pairs of entries. The rows of query and key are put in an order in
which the two of a pair are neighbours; a pair is then one complex number, and the turn is one multiplication. Products
of query and key don't depend on the order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from codegen_lsp.inference.engines.native.torch_kernels import Kernel, Product
from codegen_lsp.inference.engines.native.weights import Layer, Matrix, ModelWeights, Norm

FEW = 16
"""Up to so many queries, keys times queries is faster than queries times keys."""


@frozen
class Block:
    """One layer, its matrices ready to multiply."""

    attention_norm: Norm
    first: Product
    """Rows of query, key, value; in a parallel block also of the MLP's first matrix."""
    first_bias: Tensor
    out: Product
    mlp_norm: Norm | None
    gated: Product | None
    """Llama's: gate and up side by side."""
    gated_bias: Tensor
    down: Product
    down_bias: Tensor | None


@frozen
class Interrupted:
    """A chunk of a prompt that was left before one of the layers."""

    ids: list[int]
    cache: weakref.ref[Tensor]
    offset: int
    layer: int
    x: Tensor
    """What goes into that layer: all of the tokens', however they are laid out."""

    def is_of(self, ids: list[int], cache: Tensor, offset: int) -> bool:
        """Whether it is this chunk that was left."""
        return self.ids == ids and self.offset == offset and self.cache() is cache


class Transformer:
    """A decoder on the CPU. Not thread-safe; call it in inference mode."""

    def __init__(self, weights: ModelWeights, kernel: Kernel) -> None:
        self.weights = weights
        self.layers = len(weights.layers)
        self.heads = weights.heads
        self.width = weights.width
        self.head_width = weights.head_width
        self.rows = weights.head.values.shape[0]
        """Logits to a token."""
        order = _pairwise_order(weights)
        scale = torch.ones(3 * self.width)
        scale[: self.width] = self.head_width**-0.5
        self._blocks = [_block(layer, order, kernel, scale) for layer in weights.layers]
        self._head = kernel([weights.head])
        self._head_bias = torch.zeros(self.rows) if weights.head_bias is None else weights.head_bias
        weights.forget_pages()
        self._turns = torch.empty(0)
        self._interrupted: Interrupted | None = None

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, in bytes."""
        return self.layers * 2 * self.width * 4

    def new_cache(self, capacity: int) -> Tensor:
        """See the function of this name."""
        return new_cache(self.weights, capacity)

    def forward(
        self, ids: Sequence[int], cache: Tensor, offset: int, positions: Sequence[int] | None = None,
        visible: Tensor | None = None, check: Callable[[], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Run tokens whose keys and values go to the places of the cache from `offset` on.

        Without `positions` and `visible`, the tokens follow the `offset` ones before them. `positions` has each token's
        place in its text, `visible` is added to the attention's scores: float32, (tokens, offset + tokens), zero where
        a token sees another and minus infinity elsewhere. `check` is called before each layer and may raise. Gives the
        last hidden states, (tokens, width).
        """
        self._interrupted = None
        x = self._embedded(ids)
        turns = self._turns_at(range(offset, offset + len(ids)) if positions is None else positions)
        for block, kept in zip(self._blocks, cache.unbind(0), strict=True):
            if check is not None:
                check()
            y = self._project(block, kept, x, turns, offset)
            x = self._mix(block, kept, x, y, offset + len(ids), visible)
        return x

    def prefill(self, ids: list[int], cache: Tensor, offset: int, check: Callable[[], None]) -> Tensor:
        """Run a chunk of a prompt, as `forward` does; gives the hidden state of its last token alone, (1, width).

        `check` is called before each layer. When it raises, the chunk is left there, and goes on from there if it is
        the next thing that is run.
        """
        start, x = 0, None
        left, self._interrupted = self._interrupted, None
        if left is not None and left.is_of(ids, cache, offset):
            start, x = left.layer, left.x
        end = offset + len(ids)
        turns = self._turns_at(range(offset, end))
        if x is None:
            x = self._embedded(ids)
        for layer in range(start, self.layers):
            try:
                check()
            except BaseException:
                self._interrupted = Interrupted(ids, weakref.ref(cache), offset, layer, x)
                raise
            block, kept = self._blocks[layer], cache[layer]
            y = self._project(block, kept, x, turns, offset)
            if layer == self.layers - 1:
                x, y = x[-1:], y[-1:]
            x = self._mix(block, kept, x, y, end, None)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token: (tokens, width) to (tokens, rows)."""
        return self._head(self._normed(hidden, self.weights.norm), self._head_bias)

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        """What goes into the first layer, (tokens, width)."""
        rows = torch.tensor(ids)
        embedding = self.weights.embedding
        return embedding.values[rows].float().div_(embedding.scales[rows][:, None])

    def _project(self, block: Block, kept: Tensor, x: Tensor, turns: Tensor, offset: int) -> Tensor:
        """A layer's first product, its keys and values written to the cache: (tokens, 3 width or more)."""
        count = len(x)
        width, heads, head_width, rotary = self.width, self.heads, self.head_width, self.weights.rotary
        y = block.first(self._normed(x, block.attention_norm), block.first_bias)
        turned = y[:, : 2 * width].view(count, 2 * heads, head_width)[..., :rotary]
        torch.view_as_complex(turned.view(count, 2 * heads, rotary // 2, 2)).mul_(turns)
        kept[:, offset : offset + count].copy_(
            y[:, width : 3 * width].view(count, 2 * heads, head_width).transpose(0, 1)
        )
        return y

    def _mix(self, block: Block, kept: Tensor, x: Tensor, y: Tensor, end: int, visible: Tensor | None) -> Tensor:
        """The rest of a layer, for the last of the `end` tokens in the cache: `x` went in, `y` is its first product."""
        count, heads, width = len(x), self.heads, self.width
        query = y[:, :width].view(count, heads, self.head_width).transpose(0, 1)
        mixed = attention(query, kept[:heads, :end], kept[heads:, :end], visible)
        x = block.out(mixed.transpose(0, 1).reshape(count, width), x)
        if block.gated is None:
            hidden = F.gelu(y[:, 3 * width :], approximate="tanh")
        else:
            assert block.mlp_norm is not None
            gate, up = block.gated(self._normed(x, block.mlp_norm), block.gated_bias).chunk(2, -1)
            hidden = F.silu(gate).mul_(up)
        x = block.down(hidden, x)
        if block.down_bias is not None:
            x += block.down_bias
        return x

    def _normed(self, x: Tensor, norm: Norm) -> Tensor:
        if norm.beta is None:
            return F.rms_norm(x, (self.width,), norm.gamma, self.weights.epsilon)
        return F.layer_norm(x, (self.width,), norm.gamma, norm.beta, self.weights.epsilon)

    def _turns_at(self, positions: Sequence[int]) -> Tensor:
        """Complex factors that turn the pairs of tokens at these positions, (tokens, 1, rotary / 2)."""
        needed = max(positions) + 1
        if needed > len(self._turns):
            self._turns = _turns(self.weights, max(needed, 2 * len(self._turns), 2048))
        if isinstance(positions, range):
            return self._turns[positions.start : positions.stop]
        return self._turns[torch.tensor(positions)]


def new_cache(weights: ModelWeights, capacity: int) -> Tensor:
    """Room for keys and values of `capacity` tokens: float32, (layers, 2 heads, capacity, head width); of the second
    dimension, the first half are keys."""
    return torch.empty(len(weights.layers), 2 * weights.heads, capacity, weights.head_width)


def attention(query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax of the scores, times the values: (heads, tokens, head width), as `query`, which has the scale in it.

    `keys` and `values` are (heads, all tokens, head width). Without `visible` the queries are the last tokens, and each
    sees what is before it and itself.
    """
    count = query.shape[1]
    scores = torch.bmm(query, keys.mT) if count > FEW else torch.bmm(keys, query.mT).mT
    if visible is not None:
        scores.add_(visible)
    elif count > 1:
        scores[:, :, -count:].add_(torch.full((count, count), -torch.inf).triu_(1))
    return torch.bmm(scores.softmax(-1), values)


def _block(layer: Layer, order: Tensor, kernel: Kernel, query_scale: Tensor) -> Block:
    qkv = Matrix(layer.qkv.values[order], layer.qkv.scales[order] / query_scale)
    if layer.gate is not None:
        return Block(
            attention_norm=layer.attention_norm,
            first=kernel([qkv]),
            first_bias=torch.zeros(len(order)),
            out=kernel([layer.out]),
            mlp_norm=layer.mlp_norm,
            gated=kernel([layer.gate, layer.up]),
            gated_bias=torch.zeros(2 * layer.up.values.shape[0]),
            down=kernel([layer.down]),
            down_bias=layer.down_bias,
        )
    hidden = layer.up.values.shape[0]
    bias = torch.zeros(hidden) if layer.up_bias is None else layer.up_bias
    return Block(
        attention_norm=layer.attention_norm,
        first=kernel([qkv, layer.up]),
        first_bias=torch.cat([torch.zeros(len(order)), bias]),
        out=kernel([layer.out]),
        mlp_norm=None,
        gated=None,
        gated_bias=torch.zeros(0),
        down=kernel([layer.down]),
        down_bias=layer.down_bias,
    )


def _pairwise_order(weights: ModelWeights) -> Tensor:
    """Where each row of query, key and value comes from, so that the two of a rotated pair are neighbours."""
    order = torch.arange(3 * weights.width).view(3, weights.heads, weights.head_width)
    if not weights.rotary_interleaved:
        rotary = weights.rotary
        order[:2, :, :rotary] = order[:2, :, :rotary].view(2, weights.heads, 2, rotary // 2).mT.flatten(-2)
    return order.flatten()


def rotary_angles(weights: ModelWeights, length: int) -> Tensor:
    """By how much each pair is turned at the first `length` positions: float64, (length, rotary / 2), in radians.

    Frequencies and angles are rounded to float32, as where the checkpoints were trained and in CTranslate2: at position
    1,000 an exact angle is up to 6e-5 away, far more than all other arithmetic.
    """
    frequencies = 1 / weights.rotary_base ** (torch.arange(0, weights.rotary, 2, dtype=torch.float32) / weights.rotary)
    return (torch.arange(length, dtype=torch.float32)[:, None] * frequencies).double()


def _turns(weights: ModelWeights, length: int) -> Tensor:
    angles = rotary_angles(weights, length)[:, None]
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
