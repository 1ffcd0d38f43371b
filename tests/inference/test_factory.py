"""The choice of an engine."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo, WeightFormat, read_info
from codegen_lsp.inference.engines import factory as engines
from codegen_lsp.inference.engines.base import Engine
from codegen_lsp.inference.engines.ct2 import devices
from codegen_lsp.inference.engines.factory import default_cache_bytes, open_engine, suits_native
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer
from tests import needs


@pytest.fixture
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 processor that the compiled library supports, without a GPU."""
    if c_forward.library() is None:
        pytest.skip("the C library was not compiled, or not for this processor")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(engines, "cuda_devices", lambda: 0)


def test_a_fast_cpu_runs_the_native_engine(fast_cpu: None) -> None:
    assert suits_native("auto")
    assert suits_native("cpu")


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "riscv64"])
def test_a_library_is_what_another_processor_needs(
    fast_cpu: None, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(c_forward, "library", lambda: object())
    assert suits_native("auto")
    monkeypatch.setattr(c_forward, "library", lambda: None)
    monkeypatch.setattr(engines, "_torch_is_fast", lambda: True)
    assert not suits_native("auto")


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", True), ("AVX512", True), ("DEFAULT", False)])
def test_without_a_library_torch_must_be_fast(
    fast_cpu: None, capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.extra("convert")
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(c_forward, "library", lambda: None)
    assert suits_native("auto") is expected


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torch nor a compiled library."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "codegen_lsp.inference.engines.native.torch_forward", raising=False)
    monkeypatch.delitem(sys.modules, "codegen_lsp.inference.engines.native.torch_kernels", raising=False)
    monkeypatch.setattr(c_forward, "library", lambda: None)


def test_without_a_library_and_torch_ct2_runs(
    fast_cpu: None, without_torch: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    assert not suits_native("auto")
    assert opened(embedded_build, info, tokenizer) == "ct2"


def test_an_engine_without_a_library_and_torch_says_what_to_install(
    without_torch: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    with pytest.raises(ModelError, match="no compiled library for this processor") as caught:
        opened(embedded_build, info, tokenizer, engine="native")
    assert "pip install 'codegen-lsp[convert]'" in caught.value.advice


def test_a_library_of_another_version_leaves_ct2(
    fast_cpu: None,
    embedded_build: Path,
    info: BuildInfo,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise OtherEngineError("The library was compiled from another version.", "Install again.")

    monkeypatch.setattr(c_forward, "library", refuse)
    assert opened(embedded_build, info, tokenizer) == "ct2"


def test_a_gpu_runs_ct2_unless_the_cpu_is_requested(fast_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cuda_devices", lambda: 1)
    assert not suits_native("auto")
    assert not suits_native("cuda")
    assert suits_native("cpu")


def test_ctranslate2_is_asked_for_gpus_only_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "capabilities", lambda: devices.Capabilities([], [], gpus=2))
    monkeypatch.setattr(engines, "has_cuda_driver", lambda: True)
    assert engines.cuda_devices() == 2
    monkeypatch.setattr(engines, "has_cuda_driver", lambda: False)
    assert engines.cuda_devices() == 0


def opened(build: Path, info: BuildInfo, tokenizer: Tokenizer, **options: str) -> str:
    engine = open_engine(LoadParams(str(build), threads=1, **options), build, info, tokenizer)  # type: ignore[arg-type]
    engine.close()
    return engine.name


def test_auto_opens_the_faster_engine(
    fast_cpu: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(embedded_build, info, tokenizer) == "native"
    monkeypatch.setattr(c_forward, "library", lambda: None)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert opened(embedded_build, info, tokenizer) == "ct2"


def test_ct2_runs_what_the_native_engine_refuses(
    fast_cpu: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    assert opened(embedded_build, info, tokenizer, compute_type="float32") == "ct2"
    with pytest.raises(ModelError, match="native"):
        opened(embedded_build, info, tokenizer, engine="native", compute_type="float32")


def changed_build(build: Path, folder: Path, old: bytes, new: bytes) -> Path:
    """Return a copy of a build whose weights have other bytes at the first place with these."""
    copy = Path(shutil.copytree(build, folder / "build"))
    content = (copy / "model.bin").read_bytes()
    assert old in content
    (copy / "model.bin").write_bytes(content.replace(old, new, 1))
    return copy


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"decoder/num_heads", b"decoder/num_xeads", id="a name that no engine knows"),
        pytest.param(b"shared_layer_norm/gamma", b"shared_layer_norm/gamxa", id="a missing variable"),
        pytest.param(b"TransformerDecoderSpec", b"TransformerXecoderSpec", id="another kind"),
    ],
)
def test_ct2_is_not_given_what_is_damaged(
    fast_cpu: None, embedded_build: Path, tokenizer: Tokenizer, tmp_path: Path, old: bytes, new: bytes
) -> None:
    build = changed_build(embedded_build, tmp_path, old, new)
    with pytest.raises(ModelError, match=r"damaged|not a decoder"):
        opened(build, read_info(build), tokenizer)


@pytest.mark.parametrize(("width", "kv_width"), [(512, 512), (1024, 1024), (4096, 512)])
def test_the_cache_holds_the_prompts_of_several_users(width: int, kv_width: int) -> None:
    info = BuildInfo("m", "codegen", "s", "none", 2048, 8192, 6, 8, width, 0, kv_width=kv_width)
    prompt = 2048 * 6 * kv_width * 2 * 4
    assert prompt <= default_cache_bytes(info) < 8 * prompt
    assert default_cache_bytes(info, 8) == min(8 * prompt, psutil.virtual_memory().total // 4)


@pytest.fixture
def four_bit_build(tmp_path: Path) -> Path:
    shape = Architecture("llama", 1, 2, 64, 64, 32, 96, 128, 1e-6)
    write_random_build(tmp_path, "4-bit", shape, WeightFormat(4, 32))
    return tmp_path


def opened_by(build: Path, engine: str, device: str = "auto") -> Engine:
    info = read_info(build)
    params = LoadParams(str(build), engine=engine, device=device, threads=1)
    return open_engine(params, build, info, Tokenizer.from_build(build, info))


def test_four_bits_are_run_by_the_native_engine_alone(
    four_bit_build: Path, fast_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a GPU, too, which it does not use."""
    monkeypatch.setattr(engines, "cuda_devices", lambda: 1)
    for engine in ("auto", "native"):
        found = opened_by(four_bit_build, engine)
        assert (found.name, found.compute_type) == ("native", "int4")
        found.close()
    for engine, device in (("ct2", "auto"), ("auto", "cuda")):
        with pytest.raises(ModelError, match="4 bits") as caught:
            opened_by(four_bit_build, engine, device)
        assert "native" in caught.value.advice


def test_what_the_native_engine_can_not_run_in_four_bits_is_not_left_to_another(
    four_bit_build: Path, without_torch: None
) -> None:
    with pytest.raises(OtherEngineError, match="library"):
        opened_by(four_bit_build, "auto")
