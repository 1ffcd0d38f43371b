"""The state and the services of one connection. Handlers take a `Session` as their first argument.

A session knows the editor, the open documents, the settings, the model and the suggestion service; it does not know the
handlers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from lsprotocol import types

from codegen_lsp.advice.measuring_process import measure_machine
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Trigger
from codegen_lsp.lsp.background import BackgroundTasks
from codegen_lsp.lsp.client import EditorConnection
from codegen_lsp.lsp.configuration import Configuration
from codegen_lsp.lsp.models import ClientFactory, FindBuild, Models
from codegen_lsp.lsp.notebooks import Notebooks
from codegen_lsp.lsp.open_documents import OpenDocument, OpenDocuments
from codegen_lsp.lsp.parsed import ParsedDocument
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.lsp.status import StatusLine
from codegen_lsp.lsp.workspace_models import model_of_workspace
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.metrics import Metrics
from codegen_lsp.suggest.request import ModelHandle
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.workspace.files import FileAccess, innermost_folder
from codegen_lsp.workspace.ignore import excluding_pattern
from codegen_lsp.workspace.uris import path_of


class Session:
    """One connection. It is the `Host` of its suggestion service."""

    def __init__(self, editor: EditorConnection, make_client: ClientFactory, find_build: FindBuild) -> None:
        self.editor = editor
        self.configuration = Configuration()
        self.status = StatusLine(editor.send_status)
        self.metrics = Metrics()
        self.suggestions = SuggestionService(self, metrics=self.metrics)
        self.documents = OpenDocuments(self.suggestions)
        self.notebooks = Notebooks()
        self.parsed = ParsedDocument()
        self.background = BackgroundTasks()
        self.models = Models(
            make_client,
            find_build,
            settings=lambda: self.settings,
            wanted=lambda: model_of_workspace(self.editor.folders, self.settings),
            status=self.status,
            start_progress=self.start_progress,
            on_change=self.suggestions.forget,
        )
        self.measure_machine = measure_machine
        self.measuring = asyncio.Lock()
        """Held while the machine is measured."""
        self.watches_editor = False
        """True if the `processId` of the editor is a process of this machine."""
        self.stopped = asyncio.Event()
        self.exit_code: int | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    @property
    def busy(self) -> bool:
        """True while a completion request or a refactoring is in progress."""
        return any(document.completion.running or document.refactoring.running for document in self.documents)

    def refusal_of(self, document: OpenDocument) -> Refusal | None:
        """Return why nothing may be suggested in a document, independent of the position."""
        if document.lost:
            return Refusal(
                "document_unknown", "An edit could not be read, so the text is not known. Open the file again."
            )
        uri = self.notebooks.file_of(document.current.uri)
        if pattern := excluding_pattern(uri, self.editor.folders, self.settings.exclude):
            return Refusal("excluded", f"The setting `exclude` names this file by the pattern {pattern!r}.")
        if magic := self.notebooks.foreign_magic(document.current):
            return Refusal("cell_magic", f"The cell's magic {magic!r} says that it holds something else than Python.")
        return None

    def refusal_at(self, document: OpenDocument, offset: int) -> Refusal | None:
        """Return why nothing may be suggested at an offset of a document."""
        if self.notebooks.in_command(document.current, offset):
            return Refusal("cell_magic", "The line is a magic or a shell command, not Python.")
        return self.refusal_of(document)

    def snapshot_of(
        self,
        document: OpenDocument,
        offset: int,
        trigger: Trigger = Trigger.AUTOMATIC,
        selected: types.SelectedCompletionInfo | None = None,
    ) -> Snapshot:
        """Return a document with the cursor at an offset; before a notebook's cell stand the cells above it."""
        return document.current.snapshot(offset, trigger, selected, self.notebooks.prelude(document, self.documents))

    def snapshot(self, uri: str, offset: int) -> Snapshot | None:
        """Return a document with the cursor at an offset; None if it is not open or nothing may be suggested in it."""
        document = self.documents.get(uri)
        if document is None:
            return None
        offset = min(offset, len(document.current.text))
        if self.refusal_at(document, offset) is not None:
            return None
        return self.snapshot_of(document, offset)

    def file_access(self, uri: str) -> FileAccess | None:
        """Return the files that may be read for a document; None if it is in no workspace folder."""
        folders = self.editor.folders
        root = innermost_folder(uri, folders)
        if root is None:
            return None
        known = [document.current for document in self.documents if not document.lost]
        texts = {Path(path).resolve(): one.text for one in known if (path := path_of(one.uri))}
        return FileAccess(root, folders, tuple(self.settings.exclude), texts)

    @property
    def current_model(self) -> ModelHandle:
        """The model as it is now, which may still be loading."""
        return self.models.current

    async def idle_model(self) -> ModelHandle | None:
        """Wait while a model loads, and return it; None if there is none, or if it is at work."""
        model = await self.models.wait()
        return model if self.status.current.state == "ready" else None

    def start_progress(self, title: str) -> WorkProgress:
        """Begin a progress that can't be cancelled."""
        return WorkProgress(self.editor, self.background, title)

    def stop(self, exit_code: int) -> None:
        """End the connection. The first exit code counts."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.stopped.set()

    def begin_closing(self) -> asyncio.Task[None]:
        """Start to end everything that runs, the worker included. Returns the same task on each call."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        return self._closing

    async def close(self) -> None:
        """End everything that runs."""
        await asyncio.shield(self.begin_closing())

    async def _close(self) -> None:
        self.suggestions.close()
        self.editor.cancel_requests()
        self.background.cancel()
        await self.models.close()
        await asyncio.to_thread(self.metrics.close)
