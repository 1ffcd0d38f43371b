"""Timing the engines, and the builds with random weights that they are timed on. What the times are is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.convert import build_logits
from codegen_lsp.errors import ModelError
from codegen_lsp.evaluation.engines import benchmark_shape
from codegen_lsp.evaluation.random_build import write_random_build
from codegen_lsp.inference.kernels import choose_kernel
from codegen_lsp.inference.transformer import Transformer
from codegen_lsp.inference.weights import read_weights

SHAPES = {
    "codegen": Architecture("codegen", 2, 4, 64, 256, 8, 640, 512, 1e-5, 4),
    "llama": Architecture("llama", 2, 4, 64, 176, 16, 640, 512, 1e-6),
}


@pytest.mark.parametrize("block", SHAPES)
def test_random_builds_run_in_both_engines(block: str, tmp_path: Path) -> None:
    shape = SHAPES[block]
    info = write_random_build(tmp_path, "random", shape)
    assert info.context_length == shape.context
    ids = list(range(1, 60))
    theirs = build_logits(tmp_path, ids)
    weights = read_weights(tmp_path)
    assert weights.block == block
    transformer = Transformer(weights, choose_kernel())
    with torch.inference_mode():
        ours = transformer.logits(transformer.forward(ids, transformer.new_cache(len(ids)), 0))
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen_lsp.cli", "bench", "engine", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"}, timeout=200, check=False
    )


def test_the_command_times_every_engine(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", SHAPES["codegen"])
    result = run("--shape", tmp_path, "--context", 100, "--threads", 1, "--json")
    assert result.returncode == 0, result.stderr
    figures: dict[str, Any] = json.loads(result.stdout)
    assert figures["floor"]["decode_step_ms"] > 0
    assert set(figures["engines"]) == {"incremental", "ct2", "ct2_static"}
    for timings in figures["engines"].values():
        assert set(timings) == {"cold_prefill_ms", "first_token_ms", "suggestion_ms", "decode_step_ms"}
        assert 0 < timings["first_token_ms"] < timings["suggestion_ms"]
    shown = run("--shape", tmp_path, "--context", 100, "--threads", 1)
    assert "ct2_static" in shown.stdout
    assert "floor at" in shown.stdout


def test_what_can_not_be_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a build's folder"):
        benchmark_shape("351M", 100, 1)
    write_random_build(tmp_path, "random", SHAPES["codegen"])
    result = run("--shape", tmp_path, "--context", 600)
    assert result.returncode == 1
    assert "context of 512 tokens" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
