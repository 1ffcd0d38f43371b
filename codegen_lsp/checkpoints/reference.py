"""Reference forward pass of a float checkpoint, with one layer of weights in memory at a time.

Not taken from transformers for two reasons: its CodeGen class assumes four qkv groups, but CodeGen2's smaller models
have eight; and a 16B checkpoint in float32 would need 64 GB, while one layer of it needs 2 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from codegen_lsp.checkpoints.architecture import LEARNED_POSITIONS, Architecture


@frozen
class Reading:
    """One interpretation of a checkpoint: the tokens of the text, and the arrangement of the weights."""

    ids: tuple[int, ...]
    """Token ids of the text to predict."""
    groups: int
    """Number of groups of rows in CodeGen's fused qkv projection; 0 for Llama."""


@torch.no_grad()
def float_logits(
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    readings: Sequence[Reading],
    on_layer: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """Return float32 logits (tokens, rows) for each reading, from one pass over the weights.

    `on_layer` is called after each layer with the share that is done, 0 to 1.
    """
    llama = architecture.block == "llama"
    layer = LAYERS[architecture.block]
    prefix = "model.layers" if llama else "transformer.h"
    embedding = weights["model.embed_tokens.weight" if llama else "transformer.wte.weight"]
    states = [embedding[torch.tensor(reading.ids)].float() for reading in readings]
    if architecture.block == "gpt_bigcode":
        positions = weights[LEARNED_POSITIONS]
        states = [x + positions[: len(x)].float() for x in states]
    tables = [_rotary_tables(architecture, len(reading.ids)) for reading in readings]
    for index in range(architecture.layers):
        here = _LayerWeights(weights, f"{prefix}.{index}.")
        states = [
            layer(x, here, architecture, reading.groups, table)
            for x, reading, table in zip(states, readings, tables, strict=True)
        ]
        if on_layer is not None:
            on_layer((index + 1) / architecture.layers)
    return [_output(x, weights, architecture) for x in states]


class _LayerWeights:
    """The weights of one layer in float32, each read once."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix
        self._read: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._read:
            self._read[name] = self._weights[self._prefix + name].float()
        return self._read[name]

    def optional(self, name: str, present: bool) -> Tensor | None:
        """Return a weight that only some architectures have."""
        return self[name] if present else None


def _codegen_layer(
    x: Tensor, weights: _LayerWeights, architecture: Architecture, groups: int, tables: tuple[Tensor, Tensor]
) -> Tensor:
    """Run attention and MLP in parallel after one LayerNorm, as in GPT-J. `x` is (tokens, width)."""
    normed = F.layer_norm(x, (architecture.width,), weights["ln_1.weight"], weights["ln_1.bias"], architecture.epsilon)
    fused = F.linear(normed, weights["attn.qkv_proj.weight"])
    query, value, key = fused.view(len(x), groups, 3, -1).unbind(2)
    query, value, key = (part.reshape(len(x), architecture.heads, -1) for part in (query, value, key))
    mixed = _attention(_rotate_pairs(query, *tables), _rotate_pairs(key, *tables), value)
    hidden = F.linear(normed, weights["mlp.fc_in.weight"], weights["mlp.fc_in.bias"])
    hidden = F.gelu(hidden, approximate="tanh")
    return (
        x
        + F.linear(mixed, weights["attn.out_proj.weight"])
        + F.linear(hidden, weights["mlp.fc_out.weight"], weights["mlp.fc_out.bias"])
    )


def _llama_layer(
    x: Tensor, weights: _LayerWeights, architecture: Architecture, groups: int, tables: tuple[Tensor, Tensor]
) -> Tensor:
    """Run attention, then a gated MLP, each after an RMSNorm. `x` is (tokens, width)."""
    width, epsilon = (architecture.width,), architecture.epsilon
    normed = F.rms_norm(x, width, weights["input_layernorm.weight"], epsilon)

    def product(name: str, of: Tensor, biased: bool) -> Tensor:
        return F.linear(of, weights[f"{name}.weight"], weights.optional(f"{name}.bias", biased))

    query, key, value = (
        product(f"self_attn.{part}_proj", normed, architecture.qkv_bias).view(len(x), -1, architecture.head_width)
        for part in ("q", "k", "v")
    )
    shared = architecture.heads // architecture.kv_heads
    key, value = (part.repeat_interleave(shared, 1) for part in (_rotate_halves(key, *tables), value))
    mixed = _attention(_rotate_halves(query, *tables), key, value)
    x = x + product("self_attn.o_proj", mixed, architecture.o_bias)
    normed = F.rms_norm(x, width, weights["post_attention_layernorm.weight"], epsilon)
    biased = architecture.mlp_bias
    hidden = F.silu(product("mlp.gate_proj", normed, biased)) * product("mlp.up_proj", normed, biased)
    return x + product("mlp.down_proj", hidden, biased)


def _bigcode_layer(
    x: Tensor, weights: _LayerWeights, architecture: Architecture, groups: int, tables: tuple[Tensor, Tensor]
) -> Tensor:
    """Run multi-query attention (Shazeer, 2019), then an MLP, each after a LayerNorm. `x` is (tokens, width)."""
    width, epsilon, attended = (architecture.width,), architecture.epsilon, architecture.attention_width

    def product(name: str, of: Tensor) -> Tensor:
        return F.linear(of, weights[f"{name}.weight"], weights[f"{name}.bias"])

    normed = F.layer_norm(x, width, weights["ln_1.weight"], weights["ln_1.bias"], epsilon)
    query, key, value = product("attn.c_attn", normed).split_with_sizes(
        (attended, architecture.kv_width, architecture.kv_width), -1
    )
    key, value = (part[:, None].expand(-1, architecture.heads, -1) for part in (key, value))
    x = x + product("attn.c_proj", _attention(query.reshape(key.shape), key, value))
    normed = F.layer_norm(x, width, weights["ln_2.weight"], weights["ln_2.bias"], epsilon)
    approximation = "none" if architecture.exact_gelu else "tanh"
    return x + product("mlp.c_proj", F.gelu(product("mlp.c_fc", normed), approximate=approximation))


LAYERS = {"codegen": _codegen_layer, "llama": _llama_layer, "gpt_bigcode": _bigcode_layer}
"""The layer of each block."""


def _output(x: Tensor, weights: Mapping[str, Tensor], architecture: Architecture) -> Tensor:
    if architecture.block == "llama":
        normed = F.rms_norm(x, (architecture.width,), weights["model.norm.weight"].float(), architecture.epsilon)
        head = "model.embed_tokens.weight" if architecture.tied else "lm_head.weight"
        return F.linear(normed, weights[head].float())
    normed = F.layer_norm(
        x,
        (architecture.width,),
        weights["transformer.ln_f.weight"].float(),
        weights["transformer.ln_f.bias"].float(),
        architecture.epsilon,
    )
    if architecture.block == "gpt_bigcode":
        return F.linear(normed, weights["transformer.wte.weight" if architecture.tied else "lm_head.weight"].float())
    return F.linear(normed, weights["lm_head.weight"].float(), weights["lm_head.bias"].float())


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute causal attention. The arguments are (tokens, heads, head width), the result is (tokens, width)."""
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return mixed[0].transpose(0, 1).reshape(query.shape[2], -1)


def _rotary_tables(architecture: Architecture, length: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of each position's angles, (length, 1, rotary / 2)."""
    rotary = architecture.rotary
    frequencies = architecture.rotary_base ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
    if architecture.rotary_divisors:
        frequencies = frequencies / torch.tensor(architecture.rotary_divisors, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] / architecture.rotary_factor * frequencies
    cosines, sines = (architecture.attention_factor * part for part in (angles.cos(), angles.sin()))
    return cosines.float()[:, None], sines.float()[:, None]


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply GPT-J's rotary embedding, which pairs adjacent entries. `x` is (tokens, heads, head width)."""
    rotary = 2 * cos.shape[-1]
    even, odd = x[..., :rotary:2], x[..., 1:rotary:2]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)
    return torch.cat((turned, x[..., rotary:]), -1)


def _rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply Llama's rotary embedding, which pairs first and second half. `x` is (tokens, heads, head width)."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
