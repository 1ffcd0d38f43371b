"""The history of a repository, read from its objects: which lines each commit added.

Only plumbing commands are used that neither run filters nor compare with the working tree, so that a repository can't
have a program run. Differences are computed here.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.workspace.files import git_command, git_environment

MAX_BYTES = 300_000
"""Size of the largest file that is read, as in the workspace index."""


@frozen
class AddedRun:
    """Adjacent lines that a commit added to a file."""

    commit: str
    path: str
    text: str
    """The file after the commit."""
    first: int
    last: int
    """Numbers of the lines, from 1."""

    @property
    def added(self) -> str:
        """The lines, each with its line break."""
        return "".join(line + "\n" for line in self.text.split("\n")[self.first - 1 : self.last])


@frozen
class GitHistory:
    """The first-parent history of a repository's current branch."""

    root: Path
    suffixes: tuple[str, ...]

    def commit_before(self, days: float) -> str:
        """Return the last commit at least so many days before the newest one.

        Raises EvaluationError when there is none.
        """
        newest = int(self._git("log", "-1", "--format=%ct").strip() or 0)
        found = self._git("rev-list", "-1", "--first-parent", f"--before={newest - int(days * 86_400)}", "HEAD").strip()
        if not found:
            raise EvaluationError(
                f"{self.root} has no commit {days:g} days before the newest one.", "Give fewer days with --days."
            )
        return found

    def commits_after(self, commit: str) -> list[str]:
        """Return the later commits, oldest first."""
        return self._git("rev-list", "--reverse", "--first-parent", f"{commit}..HEAD").split()

    def files_at(self, commit: str) -> dict[str, str]:
        """Return the texts of the files at a commit by path."""
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit)
        entries = [entry.split("\t", 1) for entry in listed.split("\0") if entry]
        wanted = [
            (path, head.split()[2]) for head, path in entries if head.startswith("100") and path.endswith(self.suffixes)
        ]
        texts = self._texts([digest for _, digest in wanted])
        return {path: texts[digest] for path, digest in wanted if digest in texts}

    def changed_between(self, commit: str, later: str) -> dict[str, str | None]:
        """Return the files that differ, with their later texts; None for those that were removed or are too large."""
        raw = self._git("diff-tree", "-r", "-z", "--no-renames", "--raw", commit, later)
        fields = [field for field in raw.split("\0") if field]
        changed: dict[str, str] = {}
        for head, path in zip(fields[::2], fields[1::2], strict=False):
            if path.endswith(self.suffixes):
                changed[path] = head.split()[3] if head.split()[1].startswith("100") else ""
        texts = self._texts([digest for digest in changed.values() if digest.strip("0")])
        return {path: texts.get(digest) for path, digest in changed.items()}

    def added_by(self, commit: str) -> list[AddedRun]:
        """Return the runs of lines that a commit added, compared with its first parent."""
        parent = f"{commit}^"
        after = self.changed_between(parent, commit)
        before = self.changed_between(commit, parent)
        return [
            AddedRun(commit, path, text, first, last)
            for path, text in after.items()
            if text is not None
            for first, last in added_lines(before.get(path) or "", text)
        ]

    def _texts(self, digests: Sequence[str]) -> dict[str, str]:
        """Return the blobs that are UTF-8 text of at most `MAX_BYTES`, by digest. Missing ones are left out."""
        if not digests:
            return {}
        request = "".join(f"{digest}\n" for digest in dict.fromkeys(digests)).encode()
        raw = self._run(("cat-file", "--batch"), request)
        found: dict[str, str] = {}
        at = 0
        while at < len(raw):
            end = raw.index(b"\n", at)
            head = raw[at:end].split()
            at = end + 1
            if len(head) != 3:  # a missing object has no content
                continue
            size = int(head[2])
            content = raw[at : at + size]
            at += size + 1
            if size <= MAX_BYTES and b"\0" not in content:
                try:
                    found[head[0].decode()] = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
                except UnicodeDecodeError:
                    continue
        return found

    def _git(self, *arguments: str) -> str:
        return self._run(arguments).decode("utf-8", "surrogateescape")

    def _run(self, arguments: Sequence[str], data: bytes = b"") -> bytes:
        """Return the output of git. Raises EvaluationError when it fails."""
        command = git_command(*arguments)
        if command is None:
            raise EvaluationError("There is no git on this machine.", "Install git.")
        done = subprocess.run(command, cwd=self.root, env=git_environment(), input=data, capture_output=True)
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
            raise EvaluationError(f"The history of {self.root} can't be read: {reason}", "Give a repository's folder.")
        return done.stdout


def added_lines(before: str, after: str) -> Iterator[tuple[int, int]]:
    """Yield first and last number, from 1, of each run of lines of `after` that is not in `before`."""
    old, new = before.split("\n"), after.split("\n")
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    end = 0
    while end < min(len(old), len(new)) - same and old[-1 - end] == new[-1 - end]:
        end += 1
    old, new = old[same : len(old) - end], new[same : len(new) - end]
    for kind, _, _, first, stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind in ("insert", "replace"):
            yield same + first + 1, same + stop
