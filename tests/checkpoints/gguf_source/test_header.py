"""Headers of GGUF files that are damaged or made to do harm."""

from __future__ import annotations

from tests import needs

needs.extra("export")

import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest

from codegen_lsp.checkpoints.gguf_source.header import read_header
from codegen_lsp.errors import ConversionError

HUGE = (1 << 64) - 1
MOST_MEMORY = 1 << 24


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def start(*, version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def array(kind: int, count: int) -> bytes:
    return start(keys=1) + text(b"key") + struct.pack("<IIQ", 9, kind, count)


def tensor(dimensions: list[int], kind: int = 0, offset: int = 0) -> bytes:
    made = start(tensors=1) + text(b"name") + struct.pack("<I", len(dimensions))
    return made + struct.pack(f"<{len(dimensions)}QIQ", *dimensions, kind, offset) + bytes(64)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("texts", ["a", "é", ""])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float32("float", 0.5)
    writer.add_bool("yes", True)
    writer.add_tensor("matrix", np.arange(64, dtype=np.float32).reshape(2, 32))
    writer.add_tensor("halves", np.ones((3, 4), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_header_is_read(good: Path) -> None:
    header = read_header(good)
    assert header.metadata == {
        "general.architecture": "llama",
        "texts": ["a", "é", ""],
        "numbers": [1, 2, 3],
        "float": 0.5,
        "yes": True,
    }
    reader = gguf.GGUFReader(good)
    assert {name: (place.shape, place.start, place.bytes) for name, place in header.tensors.items()} == {
        found.name: (tuple(reversed(found.shape.tolist())), found.data_offset, found.n_bytes)
        for found in reader.tensors
    }


def test_every_truncation_is_noticed(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    needed = max(place.start + place.bytes for place in read_header(good).tensors.values())
    short = tmp_path / "short.gguf"
    for size in range(needed):
        short.write_bytes(whole[:size])
        with pytest.raises(ConversionError, match=r"truncated|not a GGUF file|can't be read"):
            read_header(short)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04 and more", "not a GGUF file"),
        (start(version=1), "in version 1 of GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (start(tensors=HUGE), "declares 18446744073709551615 tensors"),
        (start(keys=HUGE), "declares 18446744073709551615 keys"),
        (start(keys=1) + text(b"key", HUGE), "beyond its end"),
        (start(keys=1) + text(b"\xff") + struct.pack("<IB", 0, 1), "can't be read"),
        (start(keys=1) + text(b"key") + struct.pack("<I", 99), "a value has the type 99"),
        (start(keys=2) + 2 * (text(b"key") + struct.pack("<IB", 0, 1)), "the key key twice"),
        (array(0, HUGE), "declares 18446744073709551615 items"),
        (array(10, 1 << 22), "beyond its end"),
        (array(8, 1 << 22), "beyond its end"),
        (array(9, 1), "items of the type 9"),
        (tensor([HUGE, HUGE, HUGE]), "truncated"),
        (tensor([1 << 32, 1 << 32]), "truncated"),
        (tensor([32], offset=HUGE - 31), "truncated"),
        (tensor([32, 0]), "dimensions .32, 0."),
        (tensor([]), "dimensions .."),
        (tensor([1] * 5), "declares 5 dimensions"),
        (tensor([33], kind=8), "in blocks of 32"),
        (tensor([32], kind=999), "a type that is not known here, 999"),
        (tensor([4], offset=1), "is not aligned"),
    ],
)
def test_harmful_headers_are_refused_without_much_memory(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "harmful.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match=reason):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
