"""Builds of a checkpoint's shape with random weights: as fast as the real one, without a download.

They are in CTranslate2's format (`inference/engines/native/weights.py`), so that both engines run them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.inference.build import BuildInfo, WeightFormat, read_info, write_info
from codegen_lsp.inference.engines.native.model_file import BINARY_VERSION, SPECIFICATION
from codegen_lsp.inference.engines.native.weights import DIVIDED_FREQUENCIES, GELU_TANH, LINEAR_SCALING, SWISH

TYPES = {
    np.dtype(np.float32): 0,
    np.dtype(np.int8): 1,
    np.dtype(np.int16): 2,
    np.dtype(np.int32): 3,
    np.dtype(np.float16): 4,
}
REVISION = 8
"""Revision of CTranslate2's specification of decoders."""

Values = NDArray[np.generic]


def write_random_build(
    directory: Path, name: str, architecture: Architecture, weights: WeightFormat | None = None
) -> BuildInfo:
    """Write a build of that shape into an existing empty directory, with int8 weights unless others are asked for.

    Raises: OSError when the disk is full.
    """
    variables = _variables(architecture, weights)
    with (directory / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", BINARY_VERSION))
        _write_text(file, SPECIFICATION)
        file.write(struct.pack("<II", REVISION, len(variables)))
        for variable in sorted(variables):
            _write_variable(file, f"decoder/{variable}", variables[variable]())
        tied = ("weight", "weight_scale") if architecture.tied else ()
        file.write(struct.pack("<I", len(tied)))
        for part in tied:
            _write_text(file, f"decoder/projection/{part}")
            _write_text(file, f"decoder/embeddings/{part}")
    pieces = [f"t{row}" for row in range(architecture.rows)]
    (directory / "vocabulary.json").write_text(json.dumps(pieces), encoding="utf-8")
    marks = {"bos_token": pieces[0], "eos_token": pieces[0], "unk_token": pieces[0]}
    config = marks | {"layer_norm_epsilon": architecture.epsilon}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = WordLevel({piece: row for row, piece in enumerate(pieces)}, unk_token=pieces[0])
    # The library has no class of its own for the error of a full disk, so it does not write the file.
    (directory / "tokenizer.json").write_text(FastTokenizer(words).to_str(pretty=True), encoding="utf-8")
    write_info(
        directory,
        BuildInfo(
            name=name,
            family={"llama": "codegen25", "codegen": "codegen"}.get(architecture.block, architecture.block),
            source="random weights",
            license="none",
            context_length=architecture.context,
            vocabulary_size=architecture.rows,
            layers=architecture.layers,
            heads=architecture.heads,
            width=architecture.width,
            end_of_text=0,
            kv_width=architecture.kv_width,
            quantization="int8" if weights is None or weights.bits == 8 else "int4",
            weights=weights,
        ),
    )
    return read_info(directory)


def _variables(architecture: Architecture, weights: WeightFormat | None) -> dict[str, Callable[[], Values]]:
    """Return a factory for each variable; they are made one at a time, since a large model would not fit in memory."""
    random = np.random.default_rng(0)
    width, hidden = architecture.width, architecture.hidden
    llama, learned = architecture.block == "llama", architecture.block == "gpt_bigcode"
    separate = llama or learned
    """True where attention and MLP have a norm each."""
    made: dict[str, Callable[[], Values]] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        if weights is not None and weights.group and columns % weights.group == 0:
            groups = columns // weights.group
            made[f"{name}/weight"] = lambda: random.integers(-128, 128, (rows, columns // 2), dtype=np.int8)
            made[f"{name}/weight_scale"] = lambda: _group_scales(random, rows, groups, columns)
            return
        made[f"{name}/weight"] = lambda: random.integers(-127, 128, (rows, columns), dtype=np.int8)
        made[f"{name}/weight_scale"] = lambda: np.full(rows, 127 * columns**0.5 / 2, dtype=np.float32)

    def norm(name: str) -> None:
        made[f"{name}/gamma"] = lambda: np.ones(width, dtype=np.float32)
        if not llama:
            made[f"{name}/beta"] = lambda: np.zeros(width, dtype=np.float32)

    def bias(name: str, size: int, present: bool) -> None:
        if present:
            made[f"{name}/bias"] = lambda: random.normal(0, 0.1, size).astype(np.float32)

    for index in range(architecture.layers):
        layer = f"layer_{index}"
        attention, mlp = f"{layer}/self_attention", f"{layer}/ffn"
        fused = architecture.attention_width + 2 * architecture.kv_width
        matrix(f"{attention}/linear_0", fused, width)
        bias(f"{attention}/linear_0", fused, architecture.qkv_bias)
        matrix(f"{attention}/linear_1", width, architecture.attention_width)
        bias(f"{attention}/linear_1", width, architecture.o_bias)
        if not learned:
            made[f"{attention}/rotary_base"] = lambda: np.array(architecture.rotary_base, np.float32)
            made[f"{attention}/rotary_dim"] = lambda: np.array(architecture.rotary, np.int32)
            made[f"{attention}/rotary_interleave"] = lambda: np.array(0, np.int8)
        if architecture.rotary_factor != 1:
            made[f"{attention}/rotary_scaling_type"] = lambda: np.array(LINEAR_SCALING, np.int8)
            made[f"{attention}/rotary_scaling_factor"] = lambda: np.array(architecture.rotary_factor, np.float32)
        if architecture.rotary_divisors:
            made[f"{attention}/rotary_scaling_type"] = lambda: np.array(DIVIDED_FREQUENCIES, np.int8)
            for length in ("long", "short"):
                name = f"{attention}/rotary_scaling_{length}_factor"
                made[name] = lambda: np.array(architecture.rotary_divisors, np.float32)
        if architecture.kv_heads != architecture.heads:
            made[f"{attention}/num_heads_kv"] = lambda: np.array(architecture.kv_heads, np.int32)
        if architecture.head_width * architecture.heads != width:
            made[f"{attention}/head_dim"] = lambda: np.array(architecture.head_width, np.int32)
        matrix(f"{mlp}/linear_0", hidden, width)
        bias(f"{mlp}/linear_0", hidden, architecture.mlp_bias or not llama)
        matrix(f"{mlp}/linear_1", width, hidden)
        bias(f"{mlp}/linear_1", width, architecture.mlp_bias or not llama)
        if llama:
            matrix(f"{mlp}/linear_0_noact", hidden, width)
            bias(f"{mlp}/linear_0_noact", hidden, architecture.mlp_bias)
        if separate:
            norm(f"{attention}/layer_norm")
            norm(f"{mlp}/layer_norm")
        else:
            norm(f"{layer}/shared_layer_norm")
    matrix("embeddings", architecture.rows, width)
    norm("layer_norm")
    if not architecture.tied:
        matrix("projection", architecture.rows, width)
    bias("projection", architecture.rows, not separate)
    if learned:
        positions = (architecture.context, width)
        made["position_encodings/encodings"] = lambda: random.normal(0, 0.1, positions).astype(np.float32)
    numbers: dict[str, Values] = {
        "activation": np.array(SWISH if llama else GELU_TANH, np.int8),
        "alibi": np.array(0, np.int8),
        "alibi_use_positive_positions": np.array(0, np.int8),
        "alignment_heads": np.array(1, np.int16),
        "alignment_layer": np.array(-1, np.int16),
        "num_heads": np.array(architecture.heads, np.int16),
        "pre_norm": np.array(1, np.int8),
        "scale_alibi": np.array(0, np.int8),
        "scale_embeddings": np.array(0, np.int8),
        "start_from_zero_embedding": np.array(0, np.int8),
    }
    return made | {name: partial(np.copy, value) for name, value in numbers.items()}


def _group_scales(random: np.random.Generator, rows: int, groups: int, columns: int) -> Values:
    """Return scales of both signs and different magnitudes, whose products have about the size of their input."""
    magnitudes = random.uniform(0.5, 1.5, (rows, groups)) / 4.7 / columns**0.5
    scales: Values = (magnitudes * random.choice([-1, 1], (rows, groups))).astype(np.float16)
    return scales


def _write_variable(file: BinaryIO, name: str, value: Values) -> None:
    _write_text(file, name)
    file.write(struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
    file.write(struct.pack("<BI", TYPES[value.dtype], value.nbytes))
    file.write(value.tobytes())


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(struct.pack("<H", len(text) + 1) + text.encode("ascii") + b"\0")
