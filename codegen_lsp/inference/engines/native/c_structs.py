"""The structures of `model.h` in ctypes, and the fingerprint by which a compiled library is checked against them."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p, sizeof

ABI_VERSION = 4
"""As in `model.h`: raised when the parameters of an exported function change."""


class CMatrix(Structure):
    """`Matrix` of `model.h`."""

    _fields_ = (
        ("values", c_void_p),
        ("steps", c_void_p),
        ("scales", c_void_p),
        ("rows", c_int32),
        ("columns", c_int32),
        ("group", c_int32),
        ("scale_stride", c_int32),
    )


class CNorm(Structure):
    """`Norm` of `model.h`."""

    _fields_ = (("gamma", c_void_p), ("beta", c_void_p))


class CLayer(Structure):
    """`Layer` of `model.h`."""

    _fields_ = (
        ("attention_norm", CNorm),
        ("mlp_norm", CNorm),
        ("qkv_proj", CMatrix),
        ("o_proj", CMatrix),
        ("up_proj", CMatrix),
        ("gate_proj", CMatrix),
        ("down_proj", CMatrix),
        ("qkv_bias", c_void_p),
        ("o_bias", c_void_p),
        ("up_bias", c_void_p),
        ("gate_bias", c_void_p),
        ("down_bias", c_void_p),
    )


class CModel(Structure):
    """`Model` of `model.h`."""

    _fields_ = (
        ("llama", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_width", c_int32),
        ("width", c_int32),
        ("mlp_width", c_int32),
        ("rotary", c_int32),
        ("interleaved", c_int32),
        ("layers", c_int32),
        ("positions", c_int32),
        ("epsilon", c_float),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("layer", POINTER(CLayer)),
        ("norm", CNorm),
        ("lm_head", CMatrix),
        ("embedding", CMatrix),
        ("lm_head_bias", c_void_p),
    )


class CSegment(Structure):
    """`Segment` of `model.h`."""

    _fields_ = (
        ("cache", c_void_p),
        ("positions", c_void_p),
        ("attn_mask", c_void_p),
        ("count", c_int32),
        ("capacity", c_int32),
        ("offset", c_int32),
    )


STRUCTURES: tuple[type[Structure], ...] = (CMatrix, CNorm, CLayer, CModel, CSegment)


def abi_fingerprint(structures: tuple[type[Structure], ...] = STRUCTURES) -> int:
    """Return what `codegen_abi()` of a matching library returns: FNV-1a, 64 bits, over sizes and offsets."""
    value = 0xCBF29CE484222325
    for number in _layout(structures):
        value = (value ^ number) * 0x100000001B3 % 2**64
    return value


def _layout(structures: tuple[type[Structure], ...]) -> Iterator[int]:
    yield ABI_VERSION
    for structure in structures:
        yield sizeof(structure)
        for name, *_ in structure._fields_:
            yield getattr(structure, name).offset
