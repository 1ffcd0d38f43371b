"""URIs and paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegen_lsp.workspace.uris import path_of, uri_of


@pytest.mark.skipif(os.name == "nt", reason="paths with slashes")
@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///home/me/a.py", "/home/me/a.py"),
        ("file:///home/my%20project/%C3%A4.py", "/home/my project/ä.py"),
        ("file:///a%23b%3Fc.py", "/a#b?c.py"),
        ("file:///C:/x.py", "c:/x.py"),
        ("file:///c%3A/x.py", "c:/x.py"),
        ("file://host/share/x.py", "//host/share/x.py"),
        ("untitled:Untitled-1", None),
        ("vscode-notebook-cell:/home/a.ipynb#1", None),
        ("", None),
    ],
)
def test_paths(uri: str, path: str | None) -> None:
    assert path_of(uri) == path


@pytest.mark.parametrize("name", ["a.py", "my project/ä#b?.py", "100%.py"])
def test_there_and_back(tmp_path: Path, name: str) -> None:
    assert path_of(uri_of(tmp_path / name)) == str(tmp_path / name)
