"""Reader of `model.bin`, the file in which CTranslate2 stores a model.

The format, binary version 6, which CTranslate2 has written since 2.11, is the one that
`ctranslate2/specs/model_spec.py` writes: little-endian throughout; version, name and revision of the specification; the
number of variables; for each its name, shape, type, size and bytes; then the number of aliases, and pairs of names.

Variables are views of the mapped file, so that loading them costs no copy and processes share the pages.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.engines.native.arrays import Floats

BINARY_VERSION = 6
SPECIFICATION = "TransformerDecoderSpec"
TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
"""By CTranslate2's type number."""
MAX_VARIABLES = 1_000_000
CONVERT_AGAIN = "Pull or convert the model again."


@frozen(eq=False)
class Variable:
    """Values of the mapped file, which may lie at any address."""

    type: str
    """One of `TYPES`."""
    values: NDArray[Any]
    """Of the dtype `type`; those of bfloat16, which numpy does not have, as uint16."""

    def floats(self) -> Floats:
        """Return a copy as float32."""
        if self.type != "bfloat16":
            return self.values.astype(np.float32)
        return (self.values.astype(np.uint32) << 16).view(np.float32)


def map_file(path: Path) -> mmap.mmap:
    """Map a file into memory, copy-on-write.

    Raises: ModelError when it can't be read.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # an empty file can't be mapped
        raise ModelError(f"{path} can't be read: {error}.", CONVERT_AGAIN) from error


def read_variables(path: Path, buffer: mmap.mmap) -> dict[str, Variable]:
    """Read all variables of a mapped `model.bin` by name, aliases included.

    Raises: ModelError when the file is truncated, damaged, too new, or something else.
    """
    reader = _Reader(path, buffer)
    version = reader.number("I")
    if version > BINARY_VERSION and version < 256:
        raise OtherEngineError(
            f"{path} has format {version}; this version reads {BINARY_VERSION}.",
            "Update codegen-lsp, or convert the model again.",
        )
    if version != BINARY_VERSION:
        raise ModelError(f"{path} is not a CTranslate2 model of format {BINARY_VERSION}.", CONVERT_AGAIN)
    name, _revision = reader.text(), reader.number("I")
    if name != SPECIFICATION:
        raise ModelError(f"{path} holds a {name}, not a decoder.", CONVERT_AGAIN)
    variables = dict(reader.variable() for _ in range(reader.count()))
    for _ in range(reader.count()):
        alias, target = reader.text(), reader.text()
        if target not in variables:
            raise ModelError(f"{path} is damaged: {alias} stands for {target}, which is missing.", CONVERT_AGAIN)
        variables[alias] = variables[target]
        if f"{target}_scale" in variables:  # an alias of a quantized matrix stands for its scales too
            variables.setdefault(f"{alias}_scale", variables[f"{target}_scale"])
    if reader.offset != len(buffer):
        raise ModelError(f"{path} is damaged: {len(buffer) - reader.offset} bytes too many.", CONVERT_AGAIN)
    return variables


class _Reader:
    """Sequential reader of a mapped file. Raises: ModelError at the end of the file and for damaged content."""

    def __init__(self, path: Path, buffer: mmap.mmap) -> None:
        self._path = path
        self._buffer = buffer
        self.offset = 0

    def number(self, code: str) -> int:
        """Read a number of the `struct` type `code`."""
        size = struct.calcsize("<" + code)
        start = self._advance(size)
        (value,) = struct.unpack_from("<" + code, self._buffer, start)
        return int(value)

    def count(self) -> int:
        """Read the number of entries of a table."""
        value = self.number("I")
        if value > MAX_VARIABLES:
            raise self._damaged(f"a table of {value} entries")
        return value

    def text(self) -> str:
        """Read a string: its length, then its bytes, of which the last is zero."""
        length = self.number("H")
        start = self._advance(length)
        raw = self._buffer[start : self.offset]
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            raise self._damaged("a name that is not text")
        return raw[:-1].decode("ascii")

    def variable(self) -> tuple[str, Variable]:
        """Read a name and its values."""
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(TYPES):
            raise self._damaged(f"{name} has the unknown type {kind}")
        type = TYPES[kind]
        dtype = np.dtype("uint16" if type == "bfloat16" else type).newbyteorder("<")
        count = math.prod(shape)
        if count * dtype.itemsize != size:
            raise self._damaged(f"{name} has {size} bytes for {count} values")
        start = self._advance(size)
        try:
            values = np.frombuffer(self._buffer, dtype, count, start).reshape(shape)
        except (ValueError, OverflowError) as error:
            raise self._damaged(f"{name} of shape {shape}") from error
        return name, Variable(type, values)

    def _advance(self, size: int) -> int:
        start = self.offset
        if start + size > len(self._buffer):
            raise ModelError(f"{self._path} is truncated.", CONVERT_AGAIN)
        self.offset = start + size
        return start

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"{self._path} is damaged: {what}.", CONVERT_AGAIN)
