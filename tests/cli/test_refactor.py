"""`codegen-lsp refactor` on files, with the embedded model where one is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codegen_lsp.cli.location import LocationError
from codegen_lsp.cli.refactor_target import UnwritableFileError, target_at, write, write_offer
from codegen_lsp.refactor.results import RefactoringOffer
from codegen_lsp.workspace.sources import OtherFile

SOURCE = "def area(w, h):\n    print(w * h + 1)\n    return w\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("range", "selected"),
    [
        ("2", ""),
        ("2:11", ""),
        ("2:11-2:16", "w * h"),
        ("2-3", "    print(w * h + 1)\n    return w\n"),
        ("2-2:10", "    print"),
    ],
)
def test_ranges(file: Path, range: str, selected: str) -> None:
    target = target_at(f"{file}:{range}")
    assert target.source.selected == selected


def test_a_line_alone_is_the_start_of_its_text(file: Path) -> None:
    source = target_at(f"{file}:2").source
    assert source.text[source.start :].startswith("print")


@pytest.mark.parametrize("range", ["9", "2:99", "3-2", "x", "", "2:11-2:5", "0"])
def test_ranges_that_make_no_sense(file: Path, range: str) -> None:
    with pytest.raises(LocationError):
        target_at(f"{file}:{range}")


@pytest.mark.parametrize(
    "raw",
    [
        b"a = 1\r\nb = 2\r\n",
        b"\xef\xbb\xbfa = 1\nb = 2\n",
        b"# -*- coding: latin-1 -*-\na = '\xe9'\nb = 2\n",
        b"a = 1\nb = 2",
    ],
)
def test_writing_keeps_encoding_and_line_ends(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(raw)
    path.chmod(0o754)
    target = target_at(f"{path}:1")
    write(path, target.original, target.source.text.replace("b = 2", "b = 3"))
    assert path.read_bytes() == raw.replace(b"b = 2", b"b = 3")
    assert path.stat().st_mode & 0o777 == 0o754
    assert [one.name for one in tmp_path.iterdir()] == ["a.py"]


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_file_is_an_error(tmp_path: Path, read_only: str) -> None:
    path = tmp_path / "a.py"
    path.write_text("a = 1\n")
    target = target_at(f"{path}:1")
    (path if read_only == "file" else tmp_path).chmod(0o555)
    with pytest.raises(UnwritableFileError, match=f"{read_only} is read-only"):
        write(path, target.original, "a = 2\n")
    tmp_path.chmod(0o755)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.py", "a = 1\n")]


def test_a_file_that_was_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a = 1\n")
    target = target_at(f"{path}:1")
    path.write_text("a = 3\n")
    with pytest.raises(UnwritableFileError, match="changed"):
        write(path, target.original, "a = 2\n")
    assert path.read_text() == "a = 3\n"


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("a = 1\n")
    (tmp_path / "b.py").chmod(0o444)
    target = target_at(f"{tmp_path / 'a.py'}:1")
    offer = RefactoringOffer("a = 2\n", "a", [OtherFile(tmp_path / "b.py", "a = 1\n", "a = 2\n")])
    with pytest.raises(UnwritableFileError, match=r"b\.py can't be written"):
        write_offer(target, offer)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"a.py": "a = 1\n", "b.py": "a = 1\n"}


def run(*arguments: str, build: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen_lsp.cli", "refactor", *arguments]
    model = ["--model", str(build), "--threads", "1"] if "--kind" in arguments else []
    return subprocess.run([*command, *model], capture_output=True, text=True, check=False)


def test_without_a_kind_the_menu(file: Path, embedded_build: Path) -> None:
    done = run(f"{file}:1", build=embedded_build)
    assert "docstring" in done.stdout
    assert "type-hints" in done.stdout


def test_a_difference_is_shown_and_nothing_written(file: Path, embedded_build: Path) -> None:
    done = run(f"{file}:2:11-2:16", "--kind", "extract-variable", build=embedded_build)
    assert done.returncode == 0, done.stderr
    assert " = w * h\n" in done.stdout
    assert "-    print(w * h + 1)" in done.stdout
    assert file.read_text() == SOURCE


def test_written_when_asked_for(file: Path, embedded_build: Path) -> None:
    done = run(f"{file}:2:11-2:16", "--kind", "extract-variable", "--write", build=embedded_build)
    assert done.returncode == 0, done.stderr
    assert " = w * h\n" in file.read_text()


def test_what_does_not_apply_is_said(file: Path, embedded_build: Path) -> None:
    done = run(f"{file}:3", "--kind", "extract-function", build=embedded_build)
    assert done.returncode == 1
    assert "does not apply" in done.stderr


def test_a_kind_that_there_is_not(file: Path, embedded_build: Path) -> None:
    done = run(f"{file}:3", "--kind", "beautify", build=embedded_build)
    assert done.returncode == 2
    assert "extract-variable" in done.stderr


def test_a_rename_in_several_files(tmp_path: Path, embedded_build: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "shapes.py").write_text("def a1(rows):\n    return sum(row.width * row.height for row in rows)\n")
    (tmp_path / "tests").mkdir()
    test = tmp_path / "tests" / "test_shapes.py"
    test.write_text("from shapes import a1\n\n\ndef test_it():\n    assert a1([]) == 0\n")
    place = [f"{tmp_path / 'shapes.py'}:1:5", "--kind", "rename"]
    shown = run(*place, "--verify", "--limits-only", build=embedded_build)
    assert shown.returncode == 0, shown.stderr
    assert "-from shapes import a1\n" in shown.stdout
    assert "Verified: tests/test_shapes.py pass before and after." in shown.stdout
    assert "a1" in test.read_text()
    done = run(*place, "--write", build=embedded_build)
    assert done.returncode == 0, done.stderr
    assert "a1" not in test.read_text() + (tmp_path / "shapes.py").read_text()
    assert "test_shapes.py" in done.stdout
