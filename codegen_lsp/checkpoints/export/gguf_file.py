"""Write a model as a GGUF file of llama.cpp: architecture `phi2`, or `llama` for CodeGen2.5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codegen_lsp.checkpoints.export.blocks import exported_shapes, exported_weights
from codegen_lsp.checkpoints.export.gguf_vocabulary import GgufVocabulary
from codegen_lsp.checkpoints.export.rows import halves_to_pairs
from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.checkpoints.export.types import matrix_bytes, rounded, stored_type
from codegen_lsp.checkpoints.rotary_scaling import ROTARY_BASE

OUTER = {
    "model.embed_tokens": "token_embd",
    "model.final_layernorm": "output_norm",
    "model.norm": "output_norm",
    "lm_head": "output",
}
"""Names of transformers, and those of GGUF."""
INNER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.dense": "attn_output",
    "self_attn.o_proj": "attn_output",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


def write_gguf_file(
    source: ExportSource, vocabulary: GgufVocabulary, path: Path, type: str, on_weight: Callable[[float], None]
) -> None:
    """Write the file, with matrices of the type `f32`, `f16` or `q8_0`, one weight in memory at a time.

    Raises: ConversionError when the type can't represent a weight, OSError.
    """
    writer = gguf.GGUFWriter(path, "llama" if source.architecture.block == "llama" else "phi2")
    _write_description(writer, source, type)
    _write_tokenizer(writer, source, vocabulary)
    shapes = exported_shapes(source)
    for name, shape in shapes.items():
        kind = stored_type(shape, type)
        dtype = np.dtype(np.float16 if kind == "f16" else np.float32)
        writer.add_tensor_info(gguf_name(name), shape, dtype, matrix_bytes(shape, type), TYPES[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (name, weight) in enumerate(exported_weights(source), 1):
        writer.write_tensor_data(_stored(name, weight, source, stored_type(shapes[name], type)))
        on_weight(done / len(shapes))
    writer.close()


def gguf_name(name: str) -> str:
    """Return the name in GGUF of a weight of transformers' Phi or Llama."""
    whole, leaf = name.rsplit(".", 1)
    if whole in OUTER:
        return f"{OUTER[whole]}.{leaf}"
    _, _, index, part = whole.split(".", 3)
    return f"blk.{index}.{INNER[part]}.{leaf}"


def _stored(name: str, weight: Tensor, source: ExportSource, kind: str) -> NDArray[Any]:
    """Return the bytes of a weight. llama.cpp's Llama rotates adjacent pairs, where transformers' rotates halves."""
    llama = source.architecture.block == "llama"
    if llama and name.endswith(("q_proj.weight", "k_proj.weight")):
        weight = halves_to_pairs(weight, source.architecture.heads, source.architecture.rotary)
    if kind != "q8_0":
        return rounded(name, weight, kind).numpy()
    stored: NDArray[Any] = gguf.quants.quantize(weight.to(torch.float32).contiguous().numpy(), TYPES["q8_0"])
    return stored


def _write_description(writer: gguf.GGUFWriter, source: ExportSource, type: str) -> None:
    shape, info = source.architecture, source.info
    writer.add_name(info.name)
    writer.add_license(info.license)
    writer.add_tags(info.languages or ["text-generation"])
    writer.add_file_type(FILE_TYPES[type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.rotary)
    writer.add_rope_freq_base(ROTARY_BASE)
    writer.add_vocab_size(info.vocabulary_size)
    if shape.block == "llama":
        writer.add_layer_norm_rms_eps(shape.epsilon)
    else:
        writer.add_layer_norm_eps(shape.epsilon)


def _write_tokenizer(writer: gguf.GGUFWriter, source: ExportSource, vocabulary: GgufVocabulary) -> None:
    end = source.info.end_of_text
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if source.info.infill_end is not None:
        writer.add_eot_token_id(source.info.infill_end)
