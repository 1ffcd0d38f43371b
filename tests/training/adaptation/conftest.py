"""A tiny trained base in an empty store, and repositories to adapt it to."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_base import tiny_base

__all__ = ["tiny_base"]

Repository = Callable[..., Path]


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody."""
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Make a repository in which the given files are committed."""

    def make(files: dict[str, str], name: str = "repository") -> Path:
        root = tmp_path / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        git(root, "init", "--quiet")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "-m", "Begin")
        return root

    return make


@pytest.fixture
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's store, in a folder of its own."""
    store = tmp_path / "store"
    monkeypatch.setenv("CODEGEN_LSP_MODELS", str(store))
    return store
