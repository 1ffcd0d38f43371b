"""The forward pass in PyTorch, for processors and models that the C library does not support.

Matrices with the same input are one product (query, key, value and, in a GPT-J block, `up_proj`), since a call costs as
much as a small product.

Attention is two batched products and a softmax. torch's fused attention is slower on a CPU, with one query as with 128
(`docs/lab.md`): its products are small, of 32 queries. The scale of the scores is in the weights of the query.

Rotary embeddings (Su et al., RoFormer, 2021) rotate pairs of entries. The rows of query and key are reordered so that
the two entries of a pair are neighbours; a pair is then one complex number, and its rotation one multiplication.
Products of query and key don't depend on the order.

This is the only module of the engine that loads torch, with `torch_kernels`: what comes in and goes out are numpy's
arrays, whose memory the tensors share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.forward import ForwardPass, rotary_angles
from codegen_lsp.inference.engines.native.torch_kernels import Kernel, Product, as_tensors, choose_kernel, product
from codegen_lsp.inference.engines.native.weights import LayerWeights, ModelWeights, Norm

FEW_QUERIES = 16
"""Up to this number of queries, keys times queries is faster than queries times keys."""


@frozen
class TorchNorm:
    """A `Norm` as tensors."""

    gamma: Tensor
    beta: Tensor | None


@frozen
class PackedLayer:
    """One layer, with its matrices ready to multiply."""

    attention_norm: TorchNorm
    qkv_proj: Product
    """Rows of query, key and value; in a GPT-J block also those of `up_proj`."""
    qkv_bias: Tensor
    o_proj: Product
    o_bias: Tensor | None
    mlp_norm: TorchNorm | None
    gate_up_proj: Product | None
    """In a Llama block: rows of `gate_proj` and `up_proj`."""
    gate_up_bias: Tensor
    down_proj: Product
    down_bias: Tensor | None


class TorchForwardPass(ForwardPass):
    """The forward pass in PyTorch. Activations are (tokens, width)."""

    def __init__(self, weights: ModelWeights, kernel: Kernel) -> None:
        super().__init__(weights)
        self._head_width = weights.head_width
        order = _pairwise_order(weights)
        scale = torch.ones(weights.attention_width + 2 * weights.kv_width)
        scale[: weights.attention_width] = weights.head_width**-0.5
        self._packed = [_pack(layer, order, kernel, scale) for layer in weights.layers]
        self._norm = _torch_norm(weights.norm)
        self._lm_head = product([as_tensors(weights.lm_head)], kernel)
        self._lm_head_bias = _bias(weights.lm_head_bias, self.padded_vocab_size)
        self._embedding = as_tensors(weights.embedding)
        weights.forget_pages()
        self._rotations = torch.empty(0)

    @torch.inference_mode()
    def forward(
        self, ids: Sequence[int], cache: Floats, offset: int, positions: Sequence[int] | None = None,
        attn_mask: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """See `ForwardPass.forward`."""
        x = torch.from_numpy(self.embed(ids))
        mask = None if attn_mask is None else torch.from_numpy(attn_mask)
        rotations = self._rotations_at(range(offset, offset + len(ids)) if positions is None else positions)
        for layer, layer_cache in zip(self._packed, torch.from_numpy(cache).unbind(0), strict=True):
            qkv = self._project(layer, layer_cache, x, rotations, offset)
            x = self._attention_and_mlp(layer, layer_cache, x, qkv, offset + len(ids), mask)
        return _array(x)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the embeddings of the tokens."""
        rows = torch.tensor(ids)
        return _array(self._embedding.floats(rows))

    @torch.inference_mode()
    def run_layer(self, layer: int, x: Floats, count: int, cache: Floats, offset: int, *, every: bool) -> Floats:
        """See `ForwardPass.run_layer`."""
        packed, layer_cache, hidden = self._packed[layer], torch.from_numpy(cache[layer]), torch.from_numpy(x)
        rotations = self._rotations_at(range(offset, offset + count))
        qkv = self._project(packed, layer_cache, hidden, rotations, offset)
        if layer == self.layers - 1 and not every:
            hidden, qkv = hidden[-1:], qkv[-1:]
        return _array(self._attention_and_mlp(packed, layer_cache, hidden, qkv, offset + count, None))

    def finish(self, x: Floats, count: int, *, every: bool) -> Floats:
        """See `ForwardPass.finish`."""
        return x if every else x[-1:]

    @torch.inference_mode()
    def queries(self, layer: int, hidden: Floats, offset: int) -> Floats:
        """See `ForwardPass.queries`."""
        packed, x, heads = self._packed[layer], torch.from_numpy(hidden), self.weights.heads
        projected = packed.qkv_proj(self._normed(x, packed.attention_norm), packed.qkv_bias)
        query = projected[:, : self.weights.attention_width].reshape(len(x), heads, self._head_width)
        rotated = query[..., : self.weights.rotary].reshape(len(x), heads, self.weights.rotary // 2, 2)
        pairs = torch.view_as_complex(rotated)
        turned = torch.view_as_real(pairs * self._rotations_at(range(offset, offset + len(x)))).flatten(-2)
        return _array(torch.cat([turned, query[..., self.weights.rotary :]], -1).transpose(0, 1).contiguous())

    @torch.inference_mode()
    def logits(self, hidden: Floats) -> Floats:
        """See `ForwardPass.logits`."""
        return _array(self._lm_head(self._normed(torch.from_numpy(hidden), self._norm), self._lm_head_bias))

    def _project(self, layer: PackedLayer, layer_cache: Tensor, x: Tensor, rotations: Tensor, offset: int) -> Tensor:
        """Return the output of `qkv_proj`, rotated, and write its keys and values to the cache.

        The result is (tokens, attention width + 2 kv width), wider in a GPT-J block.
        """
        count, weights = len(x), self.weights
        heads, kv_heads, head_width, rotary = weights.heads, weights.kv_heads, self._head_width, weights.rotary
        queries, keys = weights.attention_width, weights.attention_width + weights.kv_width
        qkv = layer.qkv_proj(self._normed(x, layer.attention_norm), layer.qkv_bias)
        rotated = qkv[:, :keys].view(count, heads + kv_heads, head_width)[..., :rotary]
        torch.view_as_complex(rotated.view(count, heads + kv_heads, rotary // 2, 2)).mul_(rotations)
        layer_cache[:, offset : offset + count].copy_(
            qkv[:, queries : keys + weights.kv_width].view(count, 2 * kv_heads, head_width).transpose(0, 1)
        )
        return qkv

    def _attention_and_mlp(
        self, layer: PackedLayer, layer_cache: Tensor, x: Tensor, qkv: Tensor, end: int, attn_mask: Tensor | None
    ) -> Tensor:
        """Return the output of a layer for the last of the `end` tokens in the cache: (tokens, width).

        `x` is the input of the layer, `qkv` the output of `_project`, both for these tokens.
        """
        count, heads, kv_heads, queries = (
            len(x),
            self.weights.heads,
            self.weights.kv_heads,
            self.weights.attention_width,
        )
        query = qkv[:, :queries].view(count, heads, self._head_width).transpose(0, 1)
        attended = attention(query, layer_cache[:kv_heads, :end], layer_cache[kv_heads:, :end], attn_mask)
        x = layer.o_proj(attended.transpose(0, 1).reshape(count, queries), x)
        if layer.o_bias is not None:
            x += layer.o_bias
        if layer.gate_up_proj is None:
            hidden = F.gelu(qkv[:, queries + 2 * self.weights.kv_width :], approximate="tanh")
        else:
            assert layer.mlp_norm is not None
            gate, up = layer.gate_up_proj(self._normed(x, layer.mlp_norm), layer.gate_up_bias).chunk(2, -1)
            hidden = F.silu(gate).mul_(up)
        x = layer.down_proj(hidden, x)
        if layer.down_bias is not None:
            x += layer.down_bias
        return x

    def _normed(self, x: Tensor, norm: TorchNorm) -> Tensor:
        if norm.beta is None:
            return F.rms_norm(x, (self.width,), norm.gamma, self.weights.epsilon)
        return F.layer_norm(x, (self.width,), norm.gamma, norm.beta, self.weights.epsilon)

    def _rotations_at(self, positions: Sequence[int]) -> Tensor:
        """Return the rotary embedding at these positions, as cos + i sin: complex64, (tokens, 1, rotary / 2)."""
        needed = positions.stop if isinstance(positions, range) else max(positions) + 1
        if needed > len(self._rotations):
            length = max(needed, 2 * len(self._rotations), 2048)
            angles = torch.from_numpy(rotary_angles(self.weights, length))[:, None]
            self._rotations = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
        if isinstance(positions, range):
            return self._rotations[positions.start : positions.stop]
        return self._rotations[torch.tensor(positions)]


def attention(query: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Return the softmax of the scores, times the values: (heads, tokens, head width), as `query`.

    `query` is scaled already. `keys` and `values` are (kv heads, all tokens, head width); each serves as many heads in
    a row. Without `attn_mask` the queries are the last tokens, with causal attention.
    """
    heads, count = query.shape[:2]
    if len(keys) != heads:
        keys, values = (part.repeat_interleave(heads // len(keys), 0) for part in (keys, values))
    scores = torch.bmm(query, keys.mT) if count > FEW_QUERIES else torch.bmm(keys, query.mT).mT
    if attn_mask is not None:
        scores.add_(attn_mask)
    elif count > 1:
        scores[:, :, -count:].add_(torch.full((count, count), -torch.inf).triu_(1))
    return torch.bmm(scores.softmax(-1), values)


def open_torch(weights: ModelWeights, threads: int) -> TorchForwardPass:
    """Return the forward pass with the best kernel here, and let torch use this number of threads.

    Raises: ModelError when no kernel is exact here.
    """
    torch.set_num_threads(threads)
    with torch.inference_mode():
        return TorchForwardPass(weights, choose_kernel())


def _pack(layer: LayerWeights, order: Tensor, kernel: Kernel, query_scale: Tensor) -> PackedLayer:
    qkv = as_tensors(layer.qkv_proj).chosen(order, query_scale)
    qkv_bias = _bias(layer.qkv_bias, len(order))[order] * query_scale
    up, mlp_width = as_tensors(layer.up_proj), layer.up_proj.shape[0]
    if layer.gate_proj is not None:
        return PackedLayer(
            attention_norm=_torch_norm(layer.attention_norm),
            qkv_proj=product([qkv], kernel),
            qkv_bias=qkv_bias,
            o_proj=product([as_tensors(layer.o_proj)], kernel),
            o_bias=_optional(layer.o_bias),
            mlp_norm=None if layer.mlp_norm is None else _torch_norm(layer.mlp_norm),
            gate_up_proj=product([as_tensors(layer.gate_proj), up], kernel),
            gate_up_bias=torch.cat([_bias(layer.gate_bias, mlp_width), _bias(layer.up_bias, mlp_width)]),
            down_proj=product([as_tensors(layer.down_proj)], kernel),
            down_bias=_optional(layer.down_bias),
        )
    return PackedLayer(
        attention_norm=_torch_norm(layer.attention_norm),
        qkv_proj=product([qkv, up], kernel),
        qkv_bias=torch.cat([qkv_bias, _bias(layer.up_bias, mlp_width)]),
        o_proj=product([as_tensors(layer.o_proj)], kernel),
        o_bias=_optional(layer.o_bias),
        mlp_norm=None,
        gate_up_proj=None,
        gate_up_bias=torch.zeros(0),
        down_proj=product([as_tensors(layer.down_proj)], kernel),
        down_bias=_optional(layer.down_bias),
    )


def _torch_norm(norm: Norm) -> TorchNorm:
    return TorchNorm(torch.from_numpy(norm.gamma), _optional(norm.beta))


def _optional(values: Floats | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def _bias(values: Floats | None, size: int) -> Tensor:
    return torch.zeros(size) if values is None else torch.from_numpy(values)


def _array(values: Tensor) -> Floats:
    """Return an array that shares the memory of a tensor."""
    array: Floats = values.numpy()
    return array


def _pairwise_order(weights: ModelWeights) -> Tensor:
    """Return the order of the rows of query, key and value in which the entries of a rotated pair are neighbours."""
    rotated, rotary = weights.heads + weights.kv_heads, weights.rotary
    order = torch.arange(weights.attention_width + 2 * weights.kv_width).view(-1, weights.head_width)
    if not weights.rotary_interleaved:
        order[:rotated, :rotary] = order[:rotated, :rotary].view(rotated, 2, rotary // 2).mT.flatten(-2)
    return order.flatten()
