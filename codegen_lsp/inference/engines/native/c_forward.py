"""The forward pass in C (`decoder.c`): one call instead of two hundred.

torch's int8 kernels are fast, but a decode step calls ten of them for each layer, its threads wait for each other after
each call, and the kernels read a packed copy of the weights. Here a layer is one pass over the mapped weights, and all
that is needed besides is numpy.

The library is compiled when the package is built (`compile_decoder.py`), once for each instruction set. Where it is
missing, or the processor supports none of them, `torch_forward` is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_int, c_int32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.engines.native.arrays import Floats, address, empty_floats, zero_floats
from codegen_lsp.inference.engines.native.attention import rotated_queries
from codegen_lsp.inference.engines.native.c_structs import CLayer, CMatrix, CModel, CNorm, CSegment, abi_fingerprint
from codegen_lsp.inference.engines.native.compile_decoder import VARIANTS, library_of
from codegen_lsp.inference.engines.native.forward import ForwardPass, Rows, rotary_angles
from codegen_lsp.inference.engines.native.matrices import FourBitMatrix, QuantizedMatrix
from codegen_lsp.inference.engines.native.weights import ModelWeights, Norm

SPIN_MICROSECONDS = 50
"""Time that a waiting thread spins before it sleeps (`docs/lab.md`)."""
VECTOR_FLOATS = 16
"""The widths of a head, a hidden state and the MLP must be multiples of this: the floats of the widest vectors."""
BLOCK = 128
"""Columns of 4-bit weights in the widest vector."""
READ_BEYOND = 64
"""Bytes after a matrix that may be read along with its last row."""
MAX_ROTARY = 512
INITIAL_POSITIONS = 2048


@cache
def library(variants: tuple[str, ...] = tuple(VARIANTS)) -> ctypes.CDLL | None:
    """Load the library for the best instruction set that this processor supports; None when there is none.

    Raises: ModelError when the library was compiled from another version of its source.
    """
    for variant in variants:
        path = library_of(variant)
        if not path.is_file():
            continue
        try:
            found = ctypes.CDLL(str(path))
        except OSError:
            continue
        if found.codegen_supported():
            check_abi(found, path)
            return _declared(found)
    return None


def check_abi(found: ctypes.CDLL, path: Path) -> None:
    """Compare the layout of the structures in a compiled library with those in `c_structs`.

    Raises: ModelError when they differ, or when the library is too old to tell.
    """
    try:
        found.codegen_abi.restype = c_uint64
        if found.codegen_abi() == abi_fingerprint():
            return
    except AttributeError:
        pass
    raise OtherEngineError(
        f"The library {path} was compiled from another version of codegen-lsp.",
        "Install codegen-lsp again, or compile the library with "
        "`python -m codegen_lsp.inference.engines.native.compile_decoder`; or set `engine` to `ct2`.",
    )


def suits(weights: ModelWeights) -> bool:
    """Return whether the library can run models of this shape."""
    return (
        weights.head_width % VECTOR_FLOATS == 0
        and weights.width % VECTOR_FLOATS == 0
        and weights.mlp_width % VECTOR_FLOATS == 0
        and weights.rotary <= MAX_ROTARY
        and _share_groups(weights)
    )


def _share_groups(weights: ModelWeights) -> bool:
    """Return whether matrices with the same input are all int8, or all 4-bit with the same groups."""
    for layer in weights.layers:
        readers = [layer.qkv_proj, layer.up_proj] if layer.gate_proj is None else [layer.up_proj, layer.gate_proj]
        if len({_group(matrix) for matrix in readers}) > 1:
            return False
    return True


def _group(matrix: QuantizedMatrix) -> int:
    return matrix.group if isinstance(matrix, FourBitMatrix) else 0


class CForwardPass(ForwardPass):
    """The forward pass in C.

    Activations are (tokens, width) for few tokens, (groups, width, lanes) for many. Raises: ModelError when there is
    not enough memory.
    """

    def __init__(
        self,
        weights: ModelWeights,
        found: ctypes.CDLL,
        threads: int,
        *,
        spin: int = SPIN_MICROSECONDS,
        tiles: bool = True,
    ) -> None:
        super().__init__(weights)
        self._library = found
        self._lanes: int = found.codegen_lanes()
        self._few = self.rows_at_once = found.codegen_few()
        self._kept: list[Any] = []
        """Objects that the decoder in C points to."""
        self._positions = 0
        """Length of the rotary tables."""
        self._options = (threads, spin, tiles)
        self._decoder = c_void_p()
        self._open(INITIAL_POSITIONS)

    def forward(
        self, ids: Sequence[int], cache: Floats, offset: int, positions: Sequence[int] | None = None,
        attn_mask: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """See `ForwardPass.forward`."""
        if positions is None and attn_mask is None:
            x = self.embed(ids)
            self._run(x, len(ids), 0, self.layers, cache, offset)
            return self._by_token(x, len(ids))
        parts = []
        for at in range(0, len(ids), self._few):
            part = ids[at : at + self._few]
            end = offset + at + len(part)
            part_positions = None if positions is None else positions[at : at + len(part)]
            part_mask = None if attn_mask is None else attn_mask[at : at + len(part), :end]
            parts.append(self._run_rows([Rows(part, cache, offset + at, part_positions, part_mask)]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def together(self, several: Sequence[Rows]) -> list[Floats]:
        """See `ForwardPass.together`."""
        if len(several) == 1:
            return super().together(several)
        counts = [len(one.ids) for one in several]
        if sum(counts) > self._few:
            return super().together(several)
        return np.split(self.logits(self._run_rows(several)), np.cumsum(counts)[:-1])

    def embed(self, ids: Sequence[int]) -> Floats:
        """See `ForwardPass.embed`. Raises: IndexError when an id has no embedding."""
        count, width = len(ids), self.width
        if not 0 <= min(ids) <= max(ids) < self.weights.embedding.shape[0]:
            raise IndexError("a token id without an embedding")
        if count <= self._few:
            x = empty_floats(count, width)
        else:
            x = zero_floats(-(-count // self._lanes), width, self._lanes)
        self._library.codegen_embed(self._decoder, (c_int32 * count)(*ids), count, address(x))
        return x

    def run_layer(self, layer: int, x: Floats, count: int, cache: Floats, offset: int, *, every: bool) -> Floats:
        """See `ForwardPass.run_layer`. Of many tokens, the last layer computes the last group alone."""
        self._run(x, count, layer, layer + 1, cache, offset, tail=0 if every else (count - 1) // self._lanes)
        return x

    def finish(self, x: Floats, count: int, *, every: bool) -> Floats:
        """See `ForwardPass.finish`."""
        hidden = self._by_token(x, count)
        return hidden if every else hidden[-1:]

    def queries(self, layer: int, hidden: Floats, offset: int) -> Floats:
        """See `ForwardPass.queries`. In numpy, so that the library needs no code for it."""
        return rotated_queries(self.weights, layer, hidden, offset)

    def logits(self, hidden: Floats) -> Floats:
        """See `ForwardPass.logits`."""
        hidden = np.ascontiguousarray(hidden)
        logits = empty_floats(len(hidden), self.padded_vocab_size)
        for at in range(0, len(hidden), self._few):
            part, to = hidden[at : at + self._few], logits[at : at + self._few]
            self._check(self._library.codegen_logits(self._decoder, address(part), len(part), address(to)))
        return logits

    def close(self) -> None:
        """End the threads and free their memory."""
        if self._decoder:
            self._library.codegen_free(self._decoder)
            self._decoder = c_void_p()

    def __del__(self) -> None:
        if hasattr(self, "_decoder"):
            self.close()

    def _by_token(self, x: Floats, count: int) -> Floats:
        """Return activations of either layout as (tokens, width)."""
        return x if x.ndim == 2 else x.transpose(0, 2, 1).reshape(-1, self.width)[:count]

    def _run_rows(self, several: Sequence[Rows]) -> Floats:
        """Run at most `rows_at_once` tokens of several sequences and return their hidden states, (tokens, width)."""
        x = self.embed([id for one in several for id in one.ids])
        kept: list[Any] = []
        segments = (CSegment * len(several))()
        for segment, one in zip(segments, several, strict=True):
            self._need_positions(max(one.positions) + 1 if one.positions else one.offset + len(one.ids))
            segment.cache, segment.capacity = address(one.cache), one.cache.shape[2]
            segment.count, segment.offset = len(one.ids), one.offset
            if one.positions is not None:
                kept.append(np.array(one.positions, dtype=np.int32))
                segment.positions = address(kept[-1])
            if one.attn_mask is not None:
                kept.append(np.ascontiguousarray(one.attn_mask))
                segment.attn_mask = address(kept[-1])
        self._check(self._library.codegen_segments(self._decoder, address(x), segments, len(several), 0, self.layers))
        return x

    def _run(self, x: Floats, count: int, first: int, end: int, cache: Floats, offset: int, tail: int = 0) -> None:
        """Run layers `first` to `end` - 1 over `x`, in place.

        `tail` is the first group of tokens whose output of the last layer is needed.
        """
        self._need_positions(offset + count)
        done = self._library.codegen_layers(
            self._decoder, address(x), count, first, end, address(cache), cache.shape[2], offset, tail
        )
        self._check(done)

    def _need_positions(self, count: int) -> None:
        """Have rotary tables for this number of positions, and for a vector more."""
        if count + self._lanes > self._positions:
            self._open(max(count + self._lanes, 2 * self._positions))

    def _open(self, positions: int) -> None:
        """Create the decoder in C, with rotary tables for this number of positions."""
        self.close()
        self._kept.clear()
        self._positions = positions
        weights = self.weights
        angles = rotary_angles(weights, positions)
        model = CModel(
            llama=weights.block_type == "llama",
            heads=weights.heads,
            kv_heads=weights.kv_heads,
            head_width=weights.head_width,
            width=weights.width,
            mlp_width=weights.mlp_width,
            rotary=weights.rotary,
            interleaved=weights.rotary_interleaved,
            layers=self.layers,
            positions=positions,
            epsilon=weights.epsilon,
            cosines=self._vector(np.cos(angles).T),
            sines=self._vector(np.sin(angles).T),
            layer=(CLayer * self.layers)(
                *(
                    CLayer(
                        attention_norm=self._norm(layer.attention_norm),
                        mlp_norm=self._norm(layer.mlp_norm),
                        qkv_proj=self._matrix(layer.qkv_proj),
                        o_proj=self._matrix(layer.o_proj),
                        up_proj=self._matrix(layer.up_proj),
                        gate_proj=self._matrix(layer.gate_proj),
                        down_proj=self._matrix(layer.down_proj),
                        qkv_bias=self._vector(layer.qkv_bias),
                        o_bias=self._vector(layer.o_bias),
                        up_bias=self._vector(layer.up_bias),
                        gate_bias=self._vector(layer.gate_bias),
                        down_bias=self._vector(layer.down_bias),
                    )
                    for layer in weights.layers
                )
            ),
            norm=self._norm(weights.norm),
            lm_head=self._matrix(weights.lm_head),
            embedding=self._matrix(weights.embedding),
            lm_head_bias=self._vector(weights.lm_head_bias),
        )
        self._kept.append(model)
        threads, spin, tiles = self._options
        self._decoder = c_void_p(self._library.codegen_new(byref(model), threads, spin, int(tiles)))
        self._check(bool(self._decoder))

    def _vector(self, values: NDArray[Any] | None) -> int | None:
        if values is None:
            return None
        kept = np.ascontiguousarray(values, dtype=np.float32)
        self._kept.append(kept)
        return address(kept)

    def _norm(self, norm: Norm | None) -> CNorm:
        return CNorm() if norm is None else CNorm(self._vector(norm.gamma), self._vector(norm.beta))

    def _matrix(self, matrix: QuantizedMatrix | None) -> CMatrix:
        if matrix is None:
            return CMatrix()
        rows, columns = matrix.shape
        values = self._readable(matrix.values)
        if not isinstance(matrix, FourBitMatrix):
            return CMatrix(address(values), self._vector(1 / matrix.scales), None, rows, columns, 0, 0)
        scales, stride = matrix.scales, matrix.scales.shape[1]
        if columns % BLOCK:  # zeros for the rest of the last block, whose activations are zeros
            stride = -(-columns // BLOCK) * BLOCK // matrix.group
            scales = np.zeros((rows, stride), dtype=np.float16)
            scales[:, : matrix.scales.shape[1]] = matrix.scales
        found = self._readable(scales)
        return CMatrix(address(values), None, address(found), rows, columns, matrix.group, stride)

    def _readable(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values in memory of which `READ_BEYOND` more bytes may be read."""
        values = np.ascontiguousarray(values)
        if self.weights.bytes_after(values) < READ_BEYOND:
            values = np.concatenate([values.ravel(), np.zeros(READ_BEYOND // values.itemsize, dtype=values.dtype)])
        self._kept.append(values)
        return values

    def _check(self, done: object) -> None:
        if not done:
            raise ModelError("There is not enough memory.", "Lower `cache.memory_mb`, or choose a smaller model.")


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the types of the library's functions."""
    found.codegen_new.restype = c_void_p
    found.codegen_new.argtypes = (POINTER(CModel), c_int, c_int, c_int)
    found.codegen_free.restype = None
    found.codegen_free.argtypes = (c_void_p,)
    found.codegen_embed.restype = None
    found.codegen_embed.argtypes = (c_void_p, POINTER(c_int32), c_int, c_void_p)
    found.codegen_segments.argtypes = (c_void_p, c_void_p, POINTER(CSegment), c_int, c_int, c_int)
    found.codegen_layers.argtypes = (c_void_p, c_void_p, c_int, c_int, c_int, c_void_p, c_int, c_int, c_int)
    found.codegen_logits.argtypes = (c_void_p, c_void_p, c_int, c_void_p)
    return found
