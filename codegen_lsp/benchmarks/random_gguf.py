"""A model of a build's shape with random weights for llama.cpp, in Q8_0: 8-bit blocks of 32 weights with one scale.

GPT-NeoX is the architecture of llama.cpp that is nearest to CodeGen's block, with attention and MLP in parallel; it has
one LayerNorm more, whose cost is negligible. CodeGen2.5 is a Llama.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from codegen_lsp.inference.engines.native.weights import ModelWeights

BLOCK = 32
SCALE = np.float16(0.0005)


def write_random_gguf(path: Path, weights: ModelWeights, context: int) -> None:
    """Write the file. Raises: OSError when the disk is full."""
    llama = weights.block_type == "llama"
    width, hidden = weights.width, weights.mlp_width
    rows = weights.padded_vocab_size
    writer = gguf.GGUFWriter(path, "llama" if llama else "gptneox")
    writer.add_vocab_size(rows)
    writer.add_tokenizer_model("none")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(len(weights.layers))
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(weights.heads)
    writer.add_rope_dimension_count(weights.rotary)
    if llama:
        writer.add_layer_norm_rms_eps(weights.epsilon)
    else:
        writer.add_layer_norm_eps(weights.epsilon)
        writer.add_parallel_residual(True)
    random = np.random.default_rng(0)

    def matrix(name: str, outputs: int, inputs: int) -> None:
        blocks = np.empty((outputs, inputs // BLOCK, 2 + BLOCK), np.uint8)
        blocks[:, :, :2] = np.frombuffer(SCALE.tobytes(), np.uint8)
        blocks[:, :, 2:] = random.integers(0, 256, (outputs, inputs // BLOCK, BLOCK), np.uint8)
        quantized = blocks.reshape(outputs, -1)
        writer.add_tensor(f"{name}.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        if not llama and name.startswith("blk"):
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
            for part in ("attn_q", "attn_k", "attn_v"):
                matrix(f"{block}.{part}", width, width)
            matrix(f"{block}.ffn_gate", hidden, width)
        else:
            matrix(f"{block}.attn_qkv", 3 * width, width)
        matrix(f"{block}.attn_output", width, width)
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.ffn_up", hidden, width)
        matrix(f"{block}.ffn_down", width, hidden)
    norm("output_norm")
    matrix("output", rows, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
