"""Drafts on and off: the same tokens. The times themselves are not tested."""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.benchmarks import drafts
from codegen_lsp.cli.app import app
from codegen_lsp.evaluation.lines import LineStart
from codegen_lsp.inference.engines.native.ngram_segment import library

SOURCE = inspect.getsource(textwrap)


@pytest.mark.parametrize("indexed", [False, True])
def test_both_ways_write_the_same(embedded_build: Path, indexed: bool) -> None:
    if indexed and library() is None:
        pytest.skip("ngram_index.c was not compiled here")
    starts = [LineStart(SOURCE[:end], SOURCE[end + 40 : end + 400], "p", "a") for end in range(600, 4600, 800)]
    workspace = {"p": {"a": SOURCE, "b": SOURCE[500:5_000]}} if indexed else {}
    found = drafts.measure(embedded_build, starts, 24, 1, ngrams="on", packages=workspace)
    assert found.ngrams
    assert found.workspace == indexed
    assert found.places == len(starts) - drafts.WARM_UP
    assert found.tokens_per_second > 0
    assert found.drafted_tokens_per_second > 0
    assert found.same is not None
    assert found.same.value > 0.9


def test_the_command(tmp_path: Path, embedded_build: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE, encoding="utf-8")
    options = ["--model", str(embedded_build), "--places", "2", "--tokens", "8", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["bench", "drafts", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["gain"]["cases"] == 2
