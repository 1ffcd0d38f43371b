"""Several requests at once. The times themselves are not tested."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from codegen_lsp.benchmarks import batching
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.cli.app import app
from codegen_lsp.errors import ModelError


def test_requests_at_once_are_timed(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", Architecture("codegen", 2, 4, 64, 256, 8, 160, 512, 1e-5, 4))
    found = batching.measure(tmp_path, 128, 1, rounds=2)
    assert list(found.tokens_per_second) == ["1", "2", "4", "8", "16"]
    assert min(found.tokens_per_second.values()) > 0
    assert min(found.alone_ms, found.joining_ms) > 0


def test_the_command(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", Architecture("codegen", 2, 4, 64, 256, 8, 160, 512, 1e-5, 4))
    options = ["bench", "batching", "--shape", str(tmp_path), "--rounds", "1", "--threads", "1", "--context"]
    result = CliRunner().invoke(app, [*options, "128"])
    assert result.exit_code == 0, result.output
    assert "while 8 others decode" in " ".join(result.stdout.split())
    refused = CliRunner().invoke(app, [*options, "300"])
    assert isinstance(refused.exception, ModelError)
    assert refused.exception.advice == "Ask for at most 256."
