"""Types in which weights are exported, and rounding to them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from codegen_lsp.errors import ConversionError

Target = Literal["phi", "gguf"]
"""Format: a folder of transformers (Phi; Llama for CodeGen2.5), or a file of llama.cpp."""

TARGETS: tuple[Target, ...] = ("phi", "gguf")

WEIGHT_TYPES: dict[Target, tuple[str, ...]] = {"phi": ("f32", "f16", "bf16"), "gguf": ("f32", "f16", "q8_0")}
"""Types of matrices by target, in GGUF's names."""

TORCH_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

BLOCK = 32
"""Weights that share a scale in q8_0, and its bytes: one for each weight, two for the scale."""
BLOCK_BYTES = BLOCK + 2


def checked_type(target: Target, chosen: str | None, own: torch.dtype | None) -> str:
    """Return the type of the exported matrices.

    By default it is the checkpoint's own for Phi, and f16 for GGUF and for dequantized builds (`own` is None). Raises:
    ConversionError when the target does not have the chosen type.
    """
    known = WEIGHT_TYPES[target]
    if chosen is None:
        names = {dtype: name for name, dtype in TORCH_TYPES.items()}
        return names.get(own, "f16") if target == "phi" and own is not None else "f16"
    if chosen not in known:
        raise ConversionError(
            f"{target} has no weights of the type {chosen}.", f"Use --weights {', '.join(known[:-1])} or {known[-1]}."
        )
    return chosen


def matrix_bytes(shape: tuple[int, ...], type: str) -> int:
    """Return the size of a weight. Vectors are not quantized."""
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if stored_type(shape, type) == "q8_0":
        return count // BLOCK * BLOCK_BYTES
    return count * (4 if stored_type(shape, type) == "f32" else 2)


def stored_type(shape: tuple[int, ...], type: str) -> str:
    """Return the type of a weight in GGUF: vectors are f32, and matrices that don't fill blocks are f16."""
    if len(shape) == 1:
        return "f32"
    return "f16" if type == "q8_0" and shape[1] % BLOCK else type


def rounded(name: str, weight: Tensor, type: str) -> Tensor:
    """Return a weight in a type of torch.

    Raises: ConversionError when it has values that the type can't represent.
    """
    found = weight.to(TORCH_TYPES[type])
    if not bool(torch.isfinite(found).all()):
        raise ConversionError(
            f"{name} has values that {type} can't represent.", "Export with --weights f32, or check the checkpoint."
        )
    return found.contiguous()
