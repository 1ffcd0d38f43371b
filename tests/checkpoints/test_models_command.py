"""`codegen-lsp models`: convert, list, verify, path and remove, on a small checkpoint of the real format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from codegen_lsp.cli import app


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
