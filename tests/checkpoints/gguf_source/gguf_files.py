"""GGUF files of small checkpoints, as llama.cpp's converter would write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from tokenizers import Tokenizer

from codegen_lsp.checkpoints.architecture import Architecture

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
K_QUANTS = ("Q4_K", "Q6_K")
"""Types that the gguf package reads but can't write; blocks of them are made of random bits."""
FLOAT_FIELDS = {"Q4_K": {0: 2e-4, 2: 1.5e-3}, "Q6_K": {208: 5e-5}}
"""Float16 numbers of a block by their offsets: scales with which random bits give weights of ordinary size."""

State = dict[str, torch.Tensor]


def quantized(weight: torch.Tensor, type: str, seed: int) -> tuple[Any, torch.Tensor]:
    """Return a weight in a type of GGUF, and the float32 values that these bits stand for."""
    kind = GGMLQuantizationType[type]
    if type in K_QUANTS:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = weight.shape[1] // block
        made = np.random.default_rng(seed).integers(0, 256, (len(weight), blocks, size), np.uint8)
        for at, scale in FLOAT_FIELDS[type].items():
            made[:, :, at : at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        data: Any = made.reshape(len(weight), -1)
    else:
        data = quants.quantize(weight.numpy(), kind)
    return data, torch.from_numpy(np.array(quants.dequantize(data, kind), np.float32))


def shape_in_blocks(shape: Architecture, type: str) -> Architecture:
    """Return a shape like this one whose rows are whole blocks of a type."""
    if type in K_QUANTS:
        kv_heads = 4 if shape.kv_heads == shape.heads else shape.kv_heads
        return attrs.evolve(shape, width=256, hidden=512, heads=4, kv_heads=kv_heads, head_width=64, rotary=64)
    return attrs.evolve(shape, hidden=192) if type in ("Q8_0", "Q5_0") else shape


def permuted(weight: Any, heads: int) -> Any:
    """Reorder the rows of query or key, from one of each half of a head to adjacent pairs."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    shape: Architecture,
    state: State,
    tokenizer: Path,
    type: str = "F32",
    *,
    pre: str | None = "gpt-2",
    begin: str | None = None,
    extra: dict[str, Any] | None = None,
    divisors: Sequence[float] = (),
) -> State:
    """Write the file; return the float32 values of its weights by their names in transformers.

    `begin` is the mark before a text. `extra` replaces keys; None leaves one out. `divisors` are those of the rotary
    frequencies.
    """
    qwen2 = shape.qkv_bias and not shape.o_bias
    kind = "qwen2" if qwen2 else "llama"
    fast = Tokenizer.from_file(str(tokenizer))
    added = {entry["id"]: entry for entry in json.loads(fast.to_str())["added_tokens"]}
    names = [fast.id_to_token(id) or f"[PAD{id}]" for id in range(shape.rows)]
    types = [
        UNUSED if fast.id_to_token(id) is None else NORMAL if id not in added else _type(added[id])
        for id in range(shape.rows)
    ]
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in json.loads(fast.to_str())["model"]["merges"]
    ]
    keys: dict[str, Any] = {
        f"{kind}.context_length": shape.context,
        f"{kind}.embedding_length": shape.width,
        f"{kind}.block_count": shape.layers,
        f"{kind}.feed_forward_length": shape.hidden,
        f"{kind}.attention.head_count": shape.heads,
        f"{kind}.attention.head_count_kv": shape.kv_heads,
        f"{kind}.attention.key_length": shape.head_width,
        f"{kind}.attention.value_length": shape.head_width,
        f"{kind}.attention.layer_norm_rms_epsilon": shape.epsilon,
        f"{kind}.rope.freq_base": shape.rotary_base,
        f"{kind}.rope.dimension_count": shape.rotary,
        "general.license": "mit",
        "general.name": "A model",
        "general.tags": ["python", "code"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": fast.token_to_id("<|endoftext|>"),
        "tokenizer.ggml.bos_token_id": None if begin is None else fast.token_to_id(begin),
        "tokenizer.ggml.add_bos_token": begin is not None,
    }
    if shape.rotary_factor != 1:
        keys |= {f"{kind}.rope.scaling.type": "linear", f"{kind}.rope.scaling.factor": shape.rotary_factor}
    writer = gguf.GGUFWriter(path, kind)
    for key, value in (keys | (extra or {})).items():
        _add(writer, key, value)
    if divisors:
        writer.add_tensor("rope_freqs.weight", np.array(divisors, np.float32))
    values = {}
    for number, (name, weight) in enumerate(state.items()):
        values[name], stored = weight, weight.numpy()
        raw = None
        if weight.dim() == 2:
            data, values[name] = quantized(weight, type, number)
            stored, raw = data, GGMLQuantizationType[type]
        if not qwen2 and ("q_proj" in name or "k_proj" in name):
            stored = permuted(stored, shape.heads if "q_proj" in name else shape.kv_heads)
        writer.add_tensor(_name(name), np.ascontiguousarray(stored), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def _type(entry: dict[str, Any]) -> int:
    return CONTROL if entry["special"] or entry["content"].startswith("<") else USER_DEFINED


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)


def _name(name: str) -> str:
    whole, leaf = name.rsplit(".", 1)
    if whole in NAMES:
        return f"{NAMES[whole]}.{leaf}"
    _, _, index, part = whole.split(".", 3)
    return f"blk.{index}.{NAMES[part]}.{leaf}"
