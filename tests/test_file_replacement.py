"""Files that are replaced whole, or stay as they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.file_replacement import PRIVATE, replace_file


@pytest.fixture(autouse=True)
def usual_umask() -> Any:
    former = os.umask(0o022)
    yield
    os.umask(former)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path: Path) -> None:
    replace_file(tmp_path / "document", b"text")
    replace_file(tmp_path / "secret", b"text", PRIVATE)
    assert (tmp_path / "document").read_bytes() == b"text"
    assert (mode(tmp_path / "document"), mode(tmp_path / "secret")) == (0o644, 0o600)


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer text")
    path.chmod(0o640)
    replace_file(path, b"text", PRIVATE)
    assert path.read_bytes() == b"text"
    assert mode(path) == 0o640


def test_a_link_is_replaced_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()


def test_the_longest_name_is_no_error(tmp_path: Path) -> None:
    replace_file(tmp_path / ("a" * 255), b"text")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["open", "chmod", "replace"])
def test_a_failed_step_leaves_the_file_and_nothing_else(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: Any, **options: Any) -> None:
        done(*arguments, **options) if step == "open" else None
        raise error

    done = getattr(os, step)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        replace_file(path, b"new")
    monkeypatch.undo()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}
