"""Files of real folders on disk: which are listed, and which are never read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codegen_lsp.workspace import files as module
from codegen_lsp.workspace.files import FileAccess, WorkspaceError, innermost_folder, list_files, python_files

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files into a folder, which is returned."""

    def written(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "project"

    return written


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


IGNORED = {
    ".gitignore": "generated/\n*_pb2.py\n!keep_pb2.py\n",
    "b.py": "",
    "a_pb2.py": "",
    "keep_pb2.py": "",
    "generated/a.py": "",
    "inner/.gitignore": "!also_pb2.py\n/local.py\nkeep_pb2.py\n",
    "inner/also_pb2.py": "",
    "inner/other_pb2.py": "",
    "inner/keep_pb2.py": "",
    "inner/local.py": "",
    "inner/deep/local.py": "",
    "local.py": "",
    "a.txt": "",
    "node_modules/a.py": "",
    ".hidden/a.py": "",
}
LISTED = ["b.py", "keep_pb2.py", "local.py", "inner/also_pb2.py", "inner/deep/local.py"]


@pytest.mark.parametrize("repository", [True, False], ids=["git", "walk"])
def test_ignore_files_apply_to_their_own_folder_and_the_innermost_rule_decides(write: Write, repository: bool) -> None:
    root = write(IGNORED)
    if repository:
        git(root, "init")
    assert list_files(root, ".py") == LISTED


def test_tracked_files_are_listed_and_deleted_ones_are_not(write: Write) -> None:
    root = write({"a.py": "", "gone.py": "", "new.py": "", "kept_pb2.py": "", ".gitignore": "*_pb2.py\n"})
    git(root, "init")
    git(root, "add", "--force", "a.py", "gone.py", "kept_pb2.py")
    (root / "gone.py").unlink()
    assert list_files(root, ".py") == ["a.py", "kept_pb2.py", "new.py"]


@pytest.mark.parametrize("has_git", [True, False])
def test_the_repository_s_own_excludes_count(write: Write, monkeypatch: pytest.MonkeyPatch, has_git: bool) -> None:
    root = write({"a.py": "", "scratch.py": ""})
    git(root, "init")
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("scratch.py\n")
    if not has_git:
        monkeypatch.setattr(module, "git_command", lambda *_: None)
    assert list_files(root, ".py") == ["a.py"]


def test_a_repository_inside_is_listed_by_its_own_rules(write: Write) -> None:
    root = write({"a.py": "", "inner/b.py": "", "inner/c.py": "", "inner/.gitignore": "c.py\n"})
    git(root, "init")
    git(root / "inner", "init")
    assert list_files(root, ".py") == ["a.py", "inner/b.py"]


def test_a_folder_that_a_repository_around_it_ignores_is_listed_all_the_same(write: Write) -> None:
    root = write({".gitignore": "*\n", "inner/a.py": ""})
    git(root, "init")
    assert list_files(root / "inner", ".py") == ["a.py"]


@pytest.mark.skipif(os.name == "nt", reason="the hostile command is a shell script")
@pytest.mark.parametrize(
    "setting", ["core.fsmonitor", "core.hooksPath", "core.pager", "alias.ls-files", "core.sshCommand"]
)
def test_no_program_that_a_repository_names_is_run(write: Write, tmp_path: Path, setting: str) -> None:
    root, sign = write({"a.py": "", ".gitignore": "*.txt\n"}), tmp_path / "sign"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for script in [tmp_path / "evil", *(hooks / name for name in ("fsmonitor-watchman", "post-index-change"))]:
        script.write_text(f"#!/bin/sh\ntouch '{sign}'\n")
        script.chmod(0o755)
    git(root, "init")
    git(root, "add", "a.py")
    value = {"core.hooksPath": str(hooks), "alias.ls-files": f"!{tmp_path / 'evil'}"}
    git(root, "config", setting, value.get(setting, str(tmp_path / "evil")))
    git(root, "config", "pager.ls-files", "true")
    assert list_files(root, ".py") == ["a.py"]
    assert not sign.exists()


@pytest.mark.skipif(os.name == "nt", reason="the hostile command is a shell script")
def test_a_program_in_the_workspace_is_not_taken_for_git(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, sign = write({"a.py": "", "git": f"#!/bin/sh\ntouch '{tmp_path / 'sign'}'\n"}), tmp_path / "sign"
    (root / "git").chmod(0o755)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    assert list_files(root, ".py") == ["a.py"]
    assert not sign.exists()


@pytest.mark.skipif(os.name == "nt", reason="the hostile command is a shell script")
def test_the_hostile_command_would_run_without_the_precautions(write: Write, tmp_path: Path) -> None:
    root, sign = write({"a.py": ""}), tmp_path / "sign"
    (tmp_path / "evil").write_text(f"#!/bin/sh\ntouch '{sign}'\n")
    (tmp_path / "evil").chmod(0o755)
    git(root, "init")
    git(root, "add", "a.py")
    git(root, "config", "core.fsmonitor", str(tmp_path / "evil"))
    git(root, "ls-files", "--others")
    assert sign.exists()


def test_where_git_refuses_the_repository_the_folder_is_walked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(IGNORED)
    git(root, "init")
    monkeypatch.setitem(module._GIT_ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert not module._listed_by_git(root)
    assert list_files(root, ".py") == LISTED


def test_where_git_takes_too_long_the_folder_is_walked_and_git_not_asked_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(IGNORED)
    git(root, "init")
    with monkeypatch.context() as context:
        context.setattr(module, "GIT_TIMEOUT", 0.0)
        assert list_files(root, ".py") == LISTED
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: pytest.fail("git was asked again"))
    assert list_files(root, ".py") == LISTED
    module._too_slow.clear()


def test_the_variables_of_another_repository_do_not_count(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write({"a.py": "", "other/b.py": ""})
    git(root / "other", "init")
    git(root, "init")
    monkeypatch.setenv("GIT_DIR", str(root / "other" / ".git"))
    assert list_files(root, ".py") == ["a.py", "other/b.py"]


def test_only_the_first_files_are_considered(write: Write) -> None:
    root = write({"a.txt": "", "b.py": "", "c.py": "", "d/a.py": ""})
    assert list_files(root, ".py", 2) == ["b.py"]
    assert list_files(root, ".py", 4) == ["b.py", "c.py", "d/a.py"]


def test_texts_of_python_files(write: Write) -> None:
    root = write(
        {"a.py": "x = 1\n", "b.txt": "", "secrets/c.py": "key = 1\n", "id_rsa.py": "", "inner/d.py": "y = 2\n"}
    )
    (root / "latin.py").write_bytes("# coding: latin-1\nä = 1\r\n".encode("latin-1"))
    (root / "broken.py").write_bytes(b"\xff\xfe")
    access = FileAccess(root, (root.as_uri(),), ("inner/**",), {root / "a.py": "x = 2\n"})
    assert python_files(access) == {root / "a.py": "x = 2\n", root / "latin.py": "# coding: latin-1\nä = 1\r\n"}


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("repository", [True, False], ids=["git", "walk"])
def test_links_that_lead_out_or_to_what_may_not_be_read(write: Write, tmp_path: Path, repository: bool) -> None:
    root = write(
        {"a.py": "x = 1\n", "../outside/b.py": "secret = 1\n", "secrets/c.py": "key = 1\n", "no/d.py": "d = 1\n"}
    )
    (root / "file.py").symlink_to(tmp_path / "outside" / "b.py")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "key.py").symlink_to(root / "secrets" / "c.py")
    (root / "excluded.py").symlink_to(root / "no" / "d.py")
    (root / "same.py").symlink_to(root / "a.py")
    if repository:
        git(root, "init")
        git(root, "add", ".")
    assert python_files(FileAccess(root, (root.as_uri(),), ("no/**",))) == {root / "a.py": "x = 1\n"}


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text(write: Write) -> None:
    root = write({"a.py": "x = 1\n"})
    (root / os.fsdecode(b"\xff.py")).write_text("y = 2\n")
    assert list(python_files(FileAccess(root)).values()) == ["x = 1\n", "y = 2\n"]


def test_too_many_python_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write({"a.py": "", "b.py": ""})
    monkeypatch.setattr(module, "MAX_FILES", 1)
    with pytest.raises(WorkspaceError, match="more than 1 Python files") as raised:
        python_files(FileAccess(root))
    assert raised.value.rule == "too_many_files"


def test_the_innermost_folder() -> None:
    folders = ["file:///home/me", "file:///home/me/my%20project/", "untitled:x"]
    assert innermost_folder("file:///home/me/my%20project/a.py", folders) == Path("/home/me/my project")
    assert innermost_folder("file:///home/me/a.py", folders) == Path("/home/me")
    assert innermost_folder("file:///home/you/a.py", folders) is None
    assert innermost_folder("untitled:Untitled-1", folders) is None
