"""Timing drafts and cancellations. What the times are is not tested."""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path

from typer.testing import CliRunner

from codegen_lsp.benchmarks import cancel as cancelling
from codegen_lsp.benchmarks import drafts as drafting
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.cli.app import app

SOURCE = inspect.getsource(textwrap)


def test_both_ways_write_the_same(embedded_build: Path) -> None:
    texts = [(SOURCE[:end], SOURCE[end + 40 : end + 400]) for end in range(600, 4600, 800)]
    found = drafting.measure(embedded_build, texts, 24, 1, ngrams="on")
    assert found.ngrams
    assert found.places == len(texts) - drafting.WARM_UP
    assert found.tokens_per_second > 0
    assert found.drafted_tokens_per_second > 0
    assert found.same is not None
    assert found.same.value > 0.9


def test_cancellations_are_timed(tmp_path: Path) -> None:
    write_random_build(tmp_path, "random", Architecture("codegen", 4, 4, 256, 1024, 8, 640, 1024, 1e-5, 4))
    found = cancelling.measure(tmp_path, 900, 1, rounds=6)
    assert found.chunk_tokens >= 32
    for times in (found.reading, found.writing):
        assert 1 <= times.rounds <= 6
        assert 0 <= times.median_ms <= times.p95_ms <= times.longest_ms


def test_the_commands_print_figures(tmp_path: Path, embedded_build: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE, encoding="utf-8")
    options = ["--model", str(embedded_build), "--places", "2", "--tokens", "8", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["bench", "drafts", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["gain"]["cases"] == 2
    options = ["--shape", str(embedded_build), "--context", "200", "--rounds", "2", "--threads", "1"]
    result = CliRunner().invoke(app, ["bench", "cancel", *options])
    assert result.exit_code == 0, result.output
    assert "reading" in result.stdout
