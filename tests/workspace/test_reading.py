"""Reading of files that may be anything: devices, pipes, links, large files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from codegen_lsp.workspace.files import FileAccess, list_files, python_files
from codegen_lsp.workspace.reading import NotRegularError, TooLargeError, read_regular

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="devices and links as POSIX has them")

ENDLESS = ["/dev/zero", "/dev/urandom", "/dev/ptmx", "/dev/full", "pipe"]
"""Targets of links: a read of them has no end, or never returns."""


def link_to(target: str, path: Path) -> None:
    if target == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)


def test_regular_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"x" * 100)
    assert read_regular(path, 100) == b"x" * 100
    with pytest.raises(TooLargeError):
        read_regular(path, 99)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "b.py", 99)


def test_a_file_that_says_it_is_empty_is_read_up_to_the_limit() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    with pytest.raises(TooLargeError):
        read_regular(Path("/proc/self/status"), 10)


@pytest.mark.parametrize("target", ENDLESS)
def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path, target: str) -> None:
    link_to(target, tmp_path / "a.py")
    with pytest.raises(NotRegularError):
        read_regular(tmp_path / "a.py", 100)


def test_links_are_followed_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    assert read_regular(tmp_path / "b.py", 100) == b"x"
    with pytest.raises(NotRegularError):
        read_regular(tmp_path / "b.py", 100, follow_links=False)


@pytest.mark.parametrize("target", ENDLESS)
def test_a_workspace_with_links_to_devices_is_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    for name in ("helper.py", ".gitignore", "pyproject.toml"):
        link_to(target, tmp_path / name)
    (tmp_path / ".git" / "info").mkdir(parents=True)
    link_to(target, tmp_path / ".git" / "info" / "exclude")
    assert "a.py" in list_files(tmp_path, ".py")
    access = FileAccess(tmp_path, (tmp_path.as_uri(),))
    assert python_files(access) == {tmp_path / "a.py": "x = 1\n"}
    assert not access.allows(tmp_path / "helper.py")


def test_files_outside_the_folder_are_not_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("key = 1\n")
    root = tmp_path / "project"
    root.mkdir()
    (root / "settings_test.py").symlink_to(tmp_path / "credentials")
    (root / "loop.py").symlink_to(root / "loop.py")
    access = FileAccess(root, (root.as_uri(),))
    assert python_files(access) == {}
    assert not access.allows(root / "settings_test.py")
    assert not access.allows(root / "loop.py")
