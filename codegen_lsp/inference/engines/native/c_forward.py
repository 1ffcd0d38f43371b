"""The forward pass in C (`decoder.c`): the same as `transformer`'s, as one call instead of two hundred.

torch's kernels for int8 are fast, but a decoding step calls ten of them for each layer, its threads wait for each other
after each, and they read a packed copy of the weights. Here a layer is one pass over the mapped weights.

The library is compiled when the package is built (`build.py`), once for each instruction set. Where it is missing, or
the processor has none of them, `transformer` does the work.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int32, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.engines.native.compile_decoder import VARIANTS, library_of
from codegen_lsp.inference.engines.native.torch_forward import Interrupted, Transformer, new_cache, rotary_angles
from codegen_lsp.inference.engines.native.torch_kernels import choose_kernel
from codegen_lsp.inference.engines.native.weights import Matrix, ModelWeights, Norm

SPIN_MICROSECONDS = 50
"""How long a thread looks whether the others are done before it sleeps (`docs/lab.md`)."""
VECTOR = 16
"""Heads, and the MLP, must be multiples of this wide: of the widest vectors' floats."""
READ_BEYOND = 64
"""Bytes after a matrix that may be read along with its last row."""
WIDEST_ROTARY = 512


class _Matrix(Structure):
    _fields_ = (("values", c_void_p), ("steps", c_void_p), ("rows", c_int32), ("columns", c_int32))


class _Norm(Structure):
    _fields_ = (("gamma", c_void_p), ("beta", c_void_p))


class _Layer(Structure):
    _fields_ = (
        ("attention_norm", _Norm),
        ("mlp_norm", _Norm),
        ("qkv", _Matrix),
        ("out", _Matrix),
        ("up", _Matrix),
        ("gate", _Matrix),
        ("down", _Matrix),
        ("up_bias", c_void_p),
        ("down_bias", c_void_p),
    )


class _Model(Structure):
    _fields_ = (
        ("llama", c_int32),
        ("heads", c_int32),
        ("width", c_int32),
        ("hidden", c_int32),
        ("rotary", c_int32),
        ("interleaved", c_int32),
        ("layers", c_int32),
        ("positions", c_int32),
        ("epsilon", c_float),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("layer", POINTER(_Layer)),
        ("norm", _Norm),
        ("head", _Matrix),
        ("embedding", _Matrix),
        ("head_bias", c_void_p),
    )


@cache
def library(variants: tuple[str, ...] = tuple(VARIANTS)) -> ctypes.CDLL | None:
    """The library for the best instructions that this processor has; None when there is none."""
    for variant in variants:
        path = library_of(variant)
        if not path.is_file():
            continue
        try:
            found = ctypes.CDLL(str(path))
        except OSError:
            continue
        if found.codegen_supported():
            return _declared(found)
    return None


def suits(weights: ModelWeights) -> bool:
    """Whether the library computes models of this shape."""
    hidden = weights.layers[0].up.values.shape[0]
    return weights.head_width % VECTOR == 0 and hidden % VECTOR == 0 and weights.rotary <= WIDEST_ROTARY


def open_transformer(weights: ModelWeights, threads: int) -> Transformer | NativeTransformer:
    """The fastest way to compute this model here. Raises ModelError when there is none, or not enough memory."""
    found = library()
    if found is not None and suits(weights):
        return NativeTransformer(weights, found, threads)
    return Transformer(weights, choose_kernel())


class NativeTransformer:
    """A decoder on the CPU, with `transformer.Transformer`'s methods. Not thread-safe.

    Raises ModelError when there is not enough memory.
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
        self.weights = weights
        self.layers = len(weights.layers)
        self.heads = weights.heads
        self.width = weights.width
        self.head_width = weights.head_width
        self.rows = weights.head.values.shape[0]
        """Logits to a token."""
        self._library = found
        self._lanes: int = found.codegen_lanes()
        self._few: int = found.codegen_few()
        self._kept: list[Any] = []
        self._positions = 0
        self._options = (threads, spin, tiles)
        self._decoder = c_void_p()
        self._interrupted: Interrupted | None = None
        self._open(2048)

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, in bytes."""
        return self.layers * 2 * self.width * 4

    def new_cache(self, capacity: int) -> Tensor:
        """See `transformer.new_cache`."""
        return new_cache(self.weights, capacity)

    def forward(
        self, ids: Sequence[int], cache: Tensor, offset: int, positions: Sequence[int] | None = None,
        visible: Tensor | None = None, check: Callable[[], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """See `Transformer.forward`."""
        self._interrupted = None
        if positions is None and visible is None:
            x = self._embedded(ids)
            layers_at_once = self.layers if check is None else 1
            for layer in range(0, self.layers, layers_at_once):
                if check is not None:
                    check()
                self._run(x, len(ids), layer, layer + layers_at_once, cache, offset)
            return self._by_token(x, len(ids))
        parts = []
        for at in range(0, len(ids), self._few):
            some = ids[at : at + self._few]
            end = offset + at + len(some)
            x = self._embedded(some)
            places = None if positions is None else positions[at : at + len(some)]
            seen = None if visible is None else visible[at : at + len(some), :end].contiguous()
            self._run(x, len(some), 0, self.layers, cache, offset + at, places, seen)
            parts.append(x)
        return torch.cat(parts)

    def prefill(self, ids: list[int], cache: Tensor, offset: int, check: Callable[[], None]) -> Tensor:
        """See `Transformer.prefill`."""
        start, x = 0, None
        left, self._interrupted = self._interrupted, None
        if left is not None and left.is_of(ids, cache, offset):
            start, x = left.layer, left.x
        if x is None:
            x = self._embedded(ids)
        for layer in range(start, self.layers):
            try:
                check()
            except BaseException:
                self._interrupted = Interrupted(ids, weakref.ref(cache), offset, layer, x)
                raise
            self._run(x, len(ids), layer, layer + 1, cache, offset, tail=(len(ids) - 1) // self._lanes)
        return self._by_token(x, len(ids))[-1:]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token: (tokens, width) to (tokens, rows)."""
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self.rows)
        for at in range(0, len(hidden), self._few):
            some, to = hidden[at : at + self._few], logits[at : at + self._few]
            self._check(self._library.codegen_logits(self._decoder, some.data_ptr(), len(some), to.data_ptr()))
        return logits

    def close(self) -> None:
        """End the threads and free their memory."""
        if self._decoder:
            self._library.codegen_free(self._decoder)
            self._decoder = c_void_p()

    def __del__(self) -> None:
        if hasattr(self, "_decoder"):
            self.close()

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        """What goes into the first layer: (tokens, width), or (groups, width, lanes) when they are many."""
        count = len(ids)
        if not 0 <= min(ids) <= max(ids) < self.weights.embedding.values.shape[0]:
            raise IndexError("a token id without an embedding")
        if count <= self._few:
            x = torch.empty(count, self.width)
        else:
            x = torch.zeros(-(-count // self._lanes), self.width, self._lanes)
        self._library.codegen_embed(self._decoder, (c_int32 * count)(*ids), count, x.data_ptr())
        return x

    def _by_token(self, x: Tensor, count: int) -> Tensor:
        """(tokens, width) of what `_embedded` gave."""
        return x if x.dim() == 2 else x.transpose(1, 2).reshape(-1, self.width)[:count]

    def _run(
        self, x: Tensor, count: int, first: int, end: int, cache: Tensor, offset: int,
        positions: Sequence[int] | None = None, visible: Tensor | None = None, tail: int = 0,
    ) -> None:  # fmt: skip
        """Run layers over `x`, in place. `tail`: the group of tokens whose output of the last layer is wanted first."""
        furthest = max(positions) + 1 if positions else offset + count
        if furthest + self._lanes > self._positions:
            self._open(max(furthest + self._lanes, 2 * self._positions))
        done = self._library.codegen_layers(
            self._decoder, x.data_ptr(), count, first, end, cache.data_ptr(), cache.shape[2], offset,
            (c_int32 * count)(*positions) if positions else None,
            None if visible is None else visible.data_ptr(), tail,
        )  # fmt: skip
        self._check(done)

    def _open(self, positions: int) -> None:
        """Make the decoder, with rotations for so many positions."""
        self.close()
        self._kept.clear()
        self._positions = positions
        weights = self.weights
        angles = rotary_angles(weights, positions)
        model = _Model(
            llama=weights.block == "llama",
            heads=weights.heads,
            width=weights.width,
            hidden=weights.layers[0].up.values.shape[0],
            rotary=weights.rotary,
            interleaved=weights.rotary_interleaved,
            layers=self.layers,
            positions=positions,
            epsilon=weights.epsilon,
            cosines=self._vector(angles.cos().t()),
            sines=self._vector(angles.sin().t()),
            layer=(_Layer * self.layers)(
                *(
                    _Layer(
                        attention_norm=self._norm(layer.attention_norm),
                        mlp_norm=self._norm(layer.mlp_norm),
                        qkv=self._matrix(layer.qkv),
                        out=self._matrix(layer.out),
                        up=self._matrix(layer.up),
                        gate=self._matrix(layer.gate),
                        down=self._matrix(layer.down),
                        up_bias=self._vector(layer.up_bias),
                        down_bias=self._vector(layer.down_bias),
                    )
                    for layer in weights.layers
                )
            ),
            norm=self._norm(weights.norm),
            head=self._matrix(weights.head),
            embedding=self._matrix(weights.embedding),
            head_bias=self._vector(weights.head_bias),
        )
        self._kept.append(model)
        threads, spin, tiles = self._options
        self._decoder = c_void_p(self._library.codegen_new(byref(model), threads, spin, int(tiles)))
        self._check(bool(self._decoder))

    def _vector(self, values: Tensor | None) -> int | None:
        if values is None:
            return None
        kept = values.float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()

    def _norm(self, norm: Norm | None) -> _Norm:
        return _Norm() if norm is None else _Norm(self._vector(norm.gamma), self._vector(norm.beta))

    def _matrix(self, matrix: Matrix | None) -> _Matrix:
        if matrix is None:
            return _Matrix()
        values = matrix.values.contiguous()
        if self.weights.bytes_after(values) < READ_BEYOND:
            values = torch.cat([values.flatten(), torch.zeros(READ_BEYOND, dtype=torch.int8)])
        self._kept.append(values)
        return _Matrix(values.data_ptr(), self._vector(matrix.scales.reciprocal()), *matrix.values.shape)

    def _check(self, done: object) -> None:
        if not done:
            raise ModelError("There is not enough memory.", "Lower `cache.memory_mb`, or choose a smaller model.")


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    found.codegen_new.restype = c_void_p
    found.codegen_new.argtypes = (POINTER(_Model), c_int, c_int, c_int)
    found.codegen_free.restype = None
    found.codegen_free.argtypes = (c_void_p,)
    found.codegen_embed.restype = None
    found.codegen_embed.argtypes = (c_void_p, POINTER(c_int32), c_int, c_void_p)
    found.codegen_layers.argtypes = (
        c_void_p, c_void_p, c_int, c_int, c_int, c_void_p, c_int, c_int, POINTER(c_int32), c_void_p, c_int,
    )  # fmt: skip
    found.codegen_logits.argtypes = (c_void_p, c_void_p, c_int, c_void_p)
    return found
