"""Random models for llama.cpp have the shape of the build that they are timed against."""

from __future__ import annotations

from tests import needs

needs.extra("export")

from pathlib import Path

import pytest

from codegen_lsp.benchmarks.engines import floor
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.benchmarks.random_gguf import write_random_gguf
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.gguf_source.header import read_header
from codegen_lsp.checkpoints.gguf_source.weights import transformers_name
from codegen_lsp.inference.engines.native.weights import read_weights

SHAPES = {
    "codegen25": Architecture("llama", 2, 4, 64, 128, 16, 640, 512, 1e-6),
    "qwen2": Architecture(
        "llama", 2, 6, 96, 192, 16, 640, 512, 1e-6, kv_heads=2, qkv_bias=True, tied=True, rotary_base=1e6
    ),
    "deepseek": Architecture("llama", 2, 4, 64, 128, 16, 640, 512, 1e-6, rotary_base=1e5, rotary_factor=4.0),
    "granite": Architecture(
        "llama", 2, 4, 64, 128, 16, 640, 512, 1e-5, kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True
    ),
    "wide heads": Architecture("llama", 2, 4, 64, 128, 32, 640, 512, 1e-5, head_width=32),
}


@pytest.mark.parametrize("family", SHAPES)
def test_a_random_model_has_the_weights_of_its_shape(family: str, tmp_path: Path) -> None:
    shape = SHAPES[family]
    write_random_build(tmp_path, family, shape)
    path = tmp_path / "model.gguf"
    write_random_gguf(path, read_weights(tmp_path), shape.context)
    header = read_header(path)
    assert {transformers_name(name): place.shape for name, place in header.tensors.items()} == shape.shapes()
    kind = "qwen2" if family == "qwen2" else "llama"
    keys = header.metadata
    assert keys["general.architecture"] == kind
    assert keys[f"{kind}.attention.head_count_kv"] == shape.kv_heads
    assert keys[f"{kind}.attention.key_length"] == shape.head_width
    assert keys[f"{kind}.rope.freq_base"] == shape.rotary_base
    assert keys.get(f"{kind}.rope.scaling.factor", 1.0) == shape.rotary_factor


@needs.mark("peers")
@pytest.mark.parametrize("family", SHAPES)
def test_llama_cpp_runs_a_random_model(family: str, tmp_path: Path) -> None:
    import llama_cpp

    shape = SHAPES[family]
    write_random_build(tmp_path, family, shape)
    write_random_gguf(tmp_path / "model.gguf", read_weights(tmp_path), shape.context)
    model = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=64, n_threads=1, verbose=False)
    assert next(iter(model.generate([1, 2, 3], top_k=1, temp=0.0))) < shape.rows


def test_the_floor_counts_the_heads_of_keys_and_values(tmp_path: Path) -> None:
    shape = SHAPES["qwen2"]
    info = write_random_build(tmp_path, "qwen2", shape)
    more = floor(tmp_path, info, 300, 1e6).decode_step_ms - floor(tmp_path, info, 200, 1e6).decode_step_ms
    assert more == pytest.approx(100 * shape.layers * 2 * shape.kv_heads * shape.head_width * 4 / 1e6 * 1e3)
