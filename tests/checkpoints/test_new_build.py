"""The folder of a build that is being made."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from codegen_lsp.checkpoints.new_build import new_build
from codegen_lsp.errors import ConversionError


def fail(output: Path, error: BaseException) -> None:
    with new_build(output) as partial:
        partial.mkdir()
        raise error


def write(output: Path, text: str) -> None:
    with new_build(output) as partial:
        assert not partial.exists()
        partial.mkdir()
        (partial / "model.bin").write_text(text)


def test_a_build_appears_and_replaces_the_old_one(tmp_path: Path) -> None:
    output = tmp_path / "builds" / "mine"
    write(output, "one")
    (output.with_name(".mine.partial")).mkdir()
    write(output, "two")
    assert (output / "model.bin").read_text() == "two"
    assert [path.name for path in output.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConversionError("Damaged.", "Get it again."), ValueError()])
def test_other_errors_pass_and_leave_the_old_build(error: BaseException, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    write(output, "one")
    with pytest.raises(type(error)) as caught:
        fail(output, error)
    assert caught.value is error
    assert (output / "model.bin").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_error_of_the_disk_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="No space left") as caught:
        fail(tmp_path / "mine", OSError(errno.ENOSPC, "No space left on device"))
    assert "Make room" in caught.value.advice
    assert list(tmp_path.iterdir()) == []


def test_the_old_build_comes_back_when_the_new_one_can_t_be_moved(tmp_path: Path) -> None:
    output = tmp_path / "mine"
    write(output, "one")
    with pytest.raises(ConversionError), new_build(output):
        pass  # no folder was made, so that there is nothing to move
    assert (output / "model.bin").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_or_a_link_is_left_as_it_is(tmp_path: Path) -> None:
    file, link, target = tmp_path / "file", tmp_path / "link", tmp_path / "target"
    file.write_text("mine")
    write(target, "one")
    link.symlink_to(target)
    for output in (file, link):
        with pytest.raises(ConversionError, match="does not replace"):
            write(output, "two")
    assert file.read_text() == "mine"
    assert (link / "model.bin").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "target"]


def test_a_build_that_was_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    output = tmp_path / "mine"
    write(output, "one")
    output.rename(tmp_path / ".mine.old")
    with pytest.raises(ValueError, match="broken"):
        fail(output, ValueError("broken"))
    assert (output / "model.bin").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
