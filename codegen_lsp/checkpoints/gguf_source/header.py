"""Read the header of a GGUF file: its metadata, and where its tensors lie.

The `gguf` package has a reader, but it trusts the counts of a file: on a damaged one it goes on for ever, or takes all
memory. Here all counts and lengths are checked against the size of the file before anything is made from them.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

from attrs import frozen
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from codegen_lsp.errors import ConversionError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Bytes to which tensors are aligned, unless `general.alignment` says otherwise."""
LARGEST_ALIGNMENT = 1 << 20
MOST_ENTRIES = 1 << 16
"""Keys, and tensors, of a file; models of 100 layers have about 1,000 tensors."""
MOST_ITEMS = 1 << 22
"""Items of an array. The largest are merges of a tokenizer, of which models have up to 520,000."""
MOST_DIMENSIONS = 4

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values, by GGUF's numbers, in the terms of `struct`."""
STRING, ARRAY = 8, 9

FETCH_AGAIN = "Fetch the file again; a download that was cut off is the usual cause."

Metadata = dict[str, Any]
"""Numbers, booleans, strings, and lists of these, by key."""


@frozen
class GgufTensor:
    """The place of a tensor in its file."""

    shape: tuple[int, ...]
    """The last dimension is contiguous, as in torch; GGUF lists the dimensions in the reverse order."""
    type: GGMLQuantizationType
    start: int
    """Offset in bytes from the beginning of the file."""
    bytes: int


@frozen
class GgufHeader:
    """Everything in a GGUF file but the data of its tensors."""

    path: Path
    metadata: Metadata
    tensors: dict[str, GgufTensor]


class BeginningError(ConversionError):
    """The header of a file goes beyond the beginning of it that is there."""


def read_header(path: Path, size: int | None = None) -> GgufHeader:
    """Read the header.

    `size` is given for a file of which only the beginning is there: the bytes that the whole one has. Raises
    BeginningError when the header does not end in this beginning, and ConversionError when the file is none in GGUF, is
    damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ConversionError(
                    f"{path} is not a GGUF file.", "Give a .gguf file, or the folder of a checkpoint."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _HeaderReader(path, data, len(data) if size is None else size).header()
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConversionError(f"{path} can't be read: {error}.", FETCH_AGAIN) from error


class _HeaderReader:
    """A position in the file, behind which nothing is read that the file does not have."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self._path = path
        self._data = data
        self._size = size
        self._at = len(MAGIC)

    def header(self) -> GgufHeader:
        version = self._number("I")
        if version not in VERSIONS:
            big_endian = version & 0xFFFF == 0
            kind = "for big-endian machines" if big_endian else f"in version {version} of GGUF"
            raise ConversionError(
                f"{self._path} is {kind}; versions {VERSIONS[0]} and {VERSIONS[1]} in little endian can be read.",
                "Fetch a newer file of this model.",
            )
        tensor_count, key_count = self._count("Q", "tensors", MOST_ENTRIES), self._count("Q", "keys", MOST_ENTRIES)
        metadata: Metadata = {}
        for _ in range(key_count):
            key = self._text()
            if key in metadata:
                raise self._damaged(f"it has the key {key} twice")
            metadata[key] = self._value(self._number("I"))
        described = [self._description() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment!r}")
        data = math.ceil(self._at / alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, dimensions, type, offset in described:
            if name in tensors:
                raise self._damaged(f"it has the tensor {name} twice")
            if offset % alignment:
                raise self._damaged(f"the tensor {name} is not aligned")
            tensors[name] = self._tensor(name, dimensions, type, data + offset)
        return GgufHeader(self._path, metadata, tensors)

    def _description(self) -> tuple[str, list[int], int, int]:
        """Return name, dimensions, type, and offset of a tensor in the data."""
        name = self._text()
        dimensions = [self._number("Q") for _ in range(self._count("I", "dimensions", MOST_DIMENSIONS))]
        return name, dimensions, self._number("I"), self._number("Q")

    def _tensor(self, name: str, dimensions: list[int], kind: int, start: int) -> GgufTensor:
        try:
            type = GGMLQuantizationType(kind)
        except ValueError:
            raise ConversionError(
                f"The tensor {name} of {self._path} has a type that is not known here, {kind}.",
                "Upgrade the package gguf, or fetch the model in Q8_0 or F16.",
            ) from None
        block, block_bytes = GGML_QUANT_SIZES[type]
        if not dimensions or 0 in dimensions or dimensions[0] % block:
            raise self._damaged(f"the tensor {name} has the dimensions {dimensions} in blocks of {block}")
        size = math.prod(dimensions) // block * block_bytes
        if start + size > self._size:
            raise ConversionError(
                f"{self._path} is truncated: the tensor {name} would end at byte {start + size}, the file has "
                f"{self._size}.",
                FETCH_AGAIN,
            )
        return GgufTensor(tuple(reversed(dimensions)), type, start, size)

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind in SCALARS:
            return self._number(SCALARS[kind])
        if kind != ARRAY:
            raise self._damaged(f"a value has the type {kind}")
        inner, count = self._number("I"), self._count("Q", "items", MOST_ITEMS)
        if inner == STRING:
            return [self._text() for _ in range(count)]
        if inner not in SCALARS:
            raise self._damaged(f"an array has items of the type {inner}")
        form = f"<{count}{SCALARS[inner]}"
        return list(struct.unpack(form, self._take(struct.calcsize(form))))

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8")

    def _count(self, form: str, what: str, most: int) -> int:
        found: int = self._number(form)
        if found > most:
            raise self._damaged(f"it declares {found} {what}")
        return found

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))[0]

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if len(self._data) < end <= self._size:
            raise BeginningError(f"The header of {self._path} goes on.", "Read more of the file.")
        if end > self._size:
            raise ConversionError(
                f"{self._path} is damaged or truncated: its header would go beyond its end.", FETCH_AGAIN
            )
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _damaged(self, reason: str) -> ConversionError:
        return ConversionError(f"{self._path} is damaged: {reason}.", FETCH_AGAIN)
