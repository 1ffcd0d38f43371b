"""CodeGen's weights under the names, and in the order, of transformers' Phi; CodeGen2.5's, which are a Llama's.

Phi's block is CodeGen's: attention and MLP in parallel behind one LayerNorm, and an output layer with a bias. Phi pairs
the rotated entries of a head by halves, CodeGen adjacent ones, so that the rotated rows of query and key are reordered.
Its attention has biases, which are zero here. The model stays exactly the same function.

Rows of the embedding without a token are left out: their weights are noise, and other engines would generate their ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from codegen_lsp.checkpoints.export.rows import pairs_to_halves, split_projection
from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.checkpoints.rotary_scaling import ROTARY_BASE


def exported_shapes(source: ExportSource) -> dict[str, tuple[int, ...]]:
    """Return the shape of every exported weight by its name, in the order in which `exported_weights` yields them."""
    shape = source.architecture
    rows, width, hidden = source.info.vocabulary_size, shape.width, shape.hidden
    if shape.block == "llama":
        return {
            name: (rows, *size[1:]) if name in ("model.embed_tokens.weight", "lm_head.weight") else size
            for name, size in shape.shapes().items()
        }
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (width,),
        "input_layernorm.bias": (width,),
        **{f"self_attn.{part}.weight": (width, width) for part in ("q_proj", "k_proj", "v_proj", "dense")},
        **{f"self_attn.{part}.bias": (width,) for part in ("q_proj", "k_proj", "v_proj", "dense")},
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
    }
    return {
        "model.embed_tokens.weight": (rows, width),
        "model.final_layernorm.weight": (width,),
        "model.final_layernorm.bias": (width,),
        "lm_head.weight": (rows, width),
        "lm_head.bias": (rows,),
        **{f"model.layers.{i}.{name}": size for i in range(shape.layers) for name, size in layer.items()},
    }


def exported_weights(source: ExportSource) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight by its name, one layer in memory at a time."""
    shape, weights, rows = source.architecture, source.weights, source.info.vocabulary_size
    if shape.block == "llama":
        for name in exported_shapes(source):
            weight = weights[name]
            yield name, weight[:rows] if name in ("model.embed_tokens.weight", "lm_head.weight") else weight
        return
    yield "model.embed_tokens.weight", weights["transformer.wte.weight"][:rows]
    yield "model.final_layernorm.weight", weights["transformer.ln_f.weight"]
    yield "model.final_layernorm.bias", weights["transformer.ln_f.bias"]
    yield "lm_head.weight", weights["lm_head.weight"][:rows]
    yield "lm_head.bias", weights["lm_head.bias"][:rows]
    for index in range(shape.layers):
        old, new = f"transformer.h.{index}", f"model.layers.{index}"
        query, key, value = split_projection(weights[f"{old}.attn.qkv_proj.weight"], shape.qkv_groups)
        yield f"{new}.input_layernorm.weight", weights[f"{old}.ln_1.weight"]
        yield f"{new}.input_layernorm.bias", weights[f"{old}.ln_1.bias"]
        yield f"{new}.self_attn.q_proj.weight", pairs_to_halves(query, shape.heads, shape.rotary)
        yield f"{new}.self_attn.k_proj.weight", pairs_to_halves(key, shape.heads, shape.rotary)
        yield f"{new}.self_attn.v_proj.weight", value
        yield f"{new}.self_attn.dense.weight", weights[f"{old}.attn.out_proj.weight"]
        for part in ("q_proj", "k_proj", "v_proj", "dense"):
            yield f"{new}.self_attn.{part}.bias", torch.zeros(shape.width, dtype=query.dtype)
        yield f"{new}.mlp.fc1.weight", weights[f"{old}.mlp.fc_in.weight"]
        yield f"{new}.mlp.fc1.bias", weights[f"{old}.mlp.fc_in.bias"]
        yield f"{new}.mlp.fc2.weight", weights[f"{old}.mlp.fc_out.weight"]
        yield f"{new}.mlp.fc2.bias", weights[f"{old}.mlp.fc_out.bias"]


def transformers_config(source: ExportSource, dtype: str) -> dict[str, Any]:
    """Return the content of config.json. `dtype` is the type of the weights, as torch calls it."""
    shape, info = source.architecture, source.info
    common = {
        "vocab_size": info.vocabulary_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "rope_theta": ROTARY_BASE,
        "tie_word_embeddings": False,
        "bos_token_id": info.end_of_text,
        "eos_token_id": info.end_of_text,
        "torch_dtype": dtype,
        "dtype": dtype,
    }
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": ROTARY_BASE}
    if shape.block == "llama":
        return common | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "rms_norm_eps": shape.epsilon,
            "attention_bias": False,
            "mlp_bias": False,
            "rope_parameters": rope,
        }
    part = partial_rotary_factor(shape.rotary, shape.head_width)
    return common | {
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        "hidden_act": "gelu_new",
        "layer_norm_eps": shape.epsilon,
        "qk_layernorm": False,
        "partial_rotary_factor": part,
        "rope_parameters": rope | {"partial_rotary_factor": part},
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def partial_rotary_factor(rotary: int, head_width: int) -> float:
    """Return the share of a head that is rotated, such that `int(head_width * share)` is `rotary`."""
    share = rotary / head_width
    return share if int(head_width * share) == rotary else math.nextafter(share, 1.0)
