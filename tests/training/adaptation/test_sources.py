"""Of the user's folders are read the files that the workspace index may read, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.adaptation.sources import commit_of, read_sources

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
    from tests.training.adaptation.conftest import git

    git(tmp_path, "init", "--quiet")
    assert commit_of(tmp_path) == ""
