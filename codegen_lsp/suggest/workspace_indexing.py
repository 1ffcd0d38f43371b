"""Feeding the n-gram index of the workspace, which the inference worker keeps.

A refresh lists the workspace's files of the document's language, compares their times and sizes with those that the
worker has indexed, reads those that differ, nearest to the document and newest first, and sends them in batches. Open
documents are indexed as they stand in the editor. It runs in a thread that rests half of the time, and waits while the
user waits for the model.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path, PurePosixPath

from attrs import define, field, frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.rpc.messages import IndexStateParams, IndexUpdate, WorkspaceFile
from codegen_lsp.source.languages import language_of
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.request import CompletionModel
from codegen_lsp.workspace.files import FileAccess, innermost_folder, list_files
from codegen_lsp.workspace.reading import read_regular
from codegen_lsp.workspace.stepwise import sorted_in_steps
from codegen_lsp.workspace.uris import path_of

logger = logging.getLogger(__name__)

MAX_BYTES = 300_000
"""Size of a file beyond which it is taken for data and not indexed."""
MAX_FILES = 100_000
"""Files of a workspace that are looked at, the nearest to the document."""
MAX_LISTED = 500_000
"""Files of any kind that are listed to find these."""
REFRESH_SECONDS = 30.0
"""Least time between two refreshes of a workspace, unless a file is known to have changed."""
REST_FACTOR = 20.0
"""A refresh that took long is not repeated before this many times its duration."""
FILES_AT_ONCE = 200
"""Files that are looked at before the thread rests, for as long as that took."""
BATCH_CHARACTERS = 500_000
"""Text of one message to the worker."""
MAX_PENDING = 400
"""Files that the worker may have waiting; more are sent when it has indexed some."""
POLL_SECONDS = 0.1


@frozen
class RefreshRequest:
    """A document whose workspace is to be indexed."""

    uri: str
    language: str
    access: FileAccess
    model: CompletionModel
    busy: Callable[[], bool]
    """True while the user waits for the model."""
    max_tokens: int
    """Limit of the index."""
    kept: bool = True
    """Keep the index on disk. One that is not kept is an index of its own, apart from the editors'."""


@frozen
class IndexedWorkspace:
    """The index that a document's requests name."""

    key: str
    file: str
    """Path of the document from the workspace's folder: it is not counted twice."""


@define
class _Refresh:
    """The refreshes of one workspace."""

    root: Path
    suffixes: tuple[str, ...]
    started: float = float("-inf")
    due: bool = True
    running: bool = False
    ready: bool = False
    """True once the index has files."""
    seconds: float = 0.0
    """Duration of the last refresh."""
    stopped: threading.Event = field(factory=threading.Event)
    """Set to end a refresh that runs."""
    exclude: tuple[str, ...] | None = None
    """Exclusion patterns of the last refresh: indexed files need not be checked again while they stay the same."""

    def is_due(self, now: float) -> bool:
        """Return whether a refresh should start."""
        wait = max(REFRESH_SECONDS, REST_FACTOR * self.seconds)
        return not self.running and (self.due or now - self.started >= wait)


@define(eq=False)
class WorkspaceIndexer:
    """Keeps the indexes of the open documents' workspaces up to date. All methods belong to one event loop."""

    _workspaces: dict[str, _Refresh] = field(factory=dict, init=False)
    _key_of: dict[str, str] = field(factory=dict, init=False)
    """Workspace of each document for which a refresh was started, by URI."""
    _executor: ThreadPoolExecutor = field(factory=lambda: ThreadPoolExecutor(1, "workspace-index"), init=False)
    _closed: bool = field(default=False, init=False)

    def closed(self, uri: str) -> None:
        """Note that a document was closed: it counts as it is on disk again."""
        self._key_of.pop(uri, None)
        self.files_changed()

    def files_changed(self) -> None:
        """Note that files may have changed on disk: the next pause refreshes all workspaces."""
        for refresh in self._workspaces.values():
            refresh.due = True

    def folders_changed(self, folders: Sequence[str]) -> None:
        """Forget the workspaces that are not among the folders, given as URIs, and documents that changed theirs.

        The worker keeps the indexes: a folder that comes back has its own again.
        """
        roots = {Path(path) for folder in folders if (path := path_of(folder))}
        for uri, key in list(self._key_of.items()):
            if innermost_folder(uri, folders) != self._workspaces[key].root:
                del self._key_of[uri]
        for key in [key for key, refresh in self._workspaces.items() if refresh.root not in roots]:
            self._workspaces.pop(key).stopped.set()

    def workspace_of(self, uri: str) -> IndexedWorkspace | None:
        """Return the index for a document's requests; None while it has no files."""
        key = self._key_of.get(uri)
        path = path_of(uri)
        if key is None or not path or not self._workspaces[key].ready:
            return None
        return IndexedWorkspace(key, Path(path).relative_to(self._workspaces[key].root).as_posix())

    async def refresh(self, request: RefreshRequest) -> bool:
        """Bring the index of a document's workspace up to date, if that is due. Returns true if it was refreshed.

        Failures are logged: without the index, suggestions only know less.
        """
        suffixes = language_of(request.language).suffixes
        if self._closed or not suffixes:
            return False
        root = request.access.root
        key = f"{root}\n{' '.join(suffixes)}" + ("" if request.kept else "\nnot kept")
        refresh = self._workspaces.setdefault(key, _Refresh(root, suffixes))
        self._key_of[request.uri] = key
        now = time.monotonic()
        if not refresh.is_due(now):
            return False
        refresh.running, refresh.due, refresh.started = True, False, now
        try:
            await self._bring_up_to_date(key, refresh, request)
            logger.info("%s was compared with its index in %.1f s", root, time.monotonic() - now)
        except CodegenError as error:
            logger.info("The workspace was not indexed: %s", error)
            refresh.due = True
        except OSError as error:
            logger.warning("The workspace was not indexed: %s", error)
        finally:
            refresh.running, refresh.seconds = False, time.monotonic() - now
        return True

    def close(self) -> None:
        """End the thread. `refresh` must not be called afterwards."""
        self._closed = True
        for refresh in self._workspaces.values():
            refresh.stopped.set()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _bring_up_to_date(self, key: str, refresh: _Refresh, request: RefreshRequest) -> None:
        loop, model = asyncio.get_running_loop(), request.model
        state = await model.index_state(IndexStateParams(key, request.kept))
        if not state.available:
            return
        refresh.ready |= state.tokens > 0
        indexed: dict[str, list[int]] = {}
        while state.files and not refresh.stopped.is_set():  # in parts, so that the event loop is never busy for long
            indexed |= state.files
            state = await model.index_state(IndexStateParams(key, request.kept, len(indexed)))
        comparison = _Comparison(
            access=request.access,
            suffixes=refresh.suffixes,
            indexed={path: (modified, size) for path, (modified, size) in indexed.items()},
            near=Path(path_of(request.uri) or refresh.root).parent,
            checked=refresh.exclude == request.access.exclude,
            stopped=refresh.stopped,
        )
        changes = await loop.run_in_executor(self._executor, comparison.changes)
        refresh.exclude = request.access.exclude
        batches, removed = _batches(request.access, changes.changed), changes.removed
        while not refresh.stopped.is_set():
            batch = await loop.run_in_executor(self._executor, next, batches, None)
            if batch is None and not removed:
                return
            while request.busy() and not refresh.stopped.is_set():  # noqa: ASYNC110 - being busy has no event
                await asyncio.sleep(POLL_SECONDS)
            if refresh.stopped.is_set():
                return
            state = await model.update_index(IndexUpdate(key, batch or [], removed, request.max_tokens, request.kept))
            removed, refresh.ready = [], True
            while state.pending > MAX_PENDING and not refresh.stopped.is_set():
                await asyncio.sleep(POLL_SECONDS)
                state = await model.update_index(IndexUpdate(key))


@frozen
class _FileStatus:
    """A file on disk."""

    path: str
    """From the workspace's folder, with slashes."""
    modified: int
    """Modification time in nanoseconds; for an open document a checksum of its text, negative."""
    size: int
    text: str | None = None
    """Text of an open document."""


@frozen
class _Changes:
    """How the disk differs from an index."""

    changed: list[_FileStatus]
    removed: list[str]


@frozen
class _Comparison:
    """The files of a workspace beside those of its index."""

    access: FileAccess
    suffixes: tuple[str, ...]
    indexed: Mapping[str, tuple[int, int]]
    near: Path
    """Folder whose files are wanted first."""
    checked: bool
    """True if the files of the index are known to be allowed."""
    stopped: threading.Event
    """Set when the result is no longer wanted."""

    def changes(self) -> _Changes:
        """Compare them: changed files in the order in which they are wanted. Reads the disk, and rests in between.

        Of more than `MAX_FILES` files, the nearest are looked at; the others stay as they are.
        """
        root = self.access.root
        here = self.near.relative_to(root).as_posix() if self.near.is_relative_to(root) else "."
        listed = [path for path in list_files(root, "", MAX_LISTED) if path.endswith(self.suffixes)]
        distances = {path: _distance(here, path) for path in listed}
        if len(listed) > MAX_FILES:
            listed = list(sorted_in_steps(listed, key=distances.__getitem__))
        found: dict[str, _FileStatus] = {}
        open_texts = self._open_texts()
        for at in range(0, min(len(listed), MAX_FILES), FILES_AT_ONCE):
            if self.stopped.is_set():
                return _Changes([], [])
            started = time.monotonic()
            for path in listed[at : min(at + FILES_AT_ONCE, MAX_FILES)]:
                if (status := self._status(path, open_texts)) is not None:
                    found[path] = status
            time.sleep(time.monotonic() - started)
        different = (file for file in found.values() if self.indexed.get(file.path) != (file.modified, file.size))
        changed = list(sorted_in_steps(different, key=lambda file: (distances[file.path], -file.modified)))
        return _Changes(changed, sorted(self.indexed.keys() - found.keys() - set(listed[MAX_FILES:])))

    def _open_texts(self) -> dict[str, str]:
        """Return the texts of the open documents by path from the workspace's folder."""
        root = self.access.root.resolve()
        texts = self.access.open_texts.items()
        return {path.relative_to(root).as_posix(): text for path, text in texts if path.is_relative_to(root)}

    def _status(self, path: str, open_texts: Mapping[str, str]) -> _FileStatus | None:
        """Return a file's status; None for one that is not indexed.

        Symbolic links are not: what they lead to counts where it lies, if it may be read at all.
        """
        file = self.access.root / path
        try:
            status = file.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        found = _FileStatus(path, status.st_mtime_ns, status.st_size)
        if (text := open_texts.get(path)) is not None:
            found = _FileStatus(path, -zlib.crc32(text.encode("utf-8", "replace")), len(text), text)
        if self.checked and self.indexed.get(path) == (found.modified, found.size):
            return found
        return found if status.st_size <= MAX_BYTES and self.access.allows(file) else None


def _distance(folder: str, path: str) -> int:
    """Return the steps from a folder to a file's folder in the tree of folders."""
    here = [] if folder == "." else folder.split("/")
    there = list(PurePosixPath(path).parent.parts)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
    return len(here) + len(there) - 2 * common


def _batches(access: FileAccess, files: Iterable[_FileStatus]) -> Iterator[list[WorkspaceFile]]:
    """Read files, and yield them in batches. A file that is not UTF-8 text counts as empty; a lost one is left out.

    Files are checked again: some time has passed, in which a file may have become a link.
    """
    batch: list[WorkspaceFile] = []
    size = 0
    for file in files:
        path = access.root / file.path
        if file.text is None and not access.allows(path):
            continue
        try:
            text = file.text
            if text is None:
                text = read_regular(path, MAX_BYTES, follow_links=False).decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        except OSError:
            continue
        if "\0" in text:
            text = ""
        batch.append(WorkspaceFile(file.path, with_lf(text), file.modified, file.size))
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
