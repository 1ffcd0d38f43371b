"""Scans of the workspace for what other files contribute to a completion: similar text, and names of modules.

A scan reads the disk, so it runs in a thread, while the user pauses; its result is used until the next one. One scanner
has one thread: two scans never run at once, and the texts that are kept between them need no lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from attrs import define, evolve, field, frozen

from codegen_lsp.completion.context import CURSOR_CHARACTERS, Snippet, WorkspaceContext, similar_snippets
from codegen_lsp.completion.modules import Files, modules_of
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.source.lines import with_lf
from codegen_lsp.workspace.files import FileAccess, list_files
from codegen_lsp.workspace.reading import read_regular
from codegen_lsp.workspace.uris import path_of

logger = logging.getLogger(__name__)

MAX_BYTES = 200_000
"""Size of a file beyond which it is taken for data and not read."""
MAX_TEXTS = 200
"""Texts of files that are kept between scans."""
SCAN_INTERVAL = 5.0
"""Seconds after which the result of a scan is old, while the cursor stays near the place that it was made for."""
MOVE_INTERVAL = 1.0
"""Least seconds between two scans because the cursor moved."""
NEAR = CURSOR_CHARACTERS // 2
"""Characters that the cursor may move before other text is around it than was compared."""

EMPTY = WorkspaceContext()


@frozen
class ScanRequest:
    """A document with the cursor, the files that may be read for it, and what is wanted of them."""

    snapshot: Snapshot
    access: FileAccess
    """The innermost workspace folder with the document."""
    snippets: bool = True
    """Return windows of similar files."""
    modules: bool = True
    """Return the names of imported modules."""
    opening: bool = False
    """The document was just opened, so the cursor of the snapshot is a guess."""


class _ScanCancelledError(Exception):
    """The result of a scan is no longer wanted."""


@define(eq=False)
class _Scan:
    """One scan, queued, running or done."""

    started: float
    """By the scanner's clock."""
    offset: int
    """Of the cursor."""
    opening: bool
    """True if the cursor was not known yet."""
    cancelled: threading.Event = field(factory=threading.Event)
    done: asyncio.Event = field(factory=asyncio.Event)


class WorkspaceScanner:
    """Scans for the open documents, one at a time, and keeps the last result of each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` replaces the real time in tests."""
        self._clock = clock
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workspace-scan")
        self._texts: dict[Path, tuple[int, str]] = {}
        """By path: modification time in nanoseconds, and the text. Only the executor's thread uses it."""
        self._contexts: dict[str, WorkspaceContext] = {}
        self._scans: dict[str, _Scan] = {}
        """The last scan for each document."""
        self._tasks: set[asyncio.Task[WorkspaceContext]] = set()

    def context(self, uri: str) -> WorkspaceContext:
        """Return the result of the last scan for a document; an empty one before the first."""
        return self._contexts.get(uri, EMPTY)

    def has_context(self, uri: str) -> bool:
        """Return true if a scan for a document has ended."""
        return uri in self._contexts

    def is_due(self, uri: str, offset: int) -> bool:
        """Return true if the last scan for a document is too old, or was made for a place far from the cursor."""
        last = self._scans.get(uri)
        if last is None:
            return True
        age = self._clock() - last.started
        moved = abs(offset - last.offset) > NEAR
        return age >= SCAN_INTERVAL or (moved and (last.opening or age >= MOVE_INTERVAL))

    async def finished(self, uri: str) -> None:
        """Wait while a scan for a document is queued or runs."""
        while (scan := self._scans.get(uri)) is not None and not scan.done.is_set():
            await scan.done.wait()

    async def scan(self, request: ScanRequest) -> WorkspaceContext:
        """Scan the workspace for a document, after the scans that were asked for before, and keep the result.

        When the caller is cancelled, the scan goes on, and its result is kept for the next request. A scan that fails,
        or is cancelled by another method or a later scan for the same document, gives an empty result.
        """
        snapshot = request.snapshot
        uri, scan = snapshot.uri, _Scan(self._clock(), snapshot.offset - snapshot.prelude, request.opening)
        self._cancel(uri)
        self._scans[uri] = scan
        task = asyncio.create_task(self._run(request, scan))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def document_changed(self, uri: str) -> None:
        """Drop what the other documents were told of the modules that a changed document may be."""
        for other in set(self._scans) - {uri}:
            self._cancel(other)
            self._contexts[other] = evolve(self.context(other), modules={})

    def files_changed(self) -> None:
        """Note that files may have changed on disk: all scans are due. Those that run are not cancelled."""
        for scan in self._scans.values():
            scan.started = float("-inf")

    def folders_changed(self) -> None:
        """Forget what all scans found, and cancel those that run: a document may belong to another folder now."""
        for uri in list(self._scans):
            self._cancel(uri)
        self._contexts.clear()

    def forget(self, uri: str) -> None:
        """Forget a document that was closed, and cancel its scan."""
        self._cancel(uri)
        self._contexts.pop(uri, None)

    def close(self) -> None:
        """Cancel all scans and end the thread. Afterwards `scan` must not be called."""
        for uri in list(self._scans):
            self._cancel(uri)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _cancel(self, uri: str) -> None:
        if scan := self._scans.pop(uri, None):
            scan.cancelled.set()

    async def _run(self, request: ScanRequest, scan: _Scan) -> WorkspaceContext:
        uri, found = request.snapshot.uri, EMPTY
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._executor, self._scan, request, scan.cancelled)
        except asyncio.CancelledError:
            scan.cancelled.set()
            raise
        finally:
            if self._scans.get(uri) is scan:
                self._contexts[uri] = found
            scan.done.set()
        return found

    def _scan(self, request: ScanRequest, cancelled: threading.Event) -> WorkspaceContext:
        """Scan in the executor's thread."""
        try:
            path = Path(path_of(request.snapshot.uri) or "").relative_to(request.access.root).as_posix()
            listed = list_files(request.access.root, PurePosixPath(path).suffix)
            snippets = self._snippets(request, path, listed, cancelled) if request.snippets else []
            modules = self._modules(request, path, listed, cancelled) if request.modules else {}
            return WorkspaceContext(tuple(snippets), modules, request.access.root.name, path)
        except _ScanCancelledError:
            return EMPTY
        except Exception:
            logger.exception("The scan of the workspace failed")
            return EMPTY

    def _snippets(
        self, request: ScanRequest, path: str, listed: Sequence[str], cancelled: threading.Event
    ) -> list[Snippet]:
        """Return the windows of other files that resemble the text at the cursor."""
        snapshot = request.snapshot
        return similar_snippets(
            snapshot.text, snapshot.offset, path, listed, lambda other: self._text(request, other, cancelled) or ""
        )

    def _modules(self, request: ScanRequest, path: str, listed: Sequence[str], cancelled: threading.Event) -> Modules:
        """Return the names of the workspace's modules that a Python document imports."""
        snapshot, root = request.snapshot, request.access.root
        if snapshot.language != "python":
            return {}
        files = Files(
            paths=frozenset(listed),
            read=lambda other: self._text(request, other, cancelled),
            entries=lambda folder: [entry.name for entry in (root / folder).iterdir()],
        )
        return modules_of(snapshot.text, path, files)

    def _text(self, request: ScanRequest, name: str, cancelled: threading.Event) -> str | None:
        """Return the text of a file with LF line ends; None when it must not or can't be read."""
        if cancelled.is_set():
            raise _ScanCancelledError
        path = request.access.root / name
        if not request.access.allows(path):
            return None
        if (text := request.access.open_texts.get(path.resolve())) is not None:
            return with_lf(text)
        try:
            status = path.stat()
            if status.st_size > MAX_BYTES:
                return None
            kept = self._texts.get(path)
            if kept is None or kept[0] != status.st_mtime_ns:
                kept = status.st_mtime_ns, with_lf(read_regular(path, MAX_BYTES).decode("utf-8"))
        except (OSError, UnicodeDecodeError):
            return None
        self._texts.pop(path, None)
        self._texts[path] = kept
        while len(self._texts) > MAX_TEXTS:
            del self._texts[next(iter(self._texts))]
        return kept[1]
