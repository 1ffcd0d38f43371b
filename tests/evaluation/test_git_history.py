"""Added lines are read from the objects of a repository; nothing of it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.figures import difference
from codegen_lsp.evaluation.git_history import GitHistory, added_lines


def git(root: Path, *arguments: str, date: str = "2026-01-01T12:00:00") -> str:
    environment = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date, "PATH": "/usr/bin:/bin", "HOME": str(root)}
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_bytes(b"one = 1\r\ntwo = 2\r\n")
    (tmp_path / "data.txt").write_text("no code")
    (tmp_path / "raw.py").write_bytes(b"\xff\xfe")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Begin")
    (tmp_path / "a.py").write_text("one = 1\nhalf = 0.5\ntwo = 2\nthree = 3\nfour = 4\n")
    (tmp_path / "b.py").write_text("five = 5\n")
    (tmp_path / "raw.py").unlink()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qam", "Add", date="2026-03-01T12:00:00")
    return tmp_path


def test_added_runs_and_files(root: Path) -> None:
    history = GitHistory(root, (".py",))
    first = history.commit_before(30)
    (second,) = history.commits_after(first)
    assert history.files_at(first) == {"a.py": "one = 1\ntwo = 2\n"}
    assert history.changed_between(first, second)["raw.py"] is None
    runs = history.added_by(second)
    assert [(run.path, run.first, run.last, run.added) for run in runs] == [
        ("a.py", 2, 2, "half = 0.5\n"),
        ("a.py", 4, 5, "three = 3\nfour = 4\n"),
        ("b.py", 1, 1, "five = 5\n"),
    ] or [run.added for run in runs] == ["half = 0.5\n", "three = 3\nfour = 4\n", "five = 5\n"]


def test_no_program_of_the_repository_runs(root: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (root / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    with (root / ".git" / "config").open("a") as stream:
        stream.write(f'[filter "evil"]\n\tsmudge = "touch {ran}; cat"\n\tclean = "touch {ran}; cat"\n')
        stream.write(f'[diff "evil"]\n\tcommand = "touch {ran}"\n\ttextconv = "touch {ran}; cat"\n')
    history = GitHistory(root, (".py",))
    history.added_by(history.commits_after(history.commit_before(30))[0])
    assert not ran.exists()


def test_a_history_that_is_too_short_or_missing_is_refused(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(EvaluationError, match="no commit 900 days before"):
        GitHistory(root, (".py",)).commit_before(900)
    with pytest.raises(EvaluationError, match="can't be read"):
        GitHistory(tmp_path_factory.mktemp("none"), (".py",)).commit_before(1)


def test_added_lines_are_runs() -> None:
    assert list(added_lines("a\nb\nc\n", "a\nx\ny\nb\nc\nz\n")) == [(2, 3), (6, 6)]
    assert list(added_lines("a\nb\n", "a\n")) == []
    assert list(added_lines("a\na\n", "a\na\na\n")) == [(3, 3)]
    assert list(added_lines("", "a\nb")) == [(1, 2)]
    assert list(added_lines("a\nb\nc", "x\nb\ny")) == [(1, 1), (3, 3)]


def test_a_difference_has_an_interval_over_clusters() -> None:
    found = difference([(10.0, 9.0), (20.0, 18.0), (5.0, 5.0)], [10.0, 20.0, 5.0], [0, 0, 1])
    assert found is not None
    assert found.before == 1.0
    assert found.difference == pytest.approx(-3 / 35)
    assert found.low == pytest.approx(-0.1)
    assert found.high == pytest.approx(0.0)
    assert difference([(1.0, 1.0)], [0.0], [0]) is None
