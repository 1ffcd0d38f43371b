"""`codegen-lsp eval …`, run as a user runs it, with the embedded build."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from codegen_lsp.cli.eval_tables import print_shares
from codegen_lsp.evaluation import human_eval
from codegen_lsp.evaluation.runtime import Measurement
from codegen_lsp.sandbox.sandbox import SandboxError, run_program
from tests.evaluation.conftest import SOURCE


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    (folder / "node_modules").mkdir(parents=True)
    (folder / "module.py").write_text(SOURCE)
    (folder / "windows.py").write_bytes(SOURCE.replace("\n", "\r\n").encode())
    (folder / "node_modules" / "other.js").write_text("var x;\n")
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def run(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "80"}
    command = [sys.executable, "-m", "codegen_lsp.cli", "eval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, cwd=home)


def figures(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    assert not body["interrupted"]
    assert len(body["weights"]) == 64
    found: dict[str, Any] = body["figures"]
    return found


@pytest.mark.slow
def test_lines(sources: Path, embedded_build: Path, tmp_path: Path) -> None:
    command = ("lines", sources, "-m", embedded_build, "--cases", 2, "--shown", "--threads", 1)
    once = figures(run(*command, "--json", "--save", "answers.jsonl", home=tmp_path))
    assert [(one["kind"], one["below"]) for one in once["alone"]] == [
        (kind, below) for kind in ("line start", "mid-line", "mid-word") for below in (False, True)
    ]
    assert all(one["exact"]["cases"] == 2 for one in once["alone"] + once["shown"])
    assert figures(run(*command, "--json", home=tmp_path)) == once
    rows = [json.loads(row) for row in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    for row in rows:
        line = Path(row["path"]).read_text().split("\n")[row["line"] - 1]
        assert line.rstrip() == row["before"] + row["expected"]


@pytest.mark.slow
def test_parts(sources: Path, embedded_build: Path, tmp_path: Path) -> None:
    command = ("parts", sources, "-m", embedded_build, "--cases", 1, "--threads", 1)
    found = figures(run(*command, "--part", "ngrams", "--part", "infilling", "--json", home=tmp_path))
    by_part = {one["part"]: one for one in found["parts"]}
    assert by_part["ngrams"]["cases"] == 2 * by_part["infilling"]["cases"] > 0
    told = run(*command, "--part", "threshold", home=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "threshold" in told.stdout
    assert "…" not in told.stdout


@pytest.mark.slow
def test_lines_for_a_person(sources: Path, embedded_build: Path, tmp_path: Path) -> None:
    result = run("lines", sources, "-m", embedded_build, "--cases", 1, "--threads", 1, home=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "line start" in result.stdout
    assert "…" not in result.stdout
    assert result.stderr.strip() == ""


def test_bits_per_byte(sources: Path, embedded_build: Path, tmp_path: Path) -> None:
    command = ("bits-per-byte", sources, "-m", embedded_build, "--threads", 1)
    found = figures(run(*command, "--json", home=tmp_path))
    assert found["bits_per_byte"]["cases"] == 2
    assert 0 < found["bits_per_byte"]["value"] < 8
    assert set(found) == {"bits_per_byte"}


@pytest.mark.slow
def test_humaneval_infilling(embedded_build: Path, tmp_path: Path) -> None:
    row = {"task_id": "a", "prompt": "def f(x):\n", "suffix": "    return y\n", "canonical_solution": "    y = x\n"}
    (tmp_path / human_eval.SINGLE_LINES).write_bytes(gzip.compress(json.dumps(row).encode()))
    found = figures(run("humaneval-infilling", "-m", embedded_build, "--data", ".", "--json", home=tmp_path))
    assert found["exact_match"]["cases"] == 1


@pytest.mark.slow
def test_humaneval_with_samples(embedded_build: Path, tmp_path: Path) -> None:
    try:
        run_program("pass")
    except SandboxError as error:
        pytest.skip(str(error))
    row = {"task_id": "a", "prompt": "x = 1\n\n", "entry_point": "print", "canonical_solution": "", "test": "y = 2"}
    (tmp_path / human_eval.PROGRAMS).write_bytes(gzip.compress(json.dumps(row).encode()))
    command = ("humaneval", "-m", embedded_build, "--data", ".", "--json")
    assert set(figures(run(*command, home=tmp_path))["rates"]) == {"pass@1"}
    files = ("--out", "log", "--save", "samples.jsonl", "--html", "report.html")
    sampled = figures(run(*command, "--samples", 2, "--temperature", 0.5, *files, home=tmp_path))
    assert sampled["rates"]["pass@1"]["cases"] == 1
    assert len((tmp_path / "log").read_text().splitlines()) == 3
    assert "HumanEval" in (tmp_path / "report.html").read_text()
    assert run(*command, "--samples", 2, home=tmp_path).returncode == 2
    judged = run("run", "--samples", "samples.jsonl", "--data", ".", "--json", home=tmp_path)
    assert json.loads(judged.stdout)["figures"]["rates"] == sampled["rates"], judged.stderr


@pytest.mark.slow
def test_mtpb_goes_on_where_it_was(embedded_build: Path, tmp_path: Path) -> None:
    try:
        run_program("pass")
    except SandboxError as error:
        pytest.skip(str(error))
    row = {"id": "1", "name": "n", "category": "math", "prompts": ["Set x to {A}.", "Print x."]}
    row |= {"inputs": [{"A": 1}, {"A": 2}], "outputs": [1, 2], "max_gen_length": 16}
    (tmp_path / "mtpb.jsonl").write_text(json.dumps(row))
    command = ("mtpb", "-m", embedded_build, "--data", ".", "--json", "--out", "log", "--threads", 1)
    found = figures(run(*command, home=tmp_path))
    assert found["rates"]["pass rate"]["cases"] == 1
    assert set(found["groups"]) == {"math", "2 turns"}
    before = (tmp_path / "log").read_text()
    assert figures(run(*command, home=tmp_path)) == found
    assert (tmp_path / "log").read_text() == before
    assert "another run" in run(*command, "--temperature", 0.4, home=tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("lines",), "--until corpus"),
        (("lines", "--corpus", "nowhere"), "--until corpus"),
        (("lines", "missing.py"), "Check the path"),
        (("bits-per-byte", "."), "Give files or folders"),
        (("humaneval", "--data", "nowhere"), "Get HumanEval.jsonl.gz from"),
    ],
)
def test_what_is_missing_is_named(
    arguments: tuple[str, ...], advice: str, embedded_build: Path, tmp_path: Path
) -> None:
    result = run(*arguments, "-m", embedded_build, home=tmp_path)
    assert result.returncode == 1
    assert advice in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_an_interrupted_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from codegen_lsp.inference.rpc.messages import ModelDescription

    model = ModelDescription("m", "codegen", "ct2", "cpu", "int8", 1, 2048, True, [], 3.5, 0.1)
    measurement = Measurement(model, "0" * 64, True, {"exact_match": None})
    print_shares(Console(width=80), measurement)
    assert "Interrupted" in capsys.readouterr().out
