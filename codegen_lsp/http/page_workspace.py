"""The workspace folders that the page may count: those given on the command line, and no others.

Their files are indexed as in an editor: secrets, ignored and excluded files are left out. The index stays in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import IndexStateParams
from codegen_lsp.settings import Settings
from codegen_lsp.source.languages import language_of
from codegen_lsp.suggest.workspace_indexing import IndexedWorkspace, RefreshRequest, WorkspaceIndexer
from codegen_lsp.workspace.files import FileAccess
from codegen_lsp.workspace.uris import uri_of

NAME = "untitled-page"
"""Name of the page's document in a folder; there is no such file."""


class PageWorkspaces:
    """The folders, and their n-gram indexes in the worker."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.absolute() for folder in folders]
        self._indexer = WorkspaceIndexer()
        self._tasks: set[asyncio.Task[bool]] = set()

    def folder(self, number: int) -> Path | None:
        """Return a folder; None where there is none of this number."""
        return self._folders[number] if 0 <= number < len(self._folders) else None

    def uri(self, folder: Path | None, language: str) -> str:
        """Return the URI of the page's document."""
        name = f"{NAME}{next(iter(language_of(language).suffixes), '')}"
        return f"page:/{name}" if folder is None else uri_of(folder / name)

    def indexed(self, snapshot: Snapshot) -> IndexedWorkspace | None:
        """Return the index for a document; None while it has no files."""
        return self._indexer.workspace_of(snapshot.uri)

    def refresh(self, client: InferenceClient, settings: Settings, snapshot: Snapshot) -> None:
        """Start to bring the index of a document's folder up to date, if that is due."""
        model = client.state.model
        folder = next((one for one in self._folders if snapshot.uri.startswith(f"{uri_of(one)}/")), None)
        if folder is None or model is None or not model.ngrams:
            return
        access = FileAccess(folder, (uri_of(folder),), tuple(settings.exclude))
        request = RefreshRequest(
            snapshot.uri,
            snapshot.language,
            access,
            client,
            busy=lambda: False,
            max_tokens=settings.index.max_tokens,
            kept=False,
        )
        task = asyncio.ensure_future(self._indexer.refresh(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def states(self, client: InferenceClient, settings: Settings, language: str) -> list[dict[str, Any]]:
        """Return the name of each folder, and how much of it is indexed for a language."""
        states = []
        for folder in self._folders:
            snapshot = Snapshot(self.uri(folder, language), 0, language, "", 0)
            self.refresh(client, settings, snapshot)
            found = self._indexer.workspace_of(snapshot.uri)
            state = await client.index_state(IndexStateParams(found.key, kept=False)) if found else None
            tokens, pending = (state.tokens, state.pending) if state else (0, 0)
            states.append({"name": folder.name, "tokens": tokens, "pending": pending})
        return states
