"""The files that are evaluated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.evaluation.documents import find_documents

from .conftest import SOURCE


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


def test_documents_of_files_and_folders(sources: Path) -> None:
    found = find_documents([sources, sources / "module.py"], None)
    assert [(Path(d.path).name, d.language) for d in found] == [
        ("module.py", "python"),
        ("windows.py", "python"),
        ("module.py", "python"),
    ]
    assert {d.text for d in found} == {SOURCE}
    assert len({d.package for d in found}) == 2
