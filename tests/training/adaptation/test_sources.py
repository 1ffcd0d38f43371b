"""Of the user's folders are read the files that the workspace index may read, without secrets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.adaptation import sources
from codegen_lsp.training.adaptation.sources import commit_of, read_sources
from tests.training.adaptation.conftest import git

CODE = """def area(width, height):
    return width * height


def perimeter(width, height):
    return 2 * (width + height)
"""
LONG = CODE * 3


def test_files_that_the_index_may_read_are_read(repository, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = repository(
        {
            "src/shapes.py": LONG,
            "notes.txt": LONG,
            ".gitignore": "ignored.py\n",
            "secrets/keys.py": LONG,
            "_vendor/other.py": LONG,
            "api_pb2.py": LONG,
            "broken.py": "def area(:\n" * 40,
            "excluded/x.py": LONG,
        }
    )
    (root / "ignored.py").write_text(LONG)
    (root / "untracked.py").write_text(LONG)
    (tmp_path / "outside.py").write_text(LONG)
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    found = read_sources([root], (".py",), ("excluded/**",))
    assert [file.path for file in found.files] == ["src/shapes.py", "untracked.py"]
    assert found.left_out == {"not allowed": 3, "vendored": 1, "generated": 1, "not valid Python 3": 1}
    assert found.commits == {str(root): commit_of(root)}
    assert len(found.commits[str(root)]) == 40


def test_secrets_in_the_text_are_replaced(repository) -> None:  # type: ignore[no-untyped-def]
    root = repository({"a.py": f'PASSWORD = "hunter2hunter2hunter2"\nAUTHOR = "jane.doe@corp.com"\n{LONG}'})
    (file,) = read_sources([root], (".py",)).files
    assert "hunter2" not in file.text
    assert "jane.doe" not in file.text


def test_a_folder_given_twice_is_read_once(repository) -> None:  # type: ignore[no-untyped-def]
    root = repository({"src/shapes.py": LONG})
    assert len(read_sources([root, root / "src"], (".py",)).files) == 1


def test_a_folder_outside_of_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LONG)
    with pytest.raises(CorpusError, match="no git repository"):
        read_sources([tmp_path], (".py",))
    with pytest.raises(CorpusError, match="not a folder"):
        read_sources([tmp_path / "missing"], (".py",))


def test_filters_of_the_repository_do_not_run(repository, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A repository may name programs in its configuration, which git would run to compare files."""
    root = repository({"a.py": LONG, ".gitattributes": "*.py filter=evil\n"})
    ran = tmp_path / "ran"
    with (root / ".git" / "config").open("a") as stream:
        stream.write(f'[filter "evil"]\n\tclean = "touch {ran}; cat"\n[core]\n\tfsmonitor = "touch {ran}; true"\n')
    (root / "a.py").write_text(LONG + "\nprint(area(1, 2))\n")
    assert len(read_sources([root], (".py",)).files) == 1
    assert not ran.exists()


def test_a_repository_without_commits_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert commit_of(tmp_path) == ""


def test_names_and_encodings_of_all_kinds(repository) -> None:  # type: ignore[no-untyped-def]
    """Names with line breaks and bytes that are no UTF-8 are read; texts in other encodings are left out."""
    root = repository({"a\nb.py": LONG})
    for name, content in {
        b"\xff\xfe.py": LONG.encode(),
        b"crlf.py": LONG.replace("\n", "\r\n").encode(),
        b"bom.py": b"\xef\xbb\xbf" + LONG.encode(),
        b"latin.py": b"# -*- coding: latin-1 -*-\nNAME = '\xe4'\n" + LONG.encode(),
        b"utf16.py": LONG.encode("utf-16"),
    }.items():
        (root / os.fsdecode(name)).write_bytes(content)
    found = read_sources([root], (".py",))
    assert {os.fsencode(file.path) for file in found.files} == {b"a\nb.py", b"\xff\xfe.py", b"crlf.py", b"bom.py"}
    assert {file.text for file in found.files} == {found.files[0].text}
    assert "\r" not in found.files[0].text
    assert found.left_out == {"not UTF-8": 2}


def test_sha256_shallow_worktree_and_submodule(repository, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    inner = repository({"inner.py": LONG}, "inner")
    outer = repository({"outer.py": LONG, ".gitignore": "lib/ignored.py\n"}, "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "lib")
    git(outer, "commit", "--quiet", "-m", "Add lib")
    assert [file.path for file in read_sources([outer], (".py",)).files] == ["lib/inner.py", "outer.py"]
    git(outer, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    git(tmp_path, "clone", "--quiet", "--depth", "1", outer.as_uri(), "shallow")
    for root in (tmp_path / "tree", tmp_path / "shallow"):
        found = read_sources([root], (".py",))
        assert [file.path for file in found.files] == ["outer.py"]
        assert found.commits == {str(root): commit_of(outer)}
    sha256 = tmp_path / "sha256"
    sha256.mkdir()
    git(sha256, "init", "--quiet", "--object-format=sha256")
    (sha256 / "a.py").write_text(LONG)
    git(sha256, "add", "a.py")
    git(sha256, "commit", "--quiet", "-m", "Begin")
    found = read_sources([sha256], (".py",))
    assert len(found.files) == 1
    assert len(found.commits[str(sha256)]) == 64


def bare(root: Path) -> Path:
    git(root.parent, "clone", "--quiet", "--bare", str(root), "bare")
    return root.parent / "bare"


def ignored(root: Path) -> Path:
    (root / ".gitignore").write_text("private/\n")
    (root / "private").mkdir()
    (root / "private" / "a.py").write_text(LONG)
    return root / "private"


def damaged(root: Path) -> Path:
    """Without its index, git can't tell which files are ignored; rules outside of the folder would be missed."""
    (root / ".git" / "index").write_bytes(b"damaged")
    return root


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bare, "holds the objects of a repository and no files"),
        (ignored, "is ignored by the repository around it"),
        (damaged, "git does not list the files of .*index"),
    ],
)
def test_what_git_does_not_list_is_refused(repository, make: Callable[[Path], Path], reason: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CorpusError, match=reason):
        read_sources([make(repository({"a.py": LONG}))], (".py",))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to other users")
def test_a_repository_of_another_user_is_refused_with_what_git_wants(repository) -> None:  # type: ignore[no-untyped-def]
    root = repository({"a.py": LONG})
    os.chown(root, 12345, 12345)
    os.chown(root / ".git", 12345, 12345)
    with pytest.raises(CorpusError, match="dubious ownership") as refusal:
        read_sources([root], (".py",))
    assert f"git config --global --add safe.directory {root}" in refusal.value.advice


def test_git_that_takes_too_long_is_waited_for_and_then_refused(repository, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def slow(*arguments: object, timeout: float, **named: object) -> None:
        raise subprocess.TimeoutExpired("git", timeout)

    root = repository({"a.py": LONG})
    monkeypatch.setattr(sources, "commit_of", lambda root: "")
    monkeypatch.setattr("codegen_lsp.workspace.files.subprocess.run", slow)
    with pytest.raises(CorpusError, match=r"did not list the files of .* in 120 s"):
        read_sources([root], (".py",))


def test_an_inner_repository_that_git_can_t_list_is_left_out(repository) -> None:  # type: ignore[no-untyped-def]
    root = repository({"a.py": LONG})
    inner = repository({"b.py": LONG}, "repository/inner")
    git(root, "add", "inner")
    damaged(inner)
    assert [file.path for file in read_sources([root], (".py",)).files] == ["a.py"]


def test_of_very_much_code_a_part_is_read(repository, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    root = repository({f"package/{number}.py": f"NUMBER = {number}\n{LONG}" for number in range(60)})
    monkeypatch.setattr(sources, "MOST_CHARACTERS", 10 * len(LONG))
    looked_at: list[tuple[int, int]] = []
    found = read_sources([root], (".py",), report=lambda done, total: looked_at.append((done, total)))
    assert 8 <= len(found.files) <= 12
    assert found.left_out == {"beyond 0 million characters": 60 - len(found.files)}
    assert looked_at[-1] == (len(found.files), 60)
    assert {file.path for file in found.files} == {file.path for file in read_sources([root], (".py",)).files}


def test_a_file_that_vanishes_while_the_others_are_read_is_left_out(repository) -> None:  # type: ignore[no-untyped-def]
    root = repository({f"{number}.py": LONG + f"NUMBER = {number}\n" for number in range(5)})

    def vanish(done: int, total: int) -> None:
        for path in list(root.glob("*.py"))[1 if done else 5 :]:
            path.unlink()

    found = read_sources([root], (".py",), report=vanish)
    assert len(found.files) + sum(found.left_out.values()) == 5
    assert set(found.left_out) == {"not allowed"}
