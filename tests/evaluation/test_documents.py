"""The files that are evaluated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.evaluation import documents
from codegen_lsp.evaluation.documents import SourceDocument, find_documents

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


def test_ignored_hidden_and_large_files_of_a_folder_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_CHARACTERS", len(SOURCE))
    (tmp_path / ".gitignore").write_text("generated/\n")
    (tmp_path / "generated").mkdir()
    for name in ("generated/a.py", ".hidden.py", "b.py"):
        (tmp_path / name).write_text(SOURCE)
    (tmp_path / "large.py").write_text(SOURCE + "\n")
    assert [Path(document.path).name for document in find_documents([tmp_path], None)] == ["b.py"]


@pytest.mark.parametrize(
    ("package", "path", "inside"),
    [
        ("requests", "requests/api.py", "requests/api.py"),
        ("/home/me/project", "/home/me/project/src/a.py", "src/a.py"),
        ("/home/me/a.py", "/home/me/a.py", "a.py"),
        ("../other", "../other/b.py", "b.py"),
    ],
)
def test_paths_in_a_workspace(package: str, path: str, inside: str) -> None:
    assert SourceDocument(package, path, "python", "").workspace_path == inside
