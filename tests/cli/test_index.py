"""`codegen-lsp index`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.cli.app import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from codegen_lsp.inference.workspace_indexes import index_folder

    index_folder().mkdir(parents=True)
    return index_folder()


def test_indexes_are_shown_and_removed(folder: Path) -> None:
    (folder / "one.ngrams").write_bytes(b"x" * 2**20)
    (folder / "note.txt").write_text("kept")
    shown = CliRunner().invoke(app, ["index", "status"])
    assert shown.exit_code == 0
    assert str(folder) in shown.output.replace("\n", "")
    assert "one.ngrams" in shown.output
    assert "1.0 MiB" in shown.output
    assert "1 indexes are removed" in CliRunner().invoke(app, ["index", "clear"]).output
    assert [path.name for path in folder.iterdir()] == ["note.txt"]
    assert "no indexes" in CliRunner().invoke(app, ["index", "clear"]).output
