"""The tensors of a GGUF file under transformers' names, dequantized one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.export.rows import pairs_to_halves
from codegen_lsp.checkpoints.gguf_source.description import DIVISORS
from codegen_lsp.checkpoints.gguf_source.header import GgufHeader, GgufTensor
from codegen_lsp.checkpoints.weights import CheckpointWeights
from codegen_lsp.errors import ConversionError
from codegen_lsp.temporary_folder import TemporaryFolder

OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
"""Names in GGUF, and those of transformers."""
INNER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
IN_PLACE: dict[GGMLQuantizationType, Any] = {
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
}
"""Types that are used as they are in the mapped file."""
GIGABYTE = 10**9


class GgufWeights(CheckpointWeights):
    """The tensors of a GGUF file by their names in transformers.

    Float tensors are private maps of the file: treat them as read-only. Others are dequantized to float32 when they are
    read. With `scratch`, a folder, they are kept in a temporary file there, so that many can be held at once, without
    taking memory.
    """

    def __init__(self, header: GgufHeader, architecture: Architecture, scratch: Path | None = None) -> None:
        """Raises ConversionError when the file has tensors that the architecture lacks, or the disk is too full."""
        self._header = header
        self._architecture = architecture
        self._permuted = header.metadata.get("general.architecture") == "llama"
        self._tensors = {transformers_name(name): tensor for name, tensor in header.tensors.items() if name != DIVISORS}
        unknown = sorted(self._tensors.keys() - architecture.shapes().keys())
        if unknown:
            raise ConversionError(
                f"{header.path} has the tensor {unknown[0]}, which this architecture lacks: its model has a variant "
                "that is not supported.",
                "Choose a model that docs/models.md lists.",
            )
        self._bytes: Any = np.memmap(header.path, np.uint8, mode="c")
        self._kept: dict[str, Tensor] = {}
        self._scratch = self._new_scratch(scratch) if scratch else None

    def __getitem__(self, name: str) -> Tensor:
        if name in self._kept:
            return self._kept[name]
        tensor = self._tensors[name]
        found = torch.from_numpy(self._values(name, tensor))
        if self._turned(name):
            heads = self._architecture.heads if ".q_proj." in name else self._architecture.kv_heads
            found = pairs_to_halves(found, heads, self._architecture.rotary)
        if self._scratch is not None and not self._in_place(name, tensor):
            found = self._keep(name, found)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __exit__(self, *exception: object) -> None:
        self._kept.clear()
        self._bytes = None
        if self._scratch is not None:
            self._scratch.remove()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def _values(self, name: str, tensor: GgufTensor) -> Any:
        data = self._bytes[tensor.start : tensor.start + tensor.bytes]
        if tensor.type in IN_PLACE:
            return data.view(IN_PLACE[tensor.type]).reshape(tensor.shape)
        rows = data.reshape(*tensor.shape[:-1], -1)
        try:
            return quants.dequantize(rows, tensor.type).reshape(tensor.shape)
        except NotImplementedError as error:
            raise ConversionError(
                f"The tensor {name} of {self._header.path} has the type {tensor.type.name}, which can't be read here.",
                "Fetch the model in Q8_0 or F16.",
            ) from error

    def _turned(self, name: str) -> bool:
        """Return whether llama.cpp's converter reorders the rows: it does for a Llama, not for Qwen2."""
        return self._permuted and (".q_proj." in name or ".k_proj." in name)

    def _in_place(self, name: str, tensor: GgufTensor) -> bool:
        return tensor.type in IN_PLACE and not self._turned(name)

    def _new_scratch(self, parent: Path) -> TemporaryFolder:
        needed = sum(
            4 * int(np.prod(tensor.shape, dtype=np.int64))
            for name, tensor in self._tensors.items()
            if not self._in_place(name, tensor)
        )
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise ConversionError(
                f"Converting this file takes {needed / GIGABYTE:.1f} GB on the disk of {parent}, "
                f"{free / GIGABYTE:.1f} GB are free.",
                "Make room there, or convert it on another machine and copy the build.",
            )
        return TemporaryFolder(".floats-", parent)

    def _keep(self, name: str, values: Tensor) -> Tensor:
        """Write a tensor to the scratch folder; return a map of it."""
        assert self._scratch is not None
        path = self._scratch.path / f"{len(self._kept)}.bin"
        mapped: Any = np.memmap(path, values.numpy().dtype, mode="w+", shape=tuple(values.shape))
        mapped[...] = values.numpy()
        self._kept[name] = torch.from_numpy(mapped)
        return self._kept[name]


def transformers_name(name: str) -> str:
    """Return the name in transformers of a tensor in GGUF; the same name where there is none."""
    if name in OUTER:
        return OUTER[name]
    block, _, rest = name.partition(".")
    index, _, leaf = rest.partition(".")
    part, _, kind = leaf.rpartition(".")
    if block == "blk" and index.isdecimal() and part in INNER and kind in ("weight", "bias"):
        return f"model.layers.{index}.{INNER[part]}.{kind}"
    return name
