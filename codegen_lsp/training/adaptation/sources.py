"""The files of a user's folders that a model may be trained on.

They are those that the workspace index reads: listed by git, not ignored, not excluded by the user, without a name that
suggests secrets. Of these, vendored, generated and data files are left out, as from the corpus of the embedded model,
and e-mail addresses, keys and passwords in the text are replaced.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from attrs import frozen

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import cleaning
from codegen_lsp.training.corpus import hash_fraction
from codegen_lsp.workspace.files import (
    FileAccess,
    WorkspaceError,
    files_of_repository,
    git_command,
    git_environment,
)
from codegen_lsp.workspace.reading import read_regular

MAX_BYTES = 300_000
"""Size of the largest file that is read, as in the workspace index."""
MAX_LISTED = 500_000
"""Files of any kind that are looked at, of each folder."""
MOST_CHARACTERS = 20_000_000
"""Characters that are read. The workspace index has not more: 4,000 files, of 5,000 characters on average."""
GIT_TIMEOUT = 120.0
"""Seconds that git may take to list the files."""
OTHER_FOLDER = "Give the folders of your source code."


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


def read_sources(
    paths: Sequence[Path],
    suffixes: Sequence[str],
    exclude: Sequence[str] = (),
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> OwnSources:
    """Read the files below the given folders with the given suffixes.

    Of code with more than `MOST_CHARACTERS`, files are read in an order that depends on their paths alone until there
    are so many. `report` gets the number of files that were looked at, and of all.

    Raises CorpusError for a folder that does not exist, is in no git repository, or that git does not list or ignores.
    """
    listed: list[tuple[FileAccess, str]] = []
    left_out: Counter[str] = Counter()
    commits: dict[str, str] = {}
    for path in paths:
        root = path.expanduser().resolve()
        commits[str(root)] = commit_of(root)
        access = FileAccess(root, (root.as_uri(),), tuple(exclude))
        names = list(islice(_listed(root), MAX_LISTED + 1))
        if len(names) > MAX_LISTED:
            left_out[f"after the first {MAX_LISTED:,}"] += 1
        listed += ((access, name) for name in names[:MAX_LISTED] if name.endswith(tuple(suffixes)))
    files: dict[str, OwnFile] = {}
    characters = 0
    for number, (access, name) in enumerate(sorted(listed, key=lambda one: hash_fraction("read", one[1]))):
        report(number, len(listed))
        if characters >= MOST_CHARACTERS:
            left_out[f"beyond {MOST_CHARACTERS // 1_000_000} million characters"] = len(listed) - number
            break
        text, reason = _read(access, name)
        if text is None:
            left_out[reason] += 1
            continue
        file = OwnFile(access.root, name, text)
        if files.setdefault(file.key, file) is file:
            characters += len(text)
    return OwnSources([files[key] for key in sorted(files)], dict(left_out), commits)


def _listed(root: Path) -> Iterator[str]:
    """Yield the files that git lists. Raises CorpusError when it doesn't, or when it ignores the folder."""
    found = False
    try:
        for name in files_of_repository(root, GIT_TIMEOUT):
            found = True
            yield name
    except WorkspaceError as error:
        raise CorpusError(error.message, _advice_on(error.message, root)) from error
    if not found and _git(root.parent, "check-ignore", "--quiet", "--", root.name).returncode == 0:
        raise CorpusError(f"{root} is ignored by the repository around it, so nothing in it is read.", OTHER_FOLDER)


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

    Raises CorpusError when it is not a folder of a git repository with files.
    """
    if not root.is_dir():
        raise CorpusError(f"{root} is not a folder.", OTHER_FOLDER)
    inside = _git(root, "rev-parse", "--is-inside-work-tree")
    if inside.returncode:
        reason = inside.stderr.strip().partition("\n")[0]
        if "not a git repository" in reason:
            raise CorpusError(
                f"{root} is in no git repository, so it is not known which of its files are yours and which are "
                "ignored.",
                "Give a folder in a repository, or make it one with `git init`, with a .gitignore.",
            )
        raise CorpusError(f"git does not read the repository of {root}: {reason}", _advice_on(reason, root))
    if inside.stdout.strip() != "true":
        raise CorpusError(
            f"{root} holds the objects of a repository and no files.", "Give a folder where its files are checked out."
        )
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return head.stdout.strip() if head.returncode == 0 else ""


def _advice_on(reason: str, root: Path) -> str:
    """Return what to do about git's reason not to read a repository."""
    if "dubious ownership" in reason:
        return (
            "The repository belongs to another user. If you trust it, say so: "
            f"git config --global --add safe.directory {shlex.quote(str(root))}"
        )
    return f"See what `git -C {shlex.quote(str(root))} status` says."


def _read(access: FileAccess, name: str) -> tuple[str | None, str]:
    path = access.root / name
    if path.is_symlink() or not access.allows(path):
        return None, "not allowed"
    try:
        content = read_regular(path, MAX_BYTES, follow_links=False)
    except OSError:
        return None, "not readable, or too large"
    return cleaned(name, content)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder. The repository can't make git run a program. Raises CorpusError where there is no git."""
    command = git_command(*arguments)
    if command is None:
        raise CorpusError("There is no git on this machine.", "Install git.")
    return subprocess.run(
        command,
        cwd=root,
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
