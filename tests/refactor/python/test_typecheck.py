"""mypy on a text in the place of a file, whatever lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.refactor.python import typecheck
from codegen_lsp.refactor.python.typecheck import errors

WRONG = "def area(w: int) -> str:\n    return w\n"

pytest.importorskip("mypy")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typecheck, "user_cache_path", lambda name: tmp_path / name)


@pytest.mark.parametrize("name", ["numbers", "typing_extensions"])
async def test_a_neighbour_named_like_a_library_module(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    path = folder / "shapes.py"
    path.write_text(f"import {name}\n", encoding="utf-8")
    found = await errors(f"import {name}\n{WRONG}", path)
    assert len(found) == 1
    assert "return-value" in next(iter(found))
    assert not (folder / "ran").exists()


async def test_a_program_that_breaks_is_no_opinion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(typecheck, "command", lambda: [sys.executable, "-c", "1 / 0"])
    with pytest.raises(typecheck.RefactorError) as caught:
        await errors(WRONG, None)
    assert caught.value.rule == "type_checker_failed"
    assert "ZeroDivisionError" in caught.value.message
