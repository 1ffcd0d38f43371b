"""`codegen-lsp trace`, run as a user runs it, and its view on the terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from codegen_lsp.cli.trace_view import most_attended, print_trace
from codegen_lsp.inference.engines.native.ngram_segment import library
from tests.trace.traces import HOSTILE, dense, hostile_trace

LIBRARY = "def restock(registry, burrow):\n    registry.enlist_marsupial(burrow, eager=True)\n"
MAIN = "import os\n\n\ndef visit(registry, burrow):\n    registry.enlist_"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "lib" / "quokka.py").write_text(LIBRARY)
    (folder / "main.py").write_text(MAIN)
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen_lsp.cli", "trace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")
def test_a_trace_has_the_request_of_an_editor_and_writes_a_page(project: Path, embedded_build: Path) -> None:
    out = project / "trace.html"
    shown = run(f"{project / 'main.py'}:5", "--html", out, "-m", embedded_build)
    assert shown.returncode == 0, shown.stderr
    assert "main.py:5:21" in shown.stdout
    assert "lib/quokka.py:2" in shown.stdout
    assert str(out) in shown.stdout
    assert out.read_text("utf-8").startswith("<!doctype html>")
    body = json.loads(run(f"{project / 'main.py'}:5", "--json", "-m", embedded_build).stdout)
    assert (body["line"], body["column"], body["shown"]) == (5, 21, True)
    assert body["suggestion"].startswith("marsupial(")
    prompt, tokens = body["attribution"]["prompt"], body["attribution"]["tokens"]
    texts = [*(one["token"]["text"] for one in prompt), *(one["text"] for one in tokens)]
    assert "".join(texts) == MAIN + body["suggestion"]
    assert {one["line"] for one in prompt} == {1, 4, 5}
    assert len(body["attribution"]["attention"]["suggestion"]) == len(tokens)
    assert any(one["workspace"] and one["workspace"]["path"] == "lib/quokka.py" for one in tokens)


def test_a_file_that_is_no_trace_is_kept_and_no_model_is_asked(project: Path) -> None:
    kept = run(f"{project / 'main.py'}:5", "--html", project / "main.py", "-m", "no-such-model")
    assert kept.returncode == 1
    assert "is no trace" in kept.stderr
    assert (project / "main.py").read_text() == MAIN


def test_a_place_without_a_suggestion_names_the_rule(project: Path, embedded_build: Path) -> None:
    (project / ".env").write_text("KEY = ")
    refused = run(f"{project / '.env'}:1", "-m", embedded_build)
    assert refused.returncode == 1
    assert "There is nothing to trace: The file's name says that it holds keys" in refused.stderr


def test_the_terminal_view_lets_nothing_control_the_terminal() -> None:
    out = io.StringIO()
    print_trace(Console(file=out, width=100, force_terminal=False), hostile_trace())
    text = out.getvalue()
    assert not set(text) & set("\x00\x07\x1b\u202e\u2066\u2028")
    assert "</script><script>alert(1)" in text
    assert "[31m" in text
    assert "Not shown: <u>because</u>" in text


def test_the_most_attended_tokens_are_those_of_the_mean_over_all_heads() -> None:
    found = hostile_trace()
    record, prompt = found.attribution.attention, len(found.attribution.prompt)
    assert record is not None
    mean = dense(record, 2).mean((0, 1))
    best = most_attended(record, prompt, 2)
    assert [at for at, _ in best[:5]] == (np.argsort(-mean[1:], kind="stable") + 1)[:5].tolist()
    assert best[0][1] == pytest.approx(mean[1:].max())
    assert most_attended(record, prompt, len(HOSTILE) + 1) == []
