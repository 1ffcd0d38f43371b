"""The weights of a build as those of a float checkpoint.

The quantized matrices are dequantized one at a time. The fused projection appears as one group of query, value and key
rows, so that whatever reads a checkpoint reads a build, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.export.rows import halves_to_pairs
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.matrices import QuantizedMatrix
from codegen_lsp.inference.engines.native.weights import LayerWeights, ModelWeights, Norm, read_weights

Part = Callable[[], Tensor]


class BuildWeights(Mapping[str, Tensor]):
    """The float32 weights of a build by their names in the checkpoint.

    Raises: ModelError when the build can't be read, ConversionError when its positions are encoded in another way than
    those of CodeGen's checkpoints.
    """

    def __init__(self, directory: Path, info: BuildInfo) -> None:
        weights = read_weights(directory)
        llama = weights.block_type == "llama"
        if llama and weights.rotary_interleaved:
            raise ConversionError(
                f"The build in {directory} encodes positions in another way than CodeGen's checkpoints.",
                "Export it from the checkpoint that it was made from.",
            )
        self.architecture = Architecture(
            block=weights.block_type,
            layers=len(weights.layers),
            heads=weights.heads,
            width=weights.width,
            hidden=weights.mlp_width,
            rotary=weights.rotary,
            rows=weights.padded_vocab_size,
            context=info.context_length,
            epsilon=weights.epsilon,
            qkv_groups=0 if llama else 1,
            kv_heads=weights.kv_heads,
            head_width=weights.head_width,
            qkv_bias=weights.layers[0].qkv_bias is not None,
            o_bias=weights.layers[0].o_bias is not None,
            mlp_bias=llama and weights.layers[0].up_bias is not None,
            rotary_base=weights.rotary_base,
            rotary_factor=weights.rotary_factor,
            rotary_divisors=() if weights.rotary_divisors is None else tuple(weights.rotary_divisors.tolist()),
        )
        self._parts = _llama_parts(weights) if llama else _codegen_parts(weights)

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _codegen_parts(weights: ModelWeights) -> dict[str, Part]:
    parts: dict[str, Part] = {
        "transformer.wte.weight": _matrix(weights.embedding),
        **_norm("transformer.ln_f", weights.norm),
        "lm_head.weight": _matrix(weights.lm_head),
        "lm_head.bias": _vector(weights.lm_head_bias, weights.padded_vocab_size),
    }
    for index, layer in enumerate(weights.layers):
        prefix = f"transformer.h.{index}"
        parts |= {
            **_norm(f"{prefix}.ln_1", layer.attention_norm),
            f"{prefix}.attn.qkv_proj.weight": _one_group(layer, weights),
            f"{prefix}.attn.out_proj.weight": _matrix(layer.o_proj),
            f"{prefix}.mlp.fc_in.weight": _matrix(layer.up_proj),
            f"{prefix}.mlp.fc_in.bias": _vector(layer.up_bias, weights.mlp_width),
            f"{prefix}.mlp.fc_out.weight": _matrix(layer.down_proj),
            f"{prefix}.mlp.fc_out.bias": _vector(layer.down_bias, weights.width),
        }
    return parts


def _llama_parts(weights: ModelWeights) -> dict[str, Part]:
    parts: dict[str, Part] = {
        "model.embed_tokens.weight": _matrix(weights.embedding),
        **_norm("model.norm", weights.norm),
        "lm_head.weight": _matrix(weights.lm_head),
    }
    for index, layer in enumerate(weights.layers):
        prefix = f"model.layers.{index}"
        assert layer.mlp_norm is not None
        assert layer.gate_proj is not None
        parts |= {
            **_norm(f"{prefix}.input_layernorm", layer.attention_norm),
            **_norm(f"{prefix}.post_attention_layernorm", layer.mlp_norm),
            **{f"{prefix}.self_attn.{part}_proj.weight": _third(layer, i) for i, part in enumerate("qkv")},
            f"{prefix}.self_attn.o_proj.weight": _matrix(layer.o_proj),
            f"{prefix}.mlp.gate_proj.weight": _matrix(layer.gate_proj),
            f"{prefix}.mlp.up_proj.weight": _matrix(layer.up_proj),
            f"{prefix}.mlp.down_proj.weight": _matrix(layer.down_proj),
        }
    return parts


def _one_group(layer: LayerWeights, weights: ModelWeights) -> Part:
    """Return the fused projection in the order of a checkpoint with one group: query, value, key."""

    def fused() -> Tensor:
        query, key, value = _dequantized(layer.qkv_proj).chunk(3)
        if not weights.rotary_interleaved:
            query, key = (halves_to_pairs(part, weights.heads, weights.rotary) for part in (query, key))
        return torch.cat((query, value, key))

    return fused


def _third(layer: LayerWeights, index: int) -> Part:
    return lambda: _dequantized(layer.qkv_proj).chunk(3)[index]


def _norm(name: str, norm: Norm) -> dict[str, Part]:
    beta = {} if norm.beta is None else {f"{name}.bias": _vector(norm.beta, len(norm.beta))}
    return {f"{name}.weight": _vector(norm.gamma, len(norm.gamma)), **beta}


def _vector(values: Floats | None, size: int) -> Part:
    """Return a vector; zeros where the build has none."""
    return lambda: torch.zeros(size) if values is None else torch.from_numpy(values.copy())


def _matrix(matrix: QuantizedMatrix) -> Part:
    return lambda: _dequantized(matrix)


def _dequantized(matrix: QuantizedMatrix) -> Tensor:
    return torch.from_numpy(matrix.floats())
