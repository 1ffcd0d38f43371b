"""A model of a build's shape with random weights for llama.cpp, in Q8_0: 8-bit blocks of 32 weights with one scale.

GPT-NeoX is the architecture of llama.cpp that is nearest to CodeGen's block, with attention and MLP in parallel; it has
one LayerNorm more, whose cost is negligible. CodeGen2.5 is a Llama. A Llama's block with biases of query, key and value
is Qwen2's, whose rotary embedding pairs entries as ours does.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.engines.native.arrays import address
from codegen_lsp.inference.engines.native.weights import ModelWeights

BLOCK = 32
SCALE = np.float16(0.0005)


def write_random_gguf(path: Path, weights: ModelWeights, context: int) -> None:
    """Write the file. Raises: OSError when the disk is full."""
    llama = weights.block_type == "llama"
    first = weights.layers[0]
    width, hidden = weights.width, weights.mlp_width
    rows = weights.padded_vocab_size
    biased = first.qkv_bias is not None
    writer = gguf.GGUFWriter(path, ("qwen2" if biased and first.o_bias is None else "llama") if llama else "gptneox")
    writer.add_vocab_size(rows)
    writer.add_tokenizer_model("none")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(len(weights.layers))
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(weights.heads)
    writer.add_rope_dimension_count(weights.rotary)
    if llama:
        writer.add_head_count_kv(weights.kv_heads)
        writer.add_key_length(weights.head_width)
        writer.add_value_length(weights.head_width)
        writer.add_rope_freq_base(weights.rotary_base)
        if weights.rotary_factor != 1:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(weights.rotary_factor)
        if weights.rotary_divisors is not None:
            writer.add_tensor("rope_freqs.weight", weights.rotary_divisors)
        writer.add_layer_norm_rms_eps(weights.epsilon)
    else:
        writer.add_layer_norm_eps(weights.epsilon)
        writer.add_parallel_residual(True)
    random = np.random.default_rng(0)

    def matrix(name: str, outputs: int, inputs: int, *, bias: bool = False) -> None:
        blocks = np.empty((outputs, inputs // BLOCK, 2 + BLOCK), np.uint8)
        blocks[:, :, :2] = np.frombuffer(SCALE.tobytes(), np.uint8)
        blocks[:, :, 2:] = random.integers(0, 256, (outputs, inputs // BLOCK, BLOCK), np.uint8)
        quantized = blocks.reshape(outputs, -1)
        writer.add_tensor(f"{name}.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        if bias:
            writer.add_tensor(f"{name}.bias", np.zeros(outputs, np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        if not llama:
            writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    matrix("token_embd", rows, width)
    for layer in range(len(weights.layers)):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        if llama:
            matrix(f"{block}.attn_q", weights.attention_width, width, bias=biased)
            for part in ("attn_k", "attn_v"):
                matrix(f"{block}.{part}", weights.kv_width, width, bias=biased)
            matrix(f"{block}.ffn_gate", hidden, width, bias=first.gate_bias is not None)
        else:
            matrix(f"{block}.attn_qkv", 3 * width, width, bias=True)
        matrix(f"{block}.attn_output", width, weights.attention_width, bias=not llama or first.o_bias is not None)
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.ffn_up", hidden, width, bias=first.up_bias is not None)
        matrix(f"{block}.ffn_down", width, hidden, bias=first.down_bias is not None)
    norm("output_norm")
    if address(weights.lm_head.values) != address(weights.embedding.values):  # otherwise it is tied
        matrix("output", rows, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@cache
def _silent(llama_cpp: Any) -> Any:
    """Return a callback of llama.cpp's that logs nothing; it is kept as long as llama.cpp may call it."""
    return llama_cpp.llama_log_callback(lambda level, text, data: None)


def quantize_to_q4(file: Path, threads: int) -> Path:
    """Return a new file beside a GGUF file, which llama.cpp has quantized to Q4_K_M, and remove the old one.

    That is a mixture: matrices whose columns are no multiple of 256 become Q5_0 and Q8_0. Raises: ModelError when
    llama.cpp fails.
    """
    import llama_cpp

    made = file.with_name("q4.gguf")
    # A line for each tensor would fill the pipe to which a peer writes its errors.
    llama_cpp.llama_log_set(_silent(llama_cpp), None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(file).encode(), str(made).encode(), ctypes.byref(parameters)):
        raise ModelError("llama.cpp can't quantize a model of this shape to Q4_K_M.", "Leave out `--bits`.")
    file.unlink()
    return made
