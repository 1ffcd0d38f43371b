"""Temporary folders, interrupted at any step."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.temporary_folder import TemporaryFolder


def interrupt_once(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """Return the function, but its first call is interrupted, before or after it has done its work."""
    interruptions = [KeyboardInterrupt()]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        done = function(*arguments, **options) if after or not interruptions else None
        if interruptions:
            raise interruptions.pop()
        return done

    return interrupted


def make_and_fill(parent: Path) -> None:
    with TemporaryFolder(parent=parent) as folder:
        (folder / "file").write_text("text", encoding="utf-8")
        (folder / "inner").mkdir()


def test_it_exists_within_the_block_and_only_its_owner_may_enter_it(tmp_path: Path) -> None:
    with TemporaryFolder("some-", tmp_path) as folder:
        (folder / "file").write_text("text", encoding="utf-8")
        assert folder.parent == tmp_path
        assert folder.name.startswith("some-")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mkdir", "rmdir", "unlink", "scandir"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_step_leaves_nothing(
    name: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, name, interrupt_once(getattr(os, name), after=after))
    with pytest.raises(KeyboardInterrupt):
        make_and_fill(tmp_path)
    monkeypatch.undo()
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_ends_at_the_interruption_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from codegen_lsp.temporary_folder import TemporaryFolder\n"
        "make = os.mkdir\n"
        "def mkdir(*arguments):\n"
        "    make(*arguments)\n"
        "    print(arguments[0], flush=True)\n"
        "    raise KeyboardInterrupt\n"
        "os.mkdir = mkdir\n"
        "try:\n"
        "    TemporaryFolder(parent=pathlib.Path(sys.argv[1]))\n"
        "except KeyboardInterrupt as error:\n"
        "    kept = error\n"
        "    sys.exit(130)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
    assert Path(done.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_kept_stays(tmp_path: Path) -> None:
    folder = TemporaryFolder(parent=tmp_path)
    with folder:
        folder.keep()
    del folder
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_was_moved_away_is_no_error(tmp_path: Path) -> None:
    with TemporaryFolder(parent=tmp_path) as folder:
        folder.rename(tmp_path / "moved")
    assert list(tmp_path.iterdir()) == [tmp_path / "moved"]


def test_a_folder_without_permissions_is_removed_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    remove, refused = os.rmdir, []

    def rmdir(path: Any, **options: Any) -> None:
        """Refuse once to remove the locked folder, as for a user who may not write to it."""
        if str(path).endswith("locked") and not refused:
            refused.append(path)
            raise PermissionError
        remove(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with TemporaryFolder(parent=tmp_path) as folder:
        (folder / "locked").mkdir(mode=0o000)
        (folder / "link").symlink_to(outside)
    assert refused
    assert list(tmp_path.iterdir()) == [outside]
    assert outside.stat().st_mode & 0o777 == 0o500
