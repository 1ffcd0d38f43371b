"""The files of a user's folders that a model may be trained on.

They are those that the workspace index reads: listed by git, not ignored, not excluded by the user, without a name that
suggests secrets. Of these, vendored, generated and data files are left out, as from the corpus of the embedded model,
and e-mail addresses, keys and passwords in the text are replaced.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import cleaning
from codegen_lsp.workspace.files import FileAccess, git_command, git_environment, list_files
from codegen_lsp.workspace.reading import read_regular

MAX_BYTES = 300_000
"""Size of the largest file that is read, as in the workspace index."""
MAX_LISTED = 500_000
"""Files of any kind that are looked at."""


@frozen
class OwnFile:
    """A cleaned file of the user's."""

    root: Path
    path: str
    """From `root`, with slashes."""
    text: str

    @property
    def key(self) -> str:
        """The absolute path, which names the file in records."""
        return str(self.root / self.path)

    @property
    def digest(self) -> str:
        """A hash of the cleaned text."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()


@frozen
class OwnSources:
    """The files that were read, by key, and the reasons for which others were left out, with their numbers."""

    files: list[OwnFile]
    left_out: dict[str, int]
    commits: dict[str, str]
    """Commit that each folder was at, by folder. Files may differ from it."""


def read_sources(paths: Sequence[Path], suffixes: Sequence[str], exclude: Sequence[str] = ()) -> OwnSources:
    """Read the files below the given folders with the given suffixes.

    Raises CorpusError for a folder that does not exist or is in no git repository.
    """
    files: dict[str, OwnFile] = {}
    left_out: Counter[str] = Counter()
    commits: dict[str, str] = {}
    for path in paths:
        root = path.expanduser().resolve()
        commits[str(root)] = commit_of(root)
        access = FileAccess(root, (root.as_uri(),), tuple(exclude))
        for name in list_files(root, "", MAX_LISTED):
            if not name.endswith(tuple(suffixes)):
                continue
            text, reason = _read(access, name)
            if text is None:
                left_out[reason] += 1
            else:
                file = OwnFile(root, name, text)
                files.setdefault(file.key, file)
    return OwnSources([files[key] for key in sorted(files)], dict(left_out), commits)


def cleaned(path: str, content: bytes) -> tuple[str | None, str]:
    """Return the text to train on, or None and the reason to leave the file out."""
    if reason := cleaning.rejection_by_path(path):
        return None, reason
    text = cleaning.decode(content)
    if text is None:
        return None, "not UTF-8"
    text = cleaning.normalise_blanks(text)
    if reason := cleaning.rejection_by_text(text, python=path.endswith((".py", ".pyi"))):
        return None, reason
    return cleaning.scrub(text), ""


def commit_of(root: Path) -> str:
    """Return the commit of a folder's repository; empty before the first one.

    git is not asked which files differ from it: for that it runs filters that the repository may name.

    Raises CorpusError when it is not a folder of a git repository.
    """
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder.", "Give the folders of your source code.")
    if _git(root, "rev-parse", "--is-inside-work-tree") != "true":
        raise CorpusError(
            f"{root} is in no git repository, so it is not known which of its files are yours and which are ignored.",
            "Give a folder in a repository, or make it one with `git init`, with a .gitignore.",
        )
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD") or ""


def _read(access: FileAccess, name: str) -> tuple[str | None, str]:
    path = access.root / name
    if path.is_symlink() or not access.allows(path):
        return None, "not allowed"
    try:
        content = read_regular(path, MAX_BYTES, follow_links=False)
    except OSError:
        return None, "not readable, or too large"
    return cleaned(name, content)


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of git, None when it fails. The repository can't make git run a program."""
    command = git_command(*arguments)
    if command is None:
        raise CorpusError("There is no git on this machine.", "Install git.")
    done = subprocess.run(
        command,
        cwd=root,
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None
