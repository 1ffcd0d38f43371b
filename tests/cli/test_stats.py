"""`codegen-lsp stats` as a person and as a program sees it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.cli.app import app
from codegen_lsp.suggest.metrics import Event, default_path, step_of, today, write


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return default_path()


@pytest.fixture
def counted(path: Path) -> Path:
    def event(what: str, step: int = 0, day: str = "") -> Event:
        return Event(day or today(), "python", "small", what, step)

    batch = Counter({event("requests"): 50, event("shown"): 20, event("accepted"): 4, event("accepted in part"): 1})
    batch[event("accepted characters")] = 80
    batch[event("time model", step_of(30.0))] = 19
    batch[event("time model", step_of(300.0))] = 1
    batch[event("shown", day="2020-01-01")] = 1_000
    assert write(path, batch)
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["stats", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_nothing_was_counted(path: Path) -> None:
    assert "Nothing was counted" in run()
    assert json.loads(run("--json")) == {"first_day": None, "last_day": None, "figures": []}


def test_for_a_person(counted: Path) -> None:
    text = run()
    assert "python" in text
    assert "25%" in text
    assert "1000" not in text


def test_for_a_program(counted: Path) -> None:
    (figures,) = json.loads(run("--json"))["figures"]
    assert figures["shown"] == 20
    assert figures["acceptance"] == 0.25
    assert figures["accepted_characters"] == 80
    assert figures["times"]["model"]["answers"] == 20
    assert 28 < figures["times"]["model"]["p95"] < 32
    assert 280 < figures["times"]["model"]["p99"] < 320


def test_reset(counted: Path) -> None:
    assert "deleted" in run("--reset")
    assert not counted.exists()
    assert "no counts" in run("--reset")


def test_a_damaged_file_says_what_to_do(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    result = CliRunner().invoke(app, ["stats"])
    assert result.exit_code != 0
    assert "--reset" in str(result.exception)
