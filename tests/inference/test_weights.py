"""Reading of model.bin: the real one, damaged ones, and those of other models."""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.native.model_file import Variable, map_file, read_variables
from codegen_lsp.inference.engines.native.weights import read_weights

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def encode(variables: dict[str, NDArray[np.generic]], aliases: dict[str, str] | None = None, version: int = 6) -> bytes:
    parts = [struct.pack("<I", version), text("TransformerDecoderSpec"), struct.pack("<II", 8, len(variables))]
    for name, value in variables.items():
        parts.append(text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
        parts.append(struct.pack("<BI", TYPES[value.dtype.name], value.nbytes) + value.tobytes())
    parts.append(struct.pack("<I", len(aliases or {})))
    parts += [text(alias) + text(target) for alias, target in (aliases or {}).items()]
    return b"".join(parts)


def variables_of(build: Path) -> dict[str, Variable]:
    return read_variables(build / "model.bin", map_file(build / "model.bin"))


@pytest.fixture(scope="module")
def variables(embedded_build: Path) -> dict[str, NDArray[np.generic]]:
    return {name: variable.values for name, variable in variables_of(embedded_build).items()}


@pytest.fixture
def build(tmp_path: Path, embedded_build: Path) -> Path:
    shutil.copyfile(embedded_build / "config.json", tmp_path / "config.json")
    return tmp_path


def test_the_embedded_build_matches_its_description(embedded_build: Path, info: BuildInfo) -> None:
    weights = read_weights(embedded_build)
    assert (weights.block_type, weights.heads, weights.width) == ("codegen", info.heads, info.width)
    assert len(weights.layers) == info.layers
    assert weights.embedding.values.shape == weights.lm_head.values.shape
    assert weights.layers[0].qkv_proj.values.shape == (3 * info.width, info.width)
    assert weights.step_bytes < (embedded_build / "model.bin").stat().st_size


def test_variables_round_trip(build: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    (build / "model.bin").write_bytes(encode(variables))
    for name, variable in variables_of(build).items():
        assert np.array_equal(variable.values, variables[name])


def test_aliases_are_resolved(build: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    """A model whose output layer is its embedding is stored with aliases."""
    names = ("weight", "weight_scale")
    aliases = {f"decoder/projection/{name}": f"decoder/embeddings/{name}" for name in names}
    kept = {name: value for name, value in variables.items() if name not in aliases}
    (build / "model.bin").write_bytes(encode(kept, aliases))
    weights = read_weights(build)
    assert np.array_equal(weights.lm_head.values, weights.embedding.values)
    (build / "model.bin").write_bytes(encode(kept, {"decoder/projection/weight": "decoder/nowhere"}))
    with pytest.raises(ModelError, match="nowhere"):
        read_weights(build)


def test_a_file_cut_anywhere_is_truncated(build: Path, embedded_build: Path) -> None:
    whole = (embedded_build / "model.bin").read_bytes()
    random = np.random.default_rng(0)
    for length in [0, 1, 3, 4, 5, 30, 40, 200, *random.integers(0, len(whole), 20), len(whole) - 1]:
        (build / "model.bin").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"truncated|can't be read"):
            read_weights(build)


def test_damage_is_refused_or_changes_numbers_only(build: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    """A flipped bit ends in a ModelError or in other numbers, never in another error."""
    small = {name: value for name, value in variables.items() if value.size < 2000 and "layer_1" not in name}
    whole = encode(small)
    random = np.random.default_rng(1)
    for at in [*range(40), *random.integers(0, len(whole), 200)]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(random.integers(8))
        (build / "model.bin").write_bytes(damaged)
        with contextlib.suppress(ModelError):
            variables_of(build)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"\0" * 100, b"GGUF\x03\0\0\0" + b"\0" * 100, b"<!doctype html>"])
def test_files_of_other_formats_are_refused(build: Path, content: bytes) -> None:
    (build / "model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="not a CTranslate2 model"):
        read_weights(build)


def test_newer_older_and_longer_files_are_refused(build: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    for content, word in (
        (encode({}, version=7), "format 7"),
        (encode({}, version=5), "format 6"),
        (encode({}) + b"\0", "1 bytes too many"),
        (struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<III", 1, 0, 0), "WhisperSpec"),
        (encode({}), "activation"),
    ):
        (build / "model.bin").write_bytes(content)
        with pytest.raises(ModelError, match=word):
            read_weights(build)


def test_a_missing_file_is_named(build: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.bin can't be read"):
        read_weights(build)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("alibi", np.int8(1), "alibi"),
        ("activation", np.int8(3), "activation 3"),
        ("scale_embeddings", np.int8(1), "scale_embeddings"),
        ("layer_0/self_attention/num_heads_kv", np.int32(1), "num_heads_kv"),
        ("layer_0/self_attention/rotary_scaling_type", np.int8(2), "rotary scaling of the kind 2"),
        ("layer_0/self_attention/q_norm/gamma", np.ones(4, np.float32), "q_norm"),
        ("projection/weight", np.zeros((8, 8), np.float32), "not an int8 build"),
    ],
)
def test_unsupported_variables_are_refused_by_name(
    build: Path, variables: dict[str, NDArray[np.generic]], name: str, value: NDArray[np.generic], word: str
) -> None:
    (build / "model.bin").write_bytes(encode(variables | {f"decoder/{name}": np.asarray(value)}))
    with pytest.raises(OtherEngineError, match=word) as caught:
        read_weights(build)
    assert "ct2" in caught.value.advice


def resized(shape: tuple[int, ...], *, by: tuple[int, ...]) -> NDArray[np.int8]:
    return np.ones(tuple(max(0, size + change) for size, change in zip(shape, by, strict=True)), np.int8)


MATRICES = (
    *("embeddings", "projection"),
    *(f"layer_{layer}/self_attention/linear_{part}" for layer in (0, 1) for part in (0, 1)),
    *(f"layer_{layer}/ffn/linear_{part}" for layer in (0, 1) for part in (0, 1)),
)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("by", [(-1, 0), (1, 0), (0, -1), (0, 1), (-(10**6), 0), (0, -(10**6))], ids=str)
def test_matrices_of_another_shape_are_damage(
    build: Path, variables: dict[str, NDArray[np.generic]], name: str, by: tuple[int, int]
) -> None:
    """Whose rows the C code would read beyond their end."""
    values = resized(variables[f"decoder/{name}/weight"].shape, by=by)
    changed = {f"decoder/{name}/weight": values, f"decoder/{name}/weight_scale": np.ones(len(values), np.float32)}
    (build / "model.bin").write_bytes(encode(variables | changed))
    assert_damaged(build)


def test_layers_of_different_widths_are_damage(build: Path, variables: dict[str, NDArray[np.generic]]) -> None:
    changed: dict[str, NDArray[np.generic]] = {}
    for part, by in (("linear_0", (-8, 0)), ("linear_1", (0, -8))):
        name = f"decoder/layer_1/ffn/{part}"
        values = resized(variables[f"{name}/weight"].shape, by=by)
        changed |= {f"{name}/weight": values, f"{name}/weight_scale": np.ones(len(values), np.float32)}
    changed["decoder/layer_1/ffn/linear_0/bias"] = np.zeros(
        len(changed["decoder/layer_1/ffn/linear_0/weight"]), np.float32
    )
    (build / "model.bin").write_bytes(encode(variables | changed))
    assert_damaged(build)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_heads", np.int16(3)),
        ("num_heads", np.int16(0)),
        ("num_heads", np.float32("nan")),
        ("num_heads", np.float32("inf")),
        ("num_heads", np.float32(0.5)),
        ("activation", np.float32("nan")),
        ("layer_0/self_attention/rotary_dim", np.int32(-2)),
        ("layer_0/self_attention/rotary_dim", np.int32(7)),
        ("layer_0/self_attention/rotary_dim", np.float32("nan")),
        ("layer_0/self_attention/rotary_base", np.float32("nan")),
        ("layer_0/self_attention/rotary_base", np.float32(0)),
        ("layer_0/shared_layer_norm/gamma", np.zeros(4, np.float32)),
        ("layer_norm/beta", np.zeros(4, np.float32)),
    ],
)
def test_impossible_numbers_are_damage(
    build: Path, variables: dict[str, NDArray[np.generic]], name: str, value: NDArray[np.generic]
) -> None:
    (build / "model.bin").write_bytes(encode(variables | {f"decoder/{name}": np.asarray(value)}))
    assert_damaged(build)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["embeddings/weight_scale", "layer_1/ffn/linear_1/weight_scale"])
def test_scales_that_are_no_scales_are_damage(
    build: Path, variables: dict[str, NDArray[np.generic]], name: str, value: float
) -> None:
    scales = np.array(variables[f"decoder/{name}"])
    scales[-1] = value
    (build / "model.bin").write_bytes(encode(variables | {f"decoder/{name}": scales}))
    assert_damaged(build)


@pytest.mark.parametrize("shape", [(0, 2**31, 2**31, 2**31), (0,) * 70, (0, 2**32 - 1, 2**32 - 1)])
def test_shapes_that_no_array_has_are_damage(
    build: Path, variables: dict[str, NDArray[np.generic]], shape: tuple[int, ...]
) -> None:
    head = struct.pack("<I", 6) + text("TransformerDecoderSpec") + struct.pack("<II", 8, 1)
    variable = text("decoder/x") + struct.pack(f"<B{len(shape)}I", len(shape), *shape) + struct.pack("<BI", 1, 0)
    (build / "model.bin").write_bytes(head + variable + struct.pack("<I", 0))
    with pytest.raises(ModelError):
        read_weights(build)


def assert_damaged(build: Path) -> None:
    with pytest.raises(ModelError, match="damaged") as caught:
        read_weights(build)
    assert not isinstance(caught.value, OtherEngineError)


def test_pages_of_packed_weights_are_dropped(embedded_build: Path, tmp_path: Path) -> None:
    """Pages that are read again come from the file."""
    build = Path(shutil.copytree(embedded_build, tmp_path / "build"))
    weights = read_weights(build)
    before = weights.lm_head.values.copy()
    weights.forget_pages()
    if Path("/proc/self/smaps").exists():
        of_the_file = Path("/proc/self/smaps").read_text().split(str(build / "model.bin"))[1]
        resident = next(line for line in of_the_file.splitlines() if line.startswith("Rss:"))
        assert int(resident.split()[1]) == 0
    assert np.array_equal(weights.lm_head.values, before)


def test_types_that_numpy_lacks_are_widened() -> None:
    """bfloat16 is the first half of a float32."""
    floats = np.array([1.0, -2.5, 0.0, 3.0e38], dtype=np.float32)
    halves = (floats.view(np.uint32) >> 16).astype(np.uint16)
    widened = Variable("bfloat16", halves).floats()
    assert widened.dtype == np.float32
    assert np.allclose(widened, floats, rtol=2**-7)
    assert np.array_equal(Variable("float16", floats[:3].astype(np.float16)).floats(), floats[:3])
