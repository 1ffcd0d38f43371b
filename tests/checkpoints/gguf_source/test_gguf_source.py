"""Conversion of GGUF files: the same build as from a folder with the same values, and refusals."""

from __future__ import annotations

from tests import needs

needs.extra("export")

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch

from codegen_lsp.checkpoints import store as store_module
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint, convert_into_store
from codegen_lsp.checkpoints.rotary_scaling import read_rotary
from codegen_lsp.checkpoints.verify import verify_build
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import read_info
from tests.checkpoints.gguf_source.gguf_files import shape_in_blocks, write_gguf

PRE = {"deepseek": {"begin": "<｜begin▁of▁sentence｜>"}}
IDS = torch.randint(0, 380, (64,), generator=torch.Generator().manual_seed(4)).tolist()


@pytest.fixture
def write(small_tokenizers: dict[str, Path], small: SimpleNamespace, tmp_path: Path) -> Callable[..., Any]:
    """Write a GGUF file of a family: `write(family, type=..., extra=...)` returns its path and its values."""

    def made(family: str, type: str = "F32", **options: Any) -> tuple[Path, Any]:
        shape = shape_in_blocks(small.OTHER_SHAPES[family], type)
        path = tmp_path / "mine.gguf"
        given = PRE.get(family, {}) | options
        values = write_gguf(path, shape, small.random_state(shape), small_tokenizers[family], type, **given)
        return path, SimpleNamespace(shape=shape, values=values)

    return made


@pytest.mark.parametrize(
    ("family", "type"),
    [
        *(("qwen2", type) for type in ("F32", "Q8_0", "Q5_0", "Q4_K")),
        *(("deepseek", type) for type in ("F16", "BF16", "Q6_K")),
        ("granite", "Q8_0"),
        ("wide heads", "F32"),
    ],
)
def test_a_file_gives_the_build_of_a_folder_with_its_values(
    family: str, type: str, write: Callable[..., Any], make_checkpoint: Any, tmp_path: Path
) -> None:
    path, file = write(family, type)
    folder = make_checkpoint(family, shape=file.shape, state=file.values)
    expected = convert_checkpoint(folder, tmp_path / "from folder", name="mine")
    found = convert_checkpoint(path, tmp_path / "from file", name="mine")
    assert (tmp_path / "from file" / "model.bin").read_bytes() == (tmp_path / "from folder" / "model.bin").read_bytes()
    differences = {
        name for name, value in attrs.asdict(found).items() if value != getattr(attrs.evolve(expected), name, None)
    }
    assert differences <= {"source", "files", "verification", "infill_marks", "file_marks", "end_of_text", "languages"}
    assert (found.infill_marks, found.file_marks) == (expected.infill_marks, expected.file_marks)
    assert found.source == "mine.gguf"
    assert found.end_of_text == expected.end_of_text
    assert {path.name for path in tmp_path.iterdir()} == {"mine.gguf", "checkpoint", "from folder", "from file"}


@pytest.mark.parametrize("type", ["F16", "Q8_0"])
def test_quantized_files_are_near_the_float_model(
    type: str, write: Callable[..., Any], make_checkpoint: Any, tmp_path: Path, small: SimpleNamespace
) -> None:
    path, file = write("deepseek", type)
    folder = make_checkpoint("deepseek", shape=file.shape, state=small.random_state(file.shape))
    convert_checkpoint(folder, tmp_path / "exact", name="mine")
    convert_checkpoint(path, tmp_path / "build", name="mine")
    exact, found = build_logits(tmp_path / "exact", IDS), build_logits(tmp_path / "build", IDS)
    assert float((found - exact).norm() / exact.norm()) < 0.05
    assert verify_build(tmp_path / "exact", path).agreement > 0.8


def test_a_file_is_installed_under_its_name(write: Callable[..., Any], store: Path) -> None:
    path, _ = write("qwen2", "Q8_0")
    assert convert_into_store(path).name == "mine"
    assert [build.name for build in store_module.installed()] == ["mine"]
    assert read_info(store / "mine").license == "mit"
    assert not list(store.glob("**/.floats-*"))


def test_a_full_disk_is_noticed_before(
    write: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write("qwen2", "Q8_0")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ConversionError, match=r"takes 0\.0 GB on the disk"):
        convert_checkpoint(path, tmp_path / "build", name="mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no RLIMIT_FSIZE")
def test_a_folder_of_temporary_files_that_is_full(
    write: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of the size of files stands for a full disk: config.json fits, tokenizer.json does not."""
    import resource

    path, _ = write("qwen2", "Q8_0")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(ConversionError, match=r"mine\.gguf could not be written") as caught:
            convert_checkpoint(path, tmp_path / "build", name="mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "TMPDIR" in caught.value.advice
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "extra", "reason"),
    [
        ("qwen2", {"tokenizer.ggml.model": "llama"}, "SentencePiece"),
        ("qwen2", {"tokenizer.ggml.pre": "kimi-k2"}, "not known here, 'kimi-k2'"),
        ("deepseek", {"tokenizer.ggml.pre": None}, "does not tell how its model cuts text"),
        ("deepseek", {"tokenizer.ggml.pre": "default"}, "does not tell how its model cuts text"),
        ("deepseek", {"llama.rope.scaling.type": "yarn"}, "original_context_length is missing"),
        ("deepseek", {"llama.rope.scaling.type": "longrope"}, "a rotary scaling of the kind longrope"),
        ("deepseek", {"llama.rope.scaling.attn_factor": 1.5}, "a rotary scaling with attn_factor"),
        ("deepseek", {"llama.expert_count": 8}, "a mixture of experts"),
        ("deepseek", {"llama.attention.sliding_window": 4096}, "a sliding window"),
        ("deepseek", {"llama.embedding_scale": 12.0}, "the multiplier embedding_scale"),
        ("deepseek", {"llama.rope.dimension_count": 8}, "a part of each head"),
        ("deepseek", {"llama.attention.value_length": 8}, "values of another width"),
        ("deepseek", {"llama.block_count": 1 << 23}, "only 21 tensors"),
        ("deepseek", {"llama.block_count": (1 << 32) - 1}, "llama.block_count is 4294967295"),
        ("deepseek", {"llama.attention.head_count": 0}, "llama.attention.head_count is 0"),
        ("deepseek", {"llama.attention.head_count_kv": [4, 4]}, "llama.attention.head_count_kv is .4, 4."),
        ("deepseek", {"llama.embedding_length": None}, "llama.embedding_length is missing"),
        ("deepseek", {"llama.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon is nan"),
        ("deepseek", {"llama.feed_forward_length": 99}, "where config.json makes it .99, 64."),
        ("deepseek", {"general.alignment": 3}, "its alignment is 3"),
        ("qwen2", {"tokenizer.ggml.token_type": [1, 1]}, "2 types of them"),
        ("qwen2", {"tokenizer.ggml.tokens": [1, 2]}, "no list tokenizer.ggml.tokens"),
        ("qwen2", {"tokenizer.ggml.merges": ["no-merge"]}, "merges in .* are damaged"),
        ("qwen2", {"tokenizer.ggml.eos_token_id": 99999}, "the id of eos is 99999"),
    ],
)
def test_other_models_are_refused(
    family: str, extra: dict[str, Any], reason: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    path, _ = write(family, extra=extra)
    with pytest.raises(ConversionError, match=reason) as caught:
        convert_checkpoint(path, tmp_path / "build", name="mine")
    assert str(path) in caught.value.message or "config.json" in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]


YARN = {"factor": 4.0, "original_max_position_embeddings": 128}


@pytest.mark.parametrize("family", ["qwen2", "wide heads"])
@pytest.mark.parametrize("kind", ["yarn", "llama3"])
def test_scalings_of_positions_are_those_of_a_folder(
    family: str, kind: str, write: Callable[..., Any], make_checkpoint: Any, tmp_path: Path, small: SimpleNamespace
) -> None:
    scaling: dict[str, Any] = YARN | {"rope_type": kind}
    name, shape = "qwen2" if family == "qwen2" else "llama", small.OTHER_SHAPES[family]
    if kind == "yarn":
        keys = {"type": "yarn", "factor": 4.0, "original_context_length": 128}
        path, file = write(family, extra={f"{name}.rope.scaling.{key}": value for key, value in keys.items()})
    else:
        scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        declared = {"rope_theta": shape.rotary_base, "max_position_embeddings": 512, "rope_scaling": scaling}
        path, file = write(family, divisors=read_rotary(declared, shape.head_width).divisors)
    folder = make_checkpoint(family, state=file.values, config={"rope_scaling": scaling})
    convert_checkpoint(folder, tmp_path / "from folder", name="mine")
    convert_checkpoint(path, tmp_path / "from file", name="mine")
    assert (tmp_path / "from file" / "model.bin").read_bytes() == (tmp_path / "from folder" / "model.bin").read_bytes()
    plain = convert_checkpoint(make_checkpoint(family, name="plain"), tmp_path / "unscaled", name="mine")
    assert plain.files["model.bin"].sha256 != read_info(tmp_path / "from file").files["model.bin"].sha256


@pytest.mark.parametrize(
    ("divisors", "extra", "reason"),
    [
        ([1.0] * 7, {}, "rope_freqs.weight of the shape"),
        ([1.0] * 8, {"llama.rope.scaling.type": "yarn"}, "beside a rotary scaling of the kind yarn"),
        ([1.0] * 8, {"llama.rope.scaling.factor": 4.0}, "beside a rotary scaling of the kind linear"),
        ([1.0] * 7 + [0.0], {"llama.rope.scaling.type": None, "llama.rope.scaling.factor": None}, "positive numbers"),
    ],
)
def test_divisors_that_do_not_fit_are_refused(
    divisors: list[float], extra: dict[str, Any], reason: str, write: Callable[..., Any], tmp_path: Path
) -> None:
    path, _ = write("deepseek", divisors=divisors, extra=extra)
    with pytest.raises(ConversionError, match=reason):
        convert_checkpoint(path, tmp_path / "build", name="mine")


def test_a_tensor_of_another_block_is_refused(write: Callable[..., Any], tmp_path: Path) -> None:
    path, _ = write("deepseek")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_norm.weight", b"blk.1.attn_sqz.weight"))
    with pytest.raises(ConversionError, match=r"tensor blk\.1\.attn_sqz\.weight, which this architecture lacks"):
        convert_checkpoint(path, tmp_path / "build", name="mine")
