"""Timing the engines, and the builds with random weights that they are timed on. The times are not tested."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from rich.console import Console

from codegen_lsp.benchmarks import engines
from codegen_lsp.benchmarks.engines import OURS, benchmark_shape, environment_of, floor, measure, runnable
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.convert import build_logits
from codegen_lsp.cli.bench_plot import plot_engines
from codegen_lsp.cli.bench_tables import print_engines
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import WeightFormat
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import choose_kernel
from codegen_lsp.inference.engines.native.weights import read_weights

SHAPES = {
    "codegen": Architecture("codegen", 2, 4, 64, 256, 8, 640, 512, 1e-5, 4),
    "llama": Architecture("llama", 2, 4, 64, 192, 16, 640, 512, 1e-6),
}


@pytest.mark.parametrize("block", SHAPES)
def test_random_builds_run_in_both_engines(block: str, tmp_path: Path) -> None:
    shape = SHAPES[block]
    info = write_random_build(tmp_path, "random", shape)
    assert info.context_length == shape.context
    ids = list(range(1, 60))
    theirs = build_logits(tmp_path, ids).numpy()
    weights = read_weights(tmp_path)
    assert weights.block_type == block
    forward_pass = TorchForwardPass(weights, choose_kernel())
    ours = forward_pass.logits(forward_pass.forward(ids, forward_pass.new_cache(len(ids)), 0))
    assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)


def test_threads_wait_as_in_a_worker_in_our_engines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert {environment_of(name).get("OMP_WAIT_POLICY") for name in (*OURS, engines.INT4)} == {"passive"}
    others = (*engines.OTHERS, *engines.INT4_OTHERS)
    assert {environment_of(name).get("OMP_WAIT_POLICY") for name in others} == {None}
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert {environment_of(name)["OMP_WAIT_POLICY"] for name in (*OURS, *others)} == {"active"}


BIGCODE = Architecture(
    "gpt_bigcode", 2, 4, 64, 256, 0, 640, 512, 1e-5, kv_heads=1, qkv_bias=True, o_bias=True, mlp_bias=True, tied=True
)


def test_what_ct2_alone_runs_is_timed_without_the_others(tmp_path: Path) -> None:
    info = write_random_build(tmp_path, "random", BIGCODE)
    assert build_logits(tmp_path, list(range(1, 60))).isfinite().all()
    assert info.kv_width == 16
    names, note = runnable(tmp_path, OURS)
    assert names == ["ct2", "ct2_static"]
    assert "learned positions" in note
    assert floor(tmp_path, info, 100, 1e9).decode_step_ms * 1e6 == pytest.approx(BIGCODE.int8_bytes, rel=0.5)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen_lsp.cli", "bench", "engine", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"}, timeout=200, check=False
    )


@pytest.mark.slow
def test_the_command_times_every_engine(tmp_path: Path) -> None:
    needs.extra("plot")
    write_random_build(tmp_path, "random", SHAPES["codegen"])
    picture = tmp_path / "times.svg"
    result = run("--shape", tmp_path, "--context", 100, "--threads", 1, "--json", "--plot", picture)
    assert result.returncode == 0, result.stderr
    figures: dict[str, Any] = json.loads(result.stdout)
    assert figures["floor"]["decode_step_ms"] > 0
    assert set(figures["engines"]) == set(figures["memory_mb"]) == set(OURS)
    for timings in figures["engines"].values():
        assert set(timings) == {"cold_prefill_ms", "first_token_ms", "suggestion_ms", "decode_step_ms"}
        assert 0 < timings["first_token_ms"] < timings["suggestion_ms"]
    assert min(figures["memory_mb"].values()) > 5
    assert "</svg>" in picture.read_text(encoding="utf-8")
    console = Console(file=io.StringIO(), width=100)
    print_engines(console, figures)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ct2_static" in shown
    assert "floor at" in shown


@pytest.mark.slow
def test_four_bits_are_timed_beside_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SimpleNamespace(name="codegen-tiny-mono", architecture=SHAPES["llama"])
    monkeypatch.setattr(engines, "checkpoints", lambda: [shape])
    found = benchmark_shape("tiny", 100, 1, ("native", engines.INT4), WeightFormat(4, 64))
    assert set(found.engines) == {"native", "native_int4"}
    assert found.int4_floor is not None
    assert 0.4 < found.int4_floor.decode_step_ms / found.floor.decode_step_ms < 0.9
    console = Console(file=io.StringIO(), width=100)
    print_engines(console, attrs.asdict(found))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "native_int4" in shown
    assert "floor of 4-bit weights" in shown


def test_a_build_is_timed_with_the_weights_that_it_has(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", SHAPES["llama"], WeightFormat(4, 32))
    names, note = runnable(tmp_path, OURS)
    assert names == ["native"]
    assert "4-bit" in note
    with pytest.raises(ModelError, match="is a build"):
        benchmark_shape(str(tmp_path), 100, 1, OURS, WeightFormat(4, 32))


def test_a_picture_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    needs.extra("plot")
    timings = dict.fromkeys(("cold_prefill_ms", "first_token_ms", "suggestion_ms", "decode_step_ms"), 2.0)
    figures = {"build": "m", "context": 1, "threads": 1, "floor": {"decode_step_ms": 1.0}, "engines": {"ct2": timings}}
    for file in (tmp_path / "missing" / "a.svg", tmp_path / "a.word"):
        with pytest.raises(ModelError, match="can't be written"):
            plot_engines(figures, file)


def answers(name: str, build: Path, *commands: object) -> list[Any]:
    """What a peer in its process says to commands."""
    result = subprocess.run(
        [sys.executable, "-m", "codegen_lsp.benchmarks.peers", name, str(build), "1"],
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("block", SHAPES)
@pytest.mark.parametrize("name", ["llama.cpp", "llama.cpp_q4", "transformers"])
@pytest.mark.slow
def test_others_run_the_same_shapes(name: str, block: str, tmp_path: Path) -> None:
    if name.startswith("llama.cpp"):
        needs.extra("peers")
    write_random_build(tmp_path, "random", SHAPES[block])
    ids = list(range(1, 200))
    ready, _, cold, prepared, typed, memory = answers(
        name, tmp_path, ["run", ids[::-1], 3], ["run", ids, 1], ["prepare", ids], ["run", [*ids, 7], 5], ["memory"]
    )
    assert ready is True
    assert prepared is True
    assert 0 < cold[0] == cold[1]
    assert 0 < typed[0] < typed[1]
    assert memory > 2**20


def test_a_peer_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tmp_path / "build"
    build.mkdir()
    write_random_build(build, "random", SHAPES["codegen"])
    broken = tmp_path / "path" / "llama_cpp"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no llama here')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(broken.parent), os.environ.get("PYTHONPATH", ""))))
    with pytest.raises(ModelError, match="no llama here") as caught:
        measure(build, 16, 1, ["llama.cpp"])
    assert "peers" in caught.value.advice


@pytest.mark.slow
def test_what_can_not_be_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a build's folder"):
        benchmark_shape("351M", 100, 1)
    write_random_build(tmp_path, "random", SHAPES["codegen"])
    result = run("--shape", tmp_path, "--context", 600)
    assert result.returncode == 1
    assert "context of 512 tokens" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
