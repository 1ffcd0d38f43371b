"""Cancellations of prefill and decoding. The times themselves are not tested."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from codegen_lsp.benchmarks import cancel
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.cli.app import app


def test_cancellations_are_timed(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", Architecture("codegen", 4, 4, 256, 1024, 8, 640, 1024, 1e-5, 4))
    found = cancel.measure(tmp_path, 900, 1, rounds=6)
    assert found.chunk_tokens >= 32
    for times in (found.reading, found.writing):
        assert 1 <= times.rounds <= 6
        assert 0 <= times.median_ms <= times.p95_ms <= times.longest_ms


def test_the_command(embedded_build: Path) -> None:
    options = ["--shape", str(embedded_build), "--context", "200", "--rounds", "2", "--threads", "1"]
    result = CliRunner().invoke(app, ["bench", "cancel", *options])
    assert result.exit_code == 0, result.output
    assert "reading" in result.stdout
