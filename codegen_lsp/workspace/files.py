"""The files of a workspace folder: which exist, which may be read, and their texts.

Files are listed by git where the folder is in a repository, so that every kind of ignore rule counts (nested
`.gitignore`, `.git/info/exclude`, the user's global excludes), else by a walk that reads `.gitignore` files itself.
Files that hold secrets, files that the user has excluded and links that lead out of the folder are never opened.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.workspace.decoding import UnreadableSourceError, decode_source
from codegen_lsp.workspace.ignore import excluding_pattern, without_backtracking
from codegen_lsp.workspace.reading import NotRegularError, read_regular
from codegen_lsp.workspace.secrets import holds_secrets
from codegen_lsp.workspace.stepwise import sorted_in_steps
from codegen_lsp.workspace.uris import path_of, uri_of

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

logger = logging.getLogger(__name__)

MAX_FILES = 4_000
"""Files of a workspace that are listed; the rest of a larger one is not looked at."""
MAX_SOURCE_BYTES = 10_000_000
"""Size of the largest Python file that is read."""
MAX_IGNORE_BYTES = 500_000
"""Size of the largest `.gitignore` that is read."""
GIT_TIMEOUT = 5.0
"""Seconds that git may take to list the files."""
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "build", "dist", "target"})

_GIT_OPTIONS = (
    # The repository's own configuration is untrusted: it must not name a program that is run here.
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    "--no-pager",
)
_LIST_FILES = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")
_GIT_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",  # no transport, whose helpers a repository may choose
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


_too_slow: set[Path] = set()
"""Folders that git could not list in time; it is not asked again."""


class WorkspaceError(CodegenError):
    """The files of a workspace can't be read. `rule` names the reason."""

    def __init__(self, rule: str, message: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.rule = rule


@frozen
class FileAccess:
    """A workspace folder, and which of its files may be read."""

    root: Path
    folders: tuple[str, ...] = ()
    """URIs of all workspace folders, which exclusion patterns are relative to."""
    exclude: tuple[str, ...] = ()
    """The user's exclusion patterns."""
    open_texts: Mapping[Path, str] = field(factory=dict)
    """Texts of the open documents by resolved path; they take precedence over the disk."""

    def allows(self, path: Path) -> bool:
        """Return true if a file may be read: a regular one inside the folder, without secrets, not excluded.

        Of a symbolic link, both its own path and its target's must be allowed.
        """
        try:
            target = path.resolve(strict=True)
            regular = stat.S_ISREG(target.stat().st_mode)
        except (OSError, RuntimeError):
            return False
        if not regular or not target.is_relative_to(self.root.resolve()):
            return False
        return all(
            not holds_secrets(uri) and not excluding_pattern(uri, self.folders, self.exclude)
            for uri in {uri_of(path), uri_of(target)}
        )


def innermost_folder(uri: str, folders: Sequence[str]) -> Path | None:
    """Return the innermost of the folders (given as URIs) that contains a document; None where none does."""
    path = path_of(uri)
    if not path:
        return None
    roots = [Path(root) for folder in folders if (root := path_of(folder))]
    return max(
        (root for root in roots if Path(path).is_relative_to(root)), key=lambda root: len(root.parts), default=None
    )


def list_files(root: Path, extension: str, limit: int | None = None) -> list[str]:
    """Return the paths of the files with an extension that are not ignored, relative to `root`, with slashes.

    Of each folder, files come before folders, both by name. Only the first `limit` (`MAX_FILES`) files of any extension
    are considered. Hidden folders and `SKIPPED_FOLDERS` are left out.
    """
    considered = islice(_files(root), MAX_FILES if limit is None else limit)
    return [path for path in considered if path.endswith(extension)]


def files_of_repository(root: Path, timeout: float) -> Iterator[str]:
    """Yield the paths that git lists below `root`, as `list_files` orders them, never those that a walk would find.

    Of a repository inside it that git can't list, nothing is yielded. `timeout` are the seconds that git may take for
    each repository. Raises: WorkspaceError when git can't list `root`, with git's reason.
    """
    try:
        names = _ask_git(root, timeout)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise WorkspaceError("not_listed", f"git does not list the files of {root}: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise WorkspaceError("not_listed", f"git did not list the files of {root} in {timeout:g} s.") from error
    except OSError as error:
        raise WorkspaceError("not_listed", f"git does not list the files of {root}: {error}.") from error

    def inner(folder: Path) -> Iterator[str]:
        try:
            yield from files_of_repository(folder, timeout)
        except WorkspaceError as error:
            logger.warning("%s", error)

    yield from _expanded(root, names, inner)


def python_files(access: FileAccess) -> dict[Path, str]:
    """Return the texts of the Python files of a workspace folder by absolute path, line ends as they are.

    Files that Python can't decode are left out. Raises: WorkspaceError when there are more than `MAX_FILES`, or when
    one can't be read.
    """
    found: dict[Path, str] = {}
    for number, name in enumerate(list_files(access.root, ".py", 10 * MAX_FILES)):
        path = access.root / name
        if not access.allows(path):
            continue
        path = path.resolve()
        if number >= MAX_FILES:
            raise WorkspaceError(
                "too_many_files",
                f"{access.root} has more than {MAX_FILES} Python files, too many to look through.",
                "Open a smaller folder, or rename with your language server for Python.",
            )
        try:
            text = access.open_texts.get(path)
            found[path] = decode_source(read_regular(path, MAX_SOURCE_BYTES), path) if text is None else text
        except (FileNotFoundError, NotRegularError, UnreadableSourceError):
            continue
        except OSError as error:
            raise WorkspaceError("unreadable_file", f"{path} can't be read: {error}.") from error
    return found


def _files(root: Path) -> Iterator[str]:
    """Yield the files below `root` that are not ignored, repositories inside it included."""
    names = _listed_by_git(root)
    if not names:
        yield from _walk(root)
    yield from _expanded(root, names, _files)


def _expanded(root: Path, names: set[str], inner: Callable[[Path], Iterator[str]]) -> Iterator[str]:
    """Yield the files among the names that git lists, and for a repository among them what `inner` yields."""
    for name in sorted_in_steps(names, key=_walk_order):
        path = root / name
        *folders, last = name.rstrip("/").split("/")
        if any(map(_is_skipped, folders)):
            continue
        if path.is_file():
            yield name
        elif path.is_dir() and not path.is_symlink() and not _is_skipped(last):
            # A submodule or an untracked repository, of which git names the folder only.
            yield from (f"{name.rstrip('/')}/{each}" for each in inner(path))


def _listed_by_git(root: Path) -> set[str]:
    """Return git's list of tracked and untracked files below `root`, without ignored ones.

    Empty where there is no repository, no git, a repository that git does not trust (another user's) or can't list in
    time, or where the folder itself is ignored by a repository around it.
    """
    if root in _too_slow:
        return set()
    try:
        return _ask_git(root, GIT_TIMEOUT)
    except subprocess.CalledProcessError as error:
        logger.debug("git does not list %s: %s", root, error.stderr.decode("utf-8", "replace").strip())
        return set()
    except subprocess.TimeoutExpired as error:
        logger.info("git does not list %s: %s", root, error)
        _too_slow.add(root)
        return set()
    except OSError as error:
        logger.info("git does not list %s: %s", root, error)
        return set()


def _ask_git(root: Path, timeout: float) -> set[str]:
    """Return what `git ls-files` lists. Raises: OSError, CalledProcessError, TimeoutExpired."""
    command = git_command(*_LIST_FILES)
    if command is None:
        raise FileNotFoundError("there is no git on this machine")
    result = subprocess.run(
        command,
        cwd=root,
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    return {os.fsdecode(name) for name in result.stdout.split(b"\0") if name}


def git_command(*arguments: str) -> tuple[str, ...] | None:
    """Return the command line of git by which a repository can't have a program run; None where there is no git."""
    program = shutil.which("git")
    # A relative path is a program in the current folder, which may be the workspace.
    return None if program is None or not Path(program).is_absolute() else (program, *_GIT_OPTIONS, *arguments)


def git_environment() -> dict[str, str]:
    """Return the environment for `git_command`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _GIT_ENVIRONMENT


def _walk_order(path: str) -> list[tuple[bool, str]]:
    """Return a key by which paths sort as a walk from the top finds them: files first, then folders."""
    *folders, name = path.split("/")
    return [*((True, folder) for folder in folders), (False, name)]


def _is_skipped(folder: str) -> bool:
    return folder.startswith(".") or folder in SKIPPED_FOLDERS


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below `root` that no `.gitignore` there excludes, links to folders not followed."""

    specs: list[tuple[str, GitIgnoreSpec]] = []
    if (exclude := root / ".git" / "info" / "exclude").is_file() and (spec := _spec(exclude)) is not None:
        specs.append(("", spec))
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        prefix = "" if here == "." else here + "/"
        if ".gitignore" in files and (spec := _spec(Path(folder) / ".gitignore")) is not None:
            specs.append((prefix, spec))
        folders[:] = sorted(
            name for name in folders if not _is_skipped(name) and not _is_ignored(f"{prefix}{name}/", specs)
        )
        yield from (prefix + name for name in sorted(files) if not _is_ignored(prefix + name, specs))


def _spec(path: Path) -> GitIgnoreSpec | None:
    """Return the rules of a `.gitignore` file; None when it can't be read. Links are not followed, as by git."""
    from pathspec import GitIgnoreSpec, RegexPattern

    try:
        text = read_regular(path, MAX_IGNORE_BYTES, follow_links=False).decode("utf-8", "replace")
        spec = GitIgnoreSpec.from_lines(text.splitlines())
    except (OSError, ValueError) as error:
        logger.info("%s can't be read: %s", path, error)
        return None
    for pattern in spec.patterns:
        if isinstance(pattern, RegexPattern) and pattern.regex is not None:
            pattern.regex = re.compile(without_backtracking(pattern.regex.pattern))
    return spec


def _is_ignored(path: str, specs: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    """Apply the rules as git does: of the `.gitignore` files that match, the one nearest to the path decides.

    `specs` has those of outer folders first.
    """
    for prefix, spec in reversed(specs):
        if path.startswith(prefix) and (included := spec.check_file(path[len(prefix) :]).include) is not None:
            return included
    return False
