"""The workspace's n-gram index on disk: one file, memory-mapped when read.

Layout: magic (8 bytes), CRC-32 and length of the table of contents (4 bytes each, little-endian), the table of contents
as JSON, and the arrays, each at a multiple of 64 bytes from the start, with a CRC-32 of their own in the table.

A file is written beside its name and renamed, so readers see the former one or the whole new one, and two writers leave
one of theirs. It is readable by its owner alone: it contains the workspace's text.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.ngram_index import FileVersion, IndexedFile, NgramIndex
from codegen_lsp.inference.engines.native.ngram_segment import ORDERS, Segment

MAGIC = b"CGNGRAM1"
_HEADER = struct.Struct("<8sII")
ALIGNMENT = 64
SUFFIX = ".new"
ABANDONED_SECONDS = 3_600


class DamagedIndexError(Exception):
    """An index file that is truncated or changed, or that belongs to another tokenizer or version."""


def write_index(index: NgramIndex, path: Path, tokenizer: str) -> None:
    """Write an index; `tokenizer` identifies what made the token ids. The index is compacted first.

    Raises OSError; the former file then stays as it was.
    """
    index.compact()
    files = index.files
    segment = next(iter(files.values())).segment if files else None
    arrays = segment.arrays if segment is not None else {}
    contents = {
        "tokenizer": tokenizer,
        "orders": ORDERS,
        "table_counts": segment.table_counts if segment is not None else [],
        "arrays": {name: [array.dtype.str, array.shape, _checksum(array)] for name, array in arrays.items()},
        "files": [[f.version.path, f.version.modified, f.version.size, f.start, f.stop] for f in files.values()],
    }
    table = json.dumps(contents).encode()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_abandoned(path)
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=SUFFIX, dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_HEADER.pack(MAGIC, zlib.crc32(table), len(table)) + table)
            for array in arrays.values():
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                file.write(np.ascontiguousarray(array).data if array.size else b"")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_index(index: NgramIndex, path: Path, tokenizer: str) -> None:
    """Fill an index from a file, which stays mapped.

    Raises FileNotFoundError, other OSErrors, and DamagedIndexError where the file can't be used.
    """
    if path.stat().st_size < _HEADER.size:
        raise DamagedIndexError(f"{path} is truncated")
    data = np.memmap(path, np.uint8, "r")
    try:
        contents, at = _contents(data, path)
        if contents["tokenizer"] != tokenizer or tuple(contents["orders"]) != ORDERS:
            raise DamagedIndexError(f"{path} was made with another tokenizer or version")
        index.replace_all(_files(contents, _arrays(data, at, contents["arrays"], path), path))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedIndexError(f"{path} has a damaged table of contents: {error}") from error


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of this file left, after an hour."""
    for left in path.parent.glob(f"{path.name}*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                left.unlink()


def _contents(data: np.memmap[Any, Any], path: Path) -> tuple[dict[str, Any], int]:
    """Return the table of contents and where it ends."""
    magic, checksum, length = _HEADER.unpack(data[: _HEADER.size].tobytes())
    table = data[_HEADER.size : _HEADER.size + length].tobytes()
    if magic != MAGIC or len(table) != length or zlib.crc32(table) != checksum:
        raise DamagedIndexError(f"{path} is truncated or changed")
    contents: dict[str, Any] = json.loads(table)
    return contents, _HEADER.size + length


def _arrays(data: np.memmap[Any, Any], at: int, kinds: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return views of the arrays, after their checksums."""
    arrays = {}
    for name, (kind, shape, checksum) in kinds.items():
        at += -at % ALIGNMENT
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        part = data[at : at + size]
        if len(part) != size or _checksum(part) != checksum:
            raise DamagedIndexError(f"{path} is truncated or changed")
        arrays[name] = part.view(dtype).reshape(shape)
        at += size
    return arrays


def _files(contents: Mapping[str, Any], arrays: Mapping[str, Any], path: Path) -> dict[str, IndexedFile]:
    if not contents["files"]:
        return {}
    segment = Segment(**arrays, table_counts=tuple(contents["table_counts"]))
    size = len(segment.text)
    if not len(segment.order) == len(segment.successors) == size or sum(segment.table_counts) != len(segment.tables):
        raise DamagedIndexError(f"{path} has arrays of different lengths")
    files = {}
    for name, modified, length, start, stop in contents["files"]:
        if not 0 <= start <= stop < size:
            raise DamagedIndexError(f"{path} names tokens that it does not have")
        files[name] = IndexedFile(FileVersion(name, modified, length), segment, start, stop)
    return files
