"""N-gram indexes of the users' workspaces: updated in a thread that rests half of the time, and kept on disk.

The language server decides which files belong to a workspace and reads them; this module knows texts by name only. An
index is read from disk when its workspace is first named, and written when many files were indexed and no more come,
every `SAVE_SECONDS` while there are changes, and at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from attrs import define, field
from platformdirs import user_cache_path

from codegen_lsp.inference import heap
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_index_file import DamagedIndexError, read_index, write_index
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.rpc.messages import IndexState, IndexUpdate, WorkspaceFile

logger = logging.getLogger(__name__)

SAVE_SECONDS = 600.0
SAVE_FILES = 50
"""Changed files from which on an index is written as soon as no update came for `QUIET_SECONDS`."""
QUIET_SECONDS = 5.0
RESTING = 1.0
"""Seconds that the thread rests for each second of work. It can't have a lower priority: it shares the interpreter's
lock with the thread that computes answers, which would wait for it on a busy machine."""
KEPT_FILES = 40
"""Indexes kept on disk; those unused for longest are removed."""

NAMED_FILES = 2_000
"""Files that one answer names: a longer message would keep the processes' event loops from answering others."""

SUFFIX = ".ngrams"

Encode = Callable[[str], Sequence[int]]


@define(eq=False)
class _OpenIndex:
    """The index of one workspace."""

    index: NgramIndex
    path: Path | None
    saved: float = field(factory=time.monotonic)
    changed: int = 0
    """Number of files that changed since it was written."""


class WorkspaceIndexes:
    """The indexes of all workspaces that the servers of this worker have named.

    `folder` is where they are kept; None keeps nothing. `tokenizer` identifies what makes the ids.
    """

    def __init__(self, encode: Encode, tokenizer: str, caution: Sequence[float], folder: Path | None) -> None:
        self._encode = encode
        self._tokenizer = tokenizer
        self._caution = caution
        self._folder = folder
        self._workspaces: dict[str, _OpenIndex] = {}
        self._lock = threading.Lock()
        self._updates: list[IndexUpdate] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def available(self) -> bool:
        """True where the index library was compiled."""
        return library() is not None

    def state(self, workspace: str, *, kept: bool = True, first: int = 0) -> IndexState:
        """Return which files of a workspace are indexed, `NAMED_FILES` from the `first` on.

        Its index is read from disk before, which blocks.
        """
        if not self.available:
            return IndexState(available=False)
        opened = self._open(workspace, kept=kept)
        named = islice(opened.index.files.items(), first, first + NAMED_FILES)
        files = {path: [file.version.modified, file.version.size] for path, file in named}
        return IndexState(
            files=files,
            tokens=len(opened.index),
            memory_bytes=opened.index.nbytes,
            pending=self.pending(workspace),
        )

    def pending(self, workspace: str) -> int:
        """Return the number of files that wait to be indexed."""
        with self._wake:
            return sum(len(update.files) for update in self._updates if update.workspace == workspace)

    def update(self, update: IndexUpdate) -> None:
        """Queue changes of a workspace. Returns at once."""
        if not self.available or not (update.files or update.removed):
            return
        with self._wake:
            if self._closed:
                return
            self._updates.append(update)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="index", daemon=True)
                self._thread.start()
            self._wake.notify()

    def counts(self, workspace: str, left_out: Sequence[str]) -> WorkspaceCounts | None:
        """Return a workspace's counts without some files; None where it has no index in memory."""
        opened = self._workspaces.get(workspace)
        return WorkspaceCounts(opened.index, frozenset(left_out)) if opened and opened.index.files else None

    def wait(self, seconds: float) -> bool:
        """Wait until all updates are done; False when they are not in time."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._updates, seconds)

    def close(self) -> None:
        """Write what has changed, and end the thread."""
        with self._wake:
            self._closed = True
            self._updates.clear()
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)
        for opened in self._workspaces.values():
            self._save(opened)

    def _open(self, workspace: str, *, kept: bool = True) -> _OpenIndex:
        with self._lock:
            if (opened := self._workspaces.get(workspace)) is not None:
                return opened
            opened = _OpenIndex(NgramIndex(self._caution), self._path(workspace) if kept else None)
            if opened.path is not None:
                try:
                    read_index(opened.index, opened.path, self._tokenizer)
                    os.utime(opened.path)
                except FileNotFoundError:
                    pass
                except (OSError, DamagedIndexError) as error:
                    logger.warning("The index of the workspace is built anew: %s", error)
                    with contextlib.suppress(OSError):
                        opened.path.unlink()
            self._workspaces[workspace] = opened
            return opened

    def _path(self, workspace: str) -> Path | None:
        name = hashlib.sha256(f"{workspace}\0{self._tokenizer}".encode()).hexdigest()[:24]
        return None if self._folder is None else self._folder / f"{name}{SUFFIX}"

    def _run(self) -> None:
        while (update := self._next()) is not None:
            try:
                self._apply(update)
            except Exception:
                logger.exception("Indexing files of a workspace failed")
            with self._wake:
                if update in self._updates:
                    self._updates.remove(update)
                done = not self._updates
                self._wake.notify_all()
            if done:
                heap.trim()  # merging segments leaves as much free as they take

    def _next(self) -> IndexUpdate | None:
        """Wait for an update, and write what has changed meanwhile. Returns None at the end."""
        while True:
            many = any(opened.changed >= SAVE_FILES for opened in list(self._workspaces.values()))
            with self._wake:
                if self._closed or self._updates or self._wake.wait(QUIET_SECONDS if many else SAVE_SECONDS):
                    if self._closed:
                        return None
                    if self._updates:
                        return self._updates[0]
                    continue
            for opened in list(self._workspaces.values()):
                self._save(opened)

    def _apply(self, update: IndexUpdate) -> None:
        opened = self._open(update.workspace, kept=update.kept)
        index = opened.index
        index.remove(update.removed)
        room = update.max_tokens - len(index)
        added = []
        for file in update.files:
            if self._closed:
                return
            started = time.monotonic()
            ids = self._encode(file.text) if room > 0 else []
            time.sleep(RESTING * (time.monotonic() - started))
            if len(ids) > room or (room <= 0 and file.text):  # known, so that it is not sent again, and empty
                logger.debug("The index of the workspace is full: %s is left out.", file.path)
                ids = []
            room -= len(ids)
            added.append((_version(file), ids))
        index.add(added)
        opened.changed += len(added) + len(update.removed)
        if index.is_fragmented:
            index.tidy()
        if time.monotonic() - opened.saved > SAVE_SECONDS:
            self._save(opened)

    def _save(self, opened: _OpenIndex) -> None:
        if opened.path is None or not opened.changed:
            return
        opened.changed, opened.saved = 0, time.monotonic()
        try:
            write_index(opened.index, opened.path, self._tokenizer)
            prune(opened.path.parent)
        except OSError as error:
            logger.warning("The index of the workspace can't be kept: %s", error)


def _version(file: WorkspaceFile) -> FileVersion:
    return FileVersion(file.path, file.modified, file.size)


def index_folder() -> Path:
    """Return the folder where the user's indexes are kept."""
    return user_cache_path("codegen-lsp", appauthor=False) / "workspaces"


def kept_indexes(folder: Path) -> list[Path]:
    """Return the index files in a folder, the last used first."""
    return sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)


def prune(folder: Path, kept: int = KEPT_FILES) -> None:
    """Remove the indexes that were not used for longest, all but `kept`."""
    for path in kept_indexes(folder)[kept:]:
        with contextlib.suppress(OSError):
            path.unlink()
