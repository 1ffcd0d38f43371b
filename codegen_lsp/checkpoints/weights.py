"""Read a published checkpoint's folder: config.json and float weights, one tensor at a time.

Checkpoints reach 64 GB, so tensors are loaded on demand: both formats are memory-mapped, and a tensor takes memory only
while it is used. Code of a checkpoint is never run: safetensors can't hold any, and a pickle is read by torch's
weights-only loader, which refuses everything but tensors.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from codegen_lsp.errors import ConversionError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files that may hold the weights, in order of preference: formats that can't hold code come first."""

DOWNLOAD_AGAIN = "Fetch the checkpoint again; a download that was cut off is the usual cause."


class CheckpointWeights(Mapping[str, "Tensor"], AbstractContextManager["CheckpointWeights"]):
    """The tensors of a checkpoint by their names in transformers. Closing releases the files."""

    def __enter__(self) -> Self:
        return self

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self[name].shape)


class Weights(CheckpointWeights):
    """The tensors of a checkpoint by name, in the type in which they were saved.

    Tensors are private memory maps of the file: treat them as read-only. Closing releases the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards = _shards(directory)
        self._open: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Tensor:
        shard = self._shards[name]
        try:
            return _tensor(self._file(shard), name)
        except KeyError:
            raise ConversionError(f"{self._directory / shard} lacks the tensor {name}.", DOWNLOAD_AGAIN) from None

    def __contains__(self, name: object) -> bool:
        return name in self._shards

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def __exit__(self, *exception: object) -> None:
        self._open.clear()

    def _file(self, shard: str) -> Any:
        if shard not in self._open:
            self._open[shard] = _open(self._directory / shard)
        return self._open[shard]


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold the weights, as `WEIGHT_FILES` prefers.

    Raises ConversionError when there are none, or an index names a file that is missing.
    """
    source = _source(directory)
    if not source.name.endswith(".index.json"):
        return [source]
    shards = [directory / shard for shard in sorted(set(_index(source).values()))]
    for shard in shards:
        if not shard.is_file():
            raise ConversionError(f"{source} names {shard.name}, which is missing.", DOWNLOAD_AGAIN)
    return shards


def check_shapes(weights: CheckpointWeights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ConversionError when a weight is missing or has another shape."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ConversionError(f"The checkpoint lacks the weight {name}.", DOWNLOAD_AGAIN)
        found = weights.shape(name)
        if found != shape:
            raise ConversionError(f"The weight {name} is {found}, where config.json makes it {shape}.", DOWNLOAD_AGAIN)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a checkpoint's folder. Raises ConversionError when it is missing or not a JSON object."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(
            f"{path.parent} has no {path.name}.", "Give the folder of a checkpoint in Hugging Face's format."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} can't be read: {error}.", DOWNLOAD_AGAIN) from error
    if not isinstance(raw, dict):
        raise ConversionError(f"{path} holds no JSON object.", DOWNLOAD_AGAIN)
    return raw


def _source(directory: Path) -> Path:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise ConversionError(
        f"{directory} has no weights.", f"A checkpoint's folder holds one of {', '.join(WEIGHT_FILES)}."
    )


def _shards(directory: Path) -> dict[str, str]:
    """Return the file that holds each tensor, by the tensor's name."""
    source = _source(directory)
    if source.name.endswith(".index.json"):
        weight_files(directory)
        return _index(source)
    return dict.fromkeys(_open(source).keys(), source.name)


def _index(path: Path) -> dict[str, str]:
    return dict(index_of_shards(path))


def index_of_shards(path: Path) -> Mapping[str, str]:
    """Read the index of sharded weights: the file of each tensor, by the tensor's name.

    Raises ConversionError when it is damaged, or names a file outside of the folder.
    """
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ConversionError(f"{path} has no weight_map.", DOWNLOAD_AGAIN)
    for shard in index.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ConversionError(f"{path} names {shard!r}, which is not a file of this folder.", DOWNLOAD_AGAIN)
    return index


def _open(path: Path) -> Any:
    """Open a file: return a safetensors handle, or the dictionary of a weights-only pickle."""
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConversionError(
            f"{os.fsencode(path)!r} is not UTF-8, and files in safetensors format can't be opened under such a name.",
            "Rename the folder.",
        ) from error
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"{path} is damaged or truncated: {error}.", DOWNLOAD_AGAIN) from error


def _open_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        zipped = _is_zip(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path} holds more than tensors and was not read, because that would run code of the checkpoint.",
            "Use a checkpoint in safetensors format.",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ConversionError(f"{path} is damaged or truncated: {error}.", DOWNLOAD_AGAIN) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ConversionError(f"{path} holds no dictionary of tensors.", "Use a checkpoint in safetensors format.")
    return loaded


def _is_zip(path: Path) -> bool:
    """Return whether torch can map the file. Files of torch before 1.6 are plain pickles and must be read whole."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _tensor(opened: Any, name: str) -> Tensor:
    if isinstance(opened, dict):
        tensor: Tensor = opened[name]
        return tensor
    if name not in opened.keys():  # noqa: SIM118 - a safetensors handle is not a mapping
        raise KeyError(name)
    read: Tensor = opened.get_tensor(name)
    return read
