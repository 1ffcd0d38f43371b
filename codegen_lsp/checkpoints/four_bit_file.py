"""The `model.bin` of a 4-bit build, made from that of an int8 build, one matrix at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from codegen_lsp.checkpoints.four_bit import quantize
from codegen_lsp.inference.engines.native.matrices import Matrix
from codegen_lsp.inference.engines.native.model_file import (
    BINARY_VERSION,
    SPECIFICATION,
    TYPES,
    Variable,
    map_file,
    read_variables,
)

EMBEDDING = "decoder/embeddings/weight"
REVISION = 8
"""Revision of CTranslate2's specification of decoders; readers of this project ignore it."""
SCALE = "_scale"


def write_four_bit_file(
    source: Path, output: Path, group: int, threads: int, on_weight: Callable[[float], None]
) -> int:
    """Write a model with the int8 matrices of another `model.bin` in 4 bits; return their number.

    Matrices whose columns the group does not divide stay int8. So does the embedding, unless it is also the output
    layer: a token reads one row of it, so 4 bits would save no time, but cost a third of the loss (`docs/lab.md`). All
    else is copied. Raises: ModelError when the
    source is damaged, ConversionError for weights that 4 bits can't represent, OSError when the disk is full.
    """
    pages = map_file(source)
    variables = read_variables(source, pages)
    owners: dict[int, str] = {}
    for name, variable in variables.items():
        owners.setdefault(id(variable), name)
    aliases = {name: owners[id(one)] for name, one in variables.items() if owners[id(one)] != name}
    own = [name for name in variables if name not in aliases]
    chosen = {name for name in own if _is_quantizable(variables, name, group)}
    if EMBEDDING not in aliases.values():
        chosen.discard(EMBEDDING)
    total, done = sum(variables[name].values.size for name in chosen), 0
    with output.open("wb") as file:
        file.write(struct.pack("<I", BINARY_VERSION))
        _write_text(file, SPECIFICATION)
        file.write(struct.pack("<II", REVISION, len(own)))
        for name in own:
            if name.removesuffix(SCALE) in chosen and name.endswith(SCALE):
                continue  # written with its matrix
            variable = variables[name]
            if name not in chosen:
                _write_variable(file, name, variable.type, variable.values)
                continue
            int8 = Matrix(variable.values, variables[name + SCALE].floats())
            four_bits = quantize(int8.floats, int8.shape, group, threads)
            _write_variable(file, name, "int8", four_bits.values)
            _write_variable(file, name + SCALE, "float16", four_bits.scales)
            done += variable.values.size
            on_weight(done / total)
        file.write(struct.pack("<I", len(aliases)))
        for alias, target in aliases.items():
            _write_text(file, alias)
            _write_text(file, target)
    return len(chosen)


def _is_quantizable(variables: dict[str, Variable], name: str, group: int) -> bool:
    """Return whether a variable is an int8 matrix that groups divide."""
    values, scales = variables[name], variables.get(name + SCALE)
    return (
        values.type == "int8"
        and values.values.ndim == 2
        and values.values.shape[1] % group == 0
        and scales is not None
        and scales.values.shape == values.values.shape[:1]
    )


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(struct.pack("<H", len(text) + 1) + text.encode("ascii") + b"\0")


def _write_variable(file: BinaryIO, name: str, type: str, values: NDArray[Any]) -> None:
    _write_text(file, name)
    file.write(struct.pack(f"<B{values.ndim}IBI", values.ndim, *values.shape, TYPES.index(type), values.nbytes))
    file.write(values.tobytes())
