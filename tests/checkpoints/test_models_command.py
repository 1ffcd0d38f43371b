"""`codegen-lsp models`: convert, list, verify, path and remove, on a small checkpoint of the real format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.checkpoints import pull, store
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.cli.app import app
from codegen_lsp.progress import ProgressReport
from tests import needs


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_a_folder_to_a_model_and_away(make_checkpoint: Callable[..., Path], store: Path) -> None:
    source = make_checkpoint()
    assert "mine is installed" in run("models", "convert", source, "--name", "mine")
    (row,) = json.loads(run("models", "list", "--installed", "--json"))
    assert (row["name"], row["state"], row["license"]) == ("mine", "installed", "mit")
    folder = Path(run("models", "path", "mine").strip())
    assert folder.parent == store
    assert (folder / "model.bin").is_file()
    assert "mine is sound" in run("models", "verify", "mine")
    assert "mine is sound" in run("models", "verify", folder, "--against", source)
    assert str(folder) in run("models", "remove", "mine")
    assert not folder.exists()
    assert json.loads(run("models", "list", "--installed", "--json")) == []


@needs.mark("convert")
def test_pull_reports_progress_to_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    (build,) = [build for build in store.installed() if build.bundled][:1]

    def fetch(offer: object, *, progress: ProgressReport, accept_license: bool) -> InstalledBuild:
        assert (offer, accept_license) == ("codegen-350M-mono", True)
        progress("Downloading", 0.5)
        return build

    monkeypatch.setattr(pull, "find_offer", lambda wanted, **options: wanted.title)
    monkeypatch.setattr(pull, "install", fetch)
    result = CliRunner().invoke(app, ["models", "pull", "codegen25-7B-instruct", "--json"])
    answer = json.loads(result.stdout)
    assert (result.exit_code, set(answer)) == (1, {"error", "advice"})
    assert "--accept-license" in answer["advice"]
    written = run("models", "pull", "codegen-350M-mono", "--accept-license", "--json")
    lines = [json.loads(line) for line in written.splitlines()]
    assert lines == [{"message": "Downloading", "fraction": 0.5}, {"name": build.name, "path": str(build.path)}]


def test_the_list_says_which_licences_need_consent() -> None:
    rows = json.loads(run("models", "list", "--json"))
    asking = ["codegen25-7B-instruct", "deepseek-coder-1.3B", "starcoderbase-1B"]
    assert [row["name"] for row in rows if row["needs_consent"]] == asking
    lines = {line.split()[0]: line for line in run("models", "list").splitlines() if line}
    assert "asks first" in lines["deepseek-coder-1.3B"]
    assert "asks first" not in lines["qwen2.5-coder-1.5B"]


def test_the_list_says_what_models_are_good_for() -> None:
    uses = {row["name"]: row["good_for"] for row in json.loads(run("models", "list", "--json"))}
    assert uses["codegen-350M-mono"] == "lines of Python"
    assert all(use for name, use in uses.items() if name != "codegen-lsp-python")
