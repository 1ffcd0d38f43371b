"""Keeping up to date what the workspace contributes to suggestions.

There are two sources: the n-gram index of the workspace, and the scan for similar text and for imported modules. Both
are brought up to date, where that is due, when a document is opened, with each request that asks the model, and when
the user pauses. The work runs in threads and in the worker, beside the request. The first request of a document never
waits for it; later ones wait for the first scan, but all together no longer than `first_scan_seconds`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from codegen_lsp.completion.context import CURSOR_CHARACTERS, WorkspaceContext
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.refusals import never_here
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.suggest.host import Host
from codegen_lsp.suggest.options import options_for
from codegen_lsp.suggest.request import ModelHandle
from codegen_lsp.suggest.workspace_context import ScanRequest, WorkspaceScanner
from codegen_lsp.suggest.workspace_indexing import RefreshRequest, WorkspaceIndexer

logger = logging.getLogger(__name__)

FIRST_SCAN_SECONDS = 0.2
"""Seconds that the requests of a document wait for its first scan, all together: about the time between two keys."""


class WorkspaceUpkeep:
    """Scans and index refreshes for the open documents of a `Host`. Without a host, nothing is started."""

    def __init__(self, host: Host | None, scanner: WorkspaceScanner, indexer: WorkspaceIndexer) -> None:
        self.first_scan_seconds = FIRST_SCAN_SECONDS
        self._host = host
        self._scanner = scanner
        self._indexer = indexer
        self._tasks: set[asyncio.Task[Any]] = set()
        self._allowances: dict[str, float] = {}
        """Seconds that the requests of a document may still wait for its first scan; since its first request."""

    # Events.

    def opened(self, uri: str) -> None:
        """Compare a document that was opened with its workspace, before there is a request.

        The cursor is not known yet: the beginning of the document is compared.
        """
        if self._host is not None:
            self._start(self._follow_opening(self._host, uri))

    def changed(self, uri: str) -> None:
        """Note that the text of a document was changed."""
        self._scanner.document_changed(uri)

    def closed(self, uri: str) -> None:
        """Forget a document."""
        self._allowances.pop(uri, None)
        self._scanner.forget(uri)
        self._indexer.closed(uri)

    def files_changed(self) -> None:
        """Note that files of the workspace were written, created, renamed or deleted."""
        self._scanner.files_changed()
        self._indexer.files_changed()

    def folders_changed(self, folders: Sequence[str]) -> None:
        """Note that the workspace folders, given as URIs, are others now."""
        self._scanner.folders_changed()
        self._indexer.folders_changed(folders)

    def close(self) -> None:
        """Cancel everything. The object must not be used again."""
        for task in self._tasks:
            task.cancel()
        self._indexer.close()
        self._scanner.close()

    # Work.

    def follow(self, snapshot: Snapshot, options: Options, model: ModelHandle) -> None:
        """Start what is due for a document and the cursor in it."""
        self._start_refresh(snapshot, options, model)
        if (scan := self._due_scan(snapshot, options, model.description)) is not None:
            self._start(self._scanner.scan(scan))

    async def pause(self, snapshot: Snapshot, options: Options, model: ModelHandle) -> None:
        """Start what is due for a document in which the user pauses, and wait until it was scanned."""
        self.follow(snapshot, options, model)
        await asyncio.sleep(0)  # the scan's task starts
        await self._scanner.finished(snapshot.uri)

    async def context(self, uri: str) -> WorkspaceContext:
        """Return the result of the last scan for a request, which may wait for the first one."""
        allowance = self._allowances.get(uri)
        if allowance is None:
            self._allowances[uri] = self.first_scan_seconds
        elif allowance > 0 and not self._scanner.has_context(uri):
            started = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(allowance):
                    await self._scanner.finished(uri)
            self._allowances[uri] = allowance - (time.monotonic() - started)
        return self._scanner.context(uri)

    async def _follow_opening(self, host: Host, uri: str) -> None:
        snapshot, model = host.snapshot(uri, CURSOR_CHARACTERS), host.current_model
        if snapshot is None:
            return
        options = options_for(host.settings, snapshot.language, model.description)
        scan = self._due_scan(snapshot, options, model.description, opening=True)
        if scan is not None:
            self._start(self._scanner.scan(scan))
        ready = await host.idle_model()
        if ready is not None and (snapshot := host.snapshot(uri, CURSOR_CHARACTERS)) is not None:
            self._start_refresh(snapshot, options, ready)

    def _start_refresh(self, snapshot: Snapshot, options: Options, model: ModelHandle) -> None:
        """Bring the n-gram index of the workspace up to date, if that is due and the model can use it."""
        host = self._host
        if host is None or model.description is None or not model.description.ngrams:
            return
        if not host.settings.index.enabled or "workspace" in options.ablate or never_here(snapshot, options):
            return
        if (access := host.file_access(snapshot.uri)) is None:
            return
        request = RefreshRequest(
            snapshot.uri,
            snapshot.language,
            access,
            model.client,
            busy=lambda: host.busy,
            max_tokens=host.settings.index.max_tokens,
        )
        self._start(self._indexer.refresh(request))

    def _due_scan(
        self, snapshot: Snapshot, options: Options, model: ModelDescription | None, *, opening: bool = False
    ) -> ScanRequest | None:
        """Return the scan that is due for a document; None where there is none, or nothing could use its result.

        Of a model that is loading nothing is known, so all is wanted.
        """
        host, uri = self._host, snapshot.uri
        if host is None or never_here(snapshot, options):
            return None
        mixes = model is None or model.ngrams
        unindexed = self._indexer.workspace_of(uri) is None or (model is not None and model.remote)
        snippets = mixes and "context" not in options.ablate and unindexed
        reads = model is None or options.related_characters > 0
        snippets = snippets or (reads and host.settings.prompt.related_files != "off")
        modules = snapshot.language == "python" and not {"correctness", "modules"} & options.ablate
        if not (snippets or modules) or not self._scanner.is_due(uri, snapshot.offset - snapshot.prelude):
            return None
        if (access := host.file_access(uri)) is None:
            return None
        return ScanRequest(snapshot, access, snippets=snippets, modules=modules, opening=opening)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Work for the workspace failed", exc_info=error)
