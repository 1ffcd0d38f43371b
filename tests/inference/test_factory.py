"""The choice of an engine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines import factory as engines
from codegen_lsp.inference.engines.factory import open_engine, suits_native
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer


@pytest.fixture
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(engines, "cuda_devices", lambda: 0)


def test_a_fast_cpu_runs_the_native_engine(fast_cpu: None) -> None:
    assert suits_native("auto")
    assert suits_native("cpu")


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "riscv64"])
def test_other_processors_run_ct2(fast_cpu: None, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert not suits_native("auto")


def test_processors_without_avx2_run_ct2(fast_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert not suits_native("auto")


def test_a_gpu_runs_ct2_unless_the_cpu_is_requested(fast_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cuda_devices", lambda: 1)
    assert not suits_native("auto")
    assert not suits_native("cuda")
    assert suits_native("cpu")


def opened(build: Path, info: BuildInfo, tokenizer: Tokenizer, **options: str) -> str:
    engine = open_engine(LoadParams(str(build), threads=1, **options), build, info, tokenizer)  # type: ignore[arg-type]
    engine.close()
    return engine.name


def test_auto_opens_the_faster_engine(
    fast_cpu: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(embedded_build, info, tokenizer) == "native"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert opened(embedded_build, info, tokenizer) == "ct2"


def test_ct2_runs_what_the_native_engine_refuses(
    fast_cpu: None, embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer
) -> None:
    assert opened(embedded_build, info, tokenizer, compute_type="float32") == "ct2"
    with pytest.raises(ModelError, match="native"):
        opened(embedded_build, info, tokenizer, engine="native", compute_type="float32")
