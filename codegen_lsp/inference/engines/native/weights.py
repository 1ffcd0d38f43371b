"""Reads the weights of an int8 build: CTranslate2's `model.bin`, mapped into memory.

The int8 matrices are used where they lie, so that loading costs no copy and processes share the pages; norms, biases
and scales are few and copied. The format (binary version 6, which CTranslate2 has written since 2.11) is what
`ctranslate2/specs/model_spec.py` writes: little-endian throughout; version, name and revision of the specification;
the number of variables; for each its name, shape, type, size and bytes; then aliases, pairs of names.

What a model is follows from its variables. Two kinds of block are known: GPT-J's, attention and MLP side by side behind
one LayerNorm (CodeGen1, CodeGen2), and Llama's (CodeGen2.5). Whatever else CTranslate2 can store is refused by name.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from pathlib import Path
from typing import Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from codegen_lsp.errors import ModelError

BINARY_VERSION = 6
SPECIFICATION = "TransformerDecoderSpec"
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By CTranslate2's type number."""
MOST_VARIABLES = 1_000_000
CONVERT_AGAIN = "Pull or convert the model again."
OTHER_ENGINE = "Set `engine` to `ct2`."

GELU_TANH, SWISH = 1, 2
"""CTranslate2's numbers for the activations that CodeGen's models have."""


@frozen
class Matrix:
    """An int8 matrix: row r of the float one is `values[r] / scales[r]`."""

    values: Tensor
    """int8, (rows, columns)."""
    scales: Tensor
    """float32, (rows,): 127 over the row's largest magnitude."""


@frozen
class Norm:
    """LayerNorm, or RMSNorm where there is no beta. float32, (width,)."""

    gamma: Tensor
    beta: Tensor | None


@frozen
class Layer:
    """One block. Matrices are (outputs, inputs); biases are float32 or missing."""

    attention_norm: Norm
    mlp_norm: Norm | None
    """None where the MLP reads what the attention reads."""
    qkv: Matrix
    """Rows of query, key, value, each by head."""
    out: Matrix
    up: Matrix
    up_bias: Tensor | None
    gate: Matrix | None
    """Llama's: its output goes through the activation and multiplies `up`'s."""
    down: Matrix
    down_bias: Tensor | None


@frozen
class ModelWeights:
    """A decoder, ready to compute with."""

    block: Literal["codegen", "llama"]
    heads: int
    width: int
    rotary: int
    """Entries of each head that are rotated by position."""
    rotary_interleaved: bool
    """Whether neighbouring entries are rotated as pairs, instead of the first half with the second."""
    rotary_base: float
    epsilon: float
    embedding: Matrix
    layers: tuple[Layer, ...]
    norm: Norm
    head: Matrix
    """The output layer, (rows of the embedding, width)."""
    head_bias: Tensor | None
    pages: mmap.mmap
    """Where the int8 matrices lie."""

    def forget_pages(self) -> None:
        """Leave the mapped file to the system's cache, from which it comes back where it is read again.

        To be called once the matrices have been packed: only a few rows of the embedding are read after that.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)

    def bytes_after(self, values: Tensor) -> int:
        """How many bytes may be read after these int8 values: those to the end of the map's last page, if they lie
        in the map, and otherwise none."""
        start = torch.frombuffer(self.pages, dtype=torch.int8).data_ptr()
        end = start + math.ceil(len(self.pages) / mmap.PAGESIZE) * mmap.PAGESIZE
        return end - (values.data_ptr() + values.numel()) if start <= values.data_ptr() < end else 0

    @property
    def head_width(self) -> int:
        """Entries of a head."""
        return self.width // self.heads

    @property
    def step_bytes(self) -> int:
        """Bytes of int8 weights that one decoding step must read: all but the embedding."""
        return self.head.values.numel() + sum(
            matrix.values.numel()
            for layer in self.layers
            for matrix in (layer.qkv, layer.out, layer.up, layer.gate, layer.down)
            if matrix is not None
        )


def read_weights(directory: Path) -> ModelWeights:
    """Map the weights of a build.

    Raises ModelError when model.bin is missing, truncated, something else or too new, and when the model is not int8 or
    of an architecture that is not CodeGen's.
    """
    path = directory / "model.bin"
    pages = _mapped(path)
    return _Assembler(directory, _variables(path, pages), _epsilon(directory)).assemble(pages)


def read_variables(path: Path) -> dict[str, Tensor]:
    """All variables of a `model.bin` by name, aliases included. Raises ModelError as `read_weights` does."""
    return _variables(path, _mapped(path))


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # an empty file can't be mapped
        raise ModelError(f"{path} can't be read: {error}.", CONVERT_AGAIN) from error


def _variables(path: Path, buffer: mmap.mmap) -> dict[str, Tensor]:
    reader = _Reader(path, buffer)
    version = reader.number("I")
    if version > BINARY_VERSION and version < 256:
        raise ModelError(
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
    if reader.offset != len(buffer):
        raise ModelError(f"{path} is damaged: {len(buffer) - reader.offset} bytes too many.", CONVERT_AGAIN)
    return variables


class _Reader:
    """Reads a mapped file from its beginning. Raises ModelError at its end and at what can't be."""

    def __init__(self, path: Path, buffer: mmap.mmap) -> None:
        self._path = path
        self._buffer = buffer
        self.offset = 0

    def number(self, code: str) -> int:
        """A number of the `struct` type `code`."""
        size = struct.calcsize("<" + code)
        start = self._advance(size)
        (value,) = struct.unpack_from("<" + code, self._buffer, start)
        return int(value)

    def count(self) -> int:
        """How many entries of a table follow."""
        value = self.number("I")
        if value > MOST_VARIABLES:
            raise self._damaged(f"a table of {value} entries")
        return value

    def text(self) -> str:
        """A string with its length, ended by a zero byte."""
        length = self.number("H")
        start = self._advance(length)
        raw = self._buffer[start : self.offset]
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            raise self._damaged("a name that is none")
        return raw[:-1].decode("ascii")

    def variable(self) -> tuple[str, Tensor]:
        """A name and its values: int8 in the map itself, other types as a copy."""
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(DTYPES):
            raise self._damaged(f"{name} has the unknown type {kind}")
        dtype = DTYPES[kind]
        count = math.prod(shape)
        if count * dtype.itemsize != size:
            raise self._damaged(f"{name} has {size} bytes for {count} values")
        start = self._advance(size)
        if not count:
            return name, torch.empty(shape, dtype=dtype)
        if dtype is torch.int8:
            return name, torch.frombuffer(self._buffer, dtype=dtype, count=count, offset=start).view(shape)
        return name, torch.frombuffer(bytearray(self._buffer[start : self.offset]), dtype=dtype).view(shape)

    def _advance(self, size: int) -> int:
        start = self.offset
        if start + size > len(self._buffer):
            raise ModelError(f"{self._path} is truncated.", CONVERT_AGAIN)
        self.offset = start + size
        return start

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"{self._path} is damaged: {what}.", CONVERT_AGAIN)


class _Assembler:
    """Makes a ModelWeights of variables, and refuses what they mean when the engine could not do it."""

    def __init__(self, directory: Path, variables: dict[str, Tensor], epsilon: float | None) -> None:
        self._directory = directory
        self._variables = variables
        self._epsilon = epsilon

    def assemble(self, pages: mmap.mmap) -> ModelWeights:
        """All of it."""
        heads = int(self._scalar("num_heads", 0))
        embedding = self._matrix("embeddings")
        rows, width = embedding.values.shape
        if heads <= 0 or width % heads:
            raise self._refused(f"{heads} attention heads over {width} values")
        self._refuse_variants()
        llama = self._scalar("activation", -1) == SWISH
        layers = tuple(self._layer(f"layer_{index}", width, llama) for index in range(self._count_layers()))
        attention = "layer_0/self_attention"
        norm = self._norm("layer_norm", width)
        epsilon = self._epsilon if self._epsilon is not None else (1e-5 if norm.beta is not None else 1e-6)
        head = self._matrix("projection", width)
        if head.values.shape[0] != rows:
            raise self._refused(f"an output layer of {head.values.shape[0]} rows for {rows} tokens")
        rotary = int(self._scalar(f"{attention}/rotary_dim", 0)) or width // heads
        if rotary % 2 or rotary > width // heads:
            raise self._refused(f"a rotary width of {rotary}")
        return ModelWeights(
            block="llama" if llama else "codegen",
            heads=heads,
            width=width,
            rotary=rotary,
            rotary_interleaved=bool(self._scalar(f"{attention}/rotary_interleave", 1)),
            rotary_base=float(self._scalar(f"{attention}/rotary_base", 10000.0)),
            epsilon=epsilon,
            embedding=embedding,
            layers=layers,
            norm=norm,
            head=head,
            head_bias=self._vector("projection/bias", rows),
            pages=pages,
        )

    def _count_layers(self) -> int:
        count = 0
        while f"decoder/layer_{count}/self_attention/linear_0/weight" in self._variables:
            count += 1
        if not count:
            raise self._refused("no layers")
        return count

    def _refuse_variants(self) -> None:
        if self._scalar("activation", -1) not in (GELU_TANH, SWISH):
            raise self._refused(f"activation {self._scalar('activation', -1)}")
        if not self._scalar("pre_norm", 1):
            raise self._refused("norms after the blocks")
        for name in ("alibi", "scale_embeddings", "start_from_zero_embedding"):
            if self._scalar(name, 0):
                raise self._refused(name)
        unknown = ("queries_scale", "num_heads_kv", "relative", "rotary_scaling", "q_norm", "k_norm", "sliding_window")
        for name in self._variables:
            part = name.rsplit("/", 1)[-1]
            if part.startswith(unknown) or "position_encodings" in name or "/attention/" in name:
                raise self._refused(name)

    def _layer(self, name: str, width: int, llama: bool) -> Layer:
        attention, mlp = f"{name}/self_attention", f"{name}/ffn"
        for bias in (f"{attention}/linear_0/bias", f"{attention}/linear_1/bias"):
            if f"decoder/{bias}" in self._variables:
                raise self._refused(bias)
        qkv = self._matrix(f"{attention}/linear_0", width)
        if qkv.values.shape[0] != 3 * width:
            raise self._refused(f"{qkv.values.shape[0]} rows of query, key and value for a width of {width}")
        up = self._matrix(f"{mlp}/linear_0_noact" if llama else f"{mlp}/linear_0", width)
        hidden = up.values.shape[0]
        return Layer(
            attention_norm=self._norm(f"{attention}/layer_norm" if llama else f"{name}/shared_layer_norm", width),
            mlp_norm=self._norm(f"{mlp}/layer_norm", width) if llama else None,
            qkv=qkv,
            out=self._matrix(f"{attention}/linear_1", width),
            up=up,
            up_bias=self._vector(f"{mlp}/linear_0{'_noact' if llama else ''}/bias", hidden),
            gate=self._matrix(f"{mlp}/linear_0", width) if llama else None,
            down=self._matrix(f"{mlp}/linear_1", hidden),
            down_bias=self._vector(f"{mlp}/linear_1/bias", width),
        )

    def _matrix(self, name: str, columns: int | None = None) -> Matrix:
        values, scales = self._required(f"{name}/weight"), self._variables.get(f"decoder/{name}/weight_scale")
        if values.dtype is not torch.int8 or scales is None:
            raise ModelError(
                f"{self._directory} is not an int8 build: {name} is {str(values.dtype).removeprefix('torch.')}.",
                "Convert the model again, or set `engine` to `ct2`.",
            )
        if values.dim() != 2 or scales.shape != values.shape[:1] or columns not in (None, values.shape[1]):
            raise self._refused(f"{name} of shape {tuple(values.shape)}")
        return Matrix(values, scales.float())

    def _norm(self, name: str, width: int) -> Norm:
        gamma = self._required(f"{name}/gamma").float()
        if gamma.shape != (width,):
            raise self._refused(f"{name} of shape {tuple(gamma.shape)}")
        return Norm(gamma, self._vector(f"{name}/beta", width))

    def _vector(self, name: str, size: int) -> Tensor | None:
        values = self._variables.get(f"decoder/{name}")
        if values is None:
            return None
        if values.shape != (size,):
            raise self._refused(f"{name} of shape {tuple(values.shape)}")
        return values.float()

    def _required(self, name: str) -> Tensor:
        try:
            return self._variables[f"decoder/{name}"]
        except KeyError:
            raise self._refused(f"no {name}") from None

    def _scalar(self, name: str, default: float) -> float:
        values = self._variables.get(f"decoder/{name}")
        return default if values is None or values.numel() != 1 else float(values.item())

    def _refused(self, what: str) -> ModelError:
        return ModelError(f"The native engine can't run the model in {self._directory}: it has {what}.", OTHER_ENGINE)


def _epsilon(directory: Path) -> float | None:
    path = directory / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        value = config.get("layer_norm_epsilon")
        return None if value is None else float(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read: {error}.", CONVERT_AGAIN) from error
