"""Write a model as a folder of transformers: safetensors, config.json and the tokenizer's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from codegen_lsp.checkpoints.export.blocks import exported_shapes, exported_weights, transformers_config
from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.checkpoints.export.types import TORCH_TYPES, rounded

SHARD_BYTES = 2 << 30
"""Largest size of a file of weights, which is in memory as a whole while it is written; as large as the largest tensor
where that is larger."""


def write_transformers_folder(
    source: ExportSource, folder: Path, type: str, on_weight: Callable[[float], None], shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the files to an existing folder, with weights of the type `f32`, `f16` or `bf16`.

    Raises: ConversionError when the type can't represent a weight, OSError.
    """
    shards = plan_shards(exported_shapes(source), TORCH_TYPES[type].itemsize, shard_bytes)
    _write_weights(source, folder, type, shards, on_weight)
    dtype = str(TORCH_TYPES[type]).removeprefix("torch.")
    _write_json(folder / "config.json", transformers_config(source, dtype))
    end = source.info.end_of_text
    _write_json(folder / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
    (folder / "tokenizer.json").write_text(source.fast.to_str(pretty=True), encoding="utf-8")
    name = source.fast.id_to_token(end)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name,
            "eos_token": name,
            "unk_token": name,
            "model_max_length": source.info.context_length,
            "clean_up_tokenization_spaces": False,
        },
    )


def plan_shards(shapes: dict[str, tuple[int, ...]], itemsize: int, limit: int) -> list[list[str]]:
    """Return the names of the weights of each file, in their order."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = itemsize * shape[0] * (shape[1] if len(shape) == 2 else 1)
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_weights(
    source: ExportSource, folder: Path, type: str, shards: list[list[str]], on_weight: Callable[[float], None]
) -> None:
    files = _file_names(len(shards))
    places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    last = {names[-1]: file for file, names in zip(files, shards, strict=True)}
    shard: dict[str, Tensor] = {}
    total = 0
    for done, (name, weight) in enumerate(exported_weights(source), 1):
        shard[name] = rounded(name, weight, type).clone()  # safetensors refuses tensors that share memory
        total += shard[name].nbytes
        on_weight(done / len(places))
        if name in last:
            path = folder / last[name]
            path.touch()  # safetensors makes new files for the user alone
            mode = path.stat().st_mode
            save_file(shard, path, metadata={"format": "pt"})
            path.chmod(mode)
            shard = {}
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        _write_json(folder / "model.safetensors.index.json", index)


def _file_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
