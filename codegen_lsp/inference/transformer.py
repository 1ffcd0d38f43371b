"""The forward pass: new tokens at a place in a sequence, whose keys and values are written in place.

One function runs a cold prompt, a chunk of it, one decoding step, several candidates or a draft: they differ in how
many tokens come and in what each may see. Matrices with the same input are one product (query, key, value and, in
GPT-J's block, the MLP's first), since a call costs as much as a small product.

Rotary embeddings (Su et al., RoFormer, 2021) turn pairs of entries. The rows of query and key are put in an order in
which the two of a pair are neighbours; a pair is then one complex number, and the turn is one multiplication. Products
of query and key don't depend on the order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from codegen_lsp.inference.kernels import Kernel, Product
from codegen_lsp.inference.weights import Layer, Matrix, ModelWeights, Norm

NOTHING = torch.zeros(())


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
    down: Product
    down_bias: Tensor | None


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
        self._blocks = [_block(layer, order, kernel) for layer in weights.layers]
        self._head = kernel([weights.head])
        self._head_bias = NOTHING if weights.head_bias is None else weights.head_bias
        self._turns = torch.empty(0)

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, in bytes."""
        return self.layers * 2 * self.width * 4

    def new_cache(self, capacity: int) -> Tensor:
        """Room for keys and values of `capacity` tokens: float32, (layers, 2 heads, capacity, head width); of the
        second dimension, the first half are keys."""
        return torch.empty(self.layers, 2 * self.heads, capacity, self.head_width)

    def forward(
        self, ids: Sequence[int], cache: Tensor, offset: int, positions: Sequence[int] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Run tokens whose keys and values go to the places of the cache from `offset` on.

        Without `positions` and `visible`, the tokens follow the `offset` ones before them. `positions` has each token's
        place in its text, `visible` is added to the attention's scores: float32, (tokens, offset + tokens), zero where
        a token sees another and minus infinity elsewhere. Gives the last hidden states, (tokens, width).
        """
        count, end = len(ids), offset + len(ids)
        rows = torch.tensor(ids)
        embedding = self.weights.embedding
        x = embedding.values[rows].float().div_(embedding.scales[rows][:, None])
        turns = self._turns_at(range(offset, end) if positions is None else positions)
        if visible is None and count > 1 and offset:
            visible = torch.full((count, end), -torch.inf).triu_(offset + 1)
        causal = visible is None and count > 1
        width, heads, head_width, rotary = self.width, self.heads, self.head_width, self.weights.rotary
        for block, kept in zip(self._blocks, cache.unbind(0), strict=True):
            y = block.first(self._normed(x, block.attention_norm), block.first_bias)
            turned = y[:, : 2 * width].view(count, 2 * heads, head_width)[..., :rotary]
            torch.view_as_complex(turned.view(count, 2 * heads, rotary // 2, 2)).mul_(turns)
            kept[:, offset:end].copy_(y[:, width : 3 * width].view(count, 2 * heads, head_width).transpose(0, 1))
            query = y[:, :width].view(1, count, heads, head_width).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(
                query, kept[None, :heads, :end], kept[None, heads:, :end], attn_mask=visible, is_causal=causal
            )
            x = block.out(mixed.transpose(1, 2).reshape(count, width), x)
            if block.gated is None:
                hidden = F.gelu(y[:, 3 * width :], approximate="tanh")
            else:
                assert block.mlp_norm is not None
                gate, up = block.gated(self._normed(x, block.mlp_norm), NOTHING).chunk(2, -1)
                hidden = F.silu(gate).mul_(up)
            x = block.down(hidden, x)
            if block.down_bias is not None:
                x += block.down_bias
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token: (tokens, width) to (tokens, rows)."""
        return self._head(self._normed(hidden, self.weights.norm), self._head_bias)

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


def _block(layer: Layer, order: Tensor, kernel: Kernel) -> Block:
    qkv = Matrix(layer.qkv.values[order], layer.qkv.scales[order])
    if layer.gate is not None:
        return Block(
            attention_norm=layer.attention_norm,
            first=kernel([qkv]),
            first_bias=NOTHING,
            out=kernel([layer.out]),
            mlp_norm=layer.mlp_norm,
            gated=kernel([layer.gate, layer.up]),
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


def _turns(weights: ModelWeights, length: int) -> Tensor:
    frequencies = weights.rotary_base ** (-torch.arange(0, weights.rotary, 2, dtype=torch.float64) / weights.rotary)
    angles = torch.arange(length, dtype=torch.float64)[:, None, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
