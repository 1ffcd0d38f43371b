"""The language server: one object for the state of a connection, and the list of what it can do.

What a handler needs is an attribute here; the handlers are functions in modules named for their messages. The model
comes in through two functions, so that tests can put anything in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from codegen_lsp import __version__
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.lsp.documents import Documents, did_change, did_close, did_open
from codegen_lsp.lsp.handlers.code_action import (
    OPTIONS,
    ParsedDocument,
    code_action,
    code_action_resolve,
)
from codegen_lsp.lsp.handlers.commands import COMMANDS, Counts, execute_command
from codegen_lsp.lsp.handlers.configuration import Configuration, did_change_configuration
from codegen_lsp.lsp.handlers.explain import EXPLAIN, Answered, Refactoring, explain
from codegen_lsp.lsp.handlers.inline_completion import inline_completion, prepare_next, read_ahead
from codegen_lsp.lsp.handlers.lifecycle import initialize, initialized, shutdown
from codegen_lsp.lsp.jsonrpc import CodegenProtocol, make_converter
from codegen_lsp.lsp.models import ClientFactory, FindBuild, Models
from codegen_lsp.lsp.notebooks import SYNC, Notebooks, notebook_did_change, notebook_did_close, notebook_did_open
from codegen_lsp.lsp.progress import work_done_progress_cancel
from codegen_lsp.lsp.status import STATUS, Status, StatusLine
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.inflight import LOOKING, Pauses, Requests
from codegen_lsp.suggest.metrics import Metrics
from codegen_lsp.suggest.outcomes import Outcomes
from codegen_lsp.suggest.service import Completer
from codegen_lsp.suggest.typing_rate import Metronome
from codegen_lsp.suggest.workspace_context import WorkspaceScanner

logger = logging.getLogger(__name__)

FEATURES: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (initialize, None),
    types.INITIALIZED: (initialized, None),
    types.SHUTDOWN: (shutdown, None),
    types.TEXT_DOCUMENT_DID_OPEN: (did_open, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (did_change, None),
    types.TEXT_DOCUMENT_DID_CLOSE: (did_close, None),
    types.NOTEBOOK_DOCUMENT_DID_OPEN: (notebook_did_open, None),
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: (notebook_did_change, None),
    types.NOTEBOOK_DOCUMENT_DID_CLOSE: (notebook_did_close, None),
    types.TEXT_DOCUMENT_INLINE_COMPLETION: (inline_completion, types.InlineCompletionOptions()),
    types.TEXT_DOCUMENT_CODE_ACTION: (code_action, OPTIONS),
    types.CODE_ACTION_RESOLVE: (code_action_resolve, None),
    types.WINDOW_WORK_DONE_PROGRESS_CANCEL: (work_done_progress_cancel, None),
    types.WORKSPACE_DID_CHANGE_CONFIGURATION: (did_change_configuration, None),
    types.WORKSPACE_EXECUTE_COMMAND: (execute_command, None),
    EXPLAIN: (explain, None),
}
"""What the server does, by method; with the options that announce it to the editor."""


class CodegenServer(LanguageServer):
    """The state of one connection."""

    protocol: CodegenProtocol

    def __init__(self, make_client: ClientFactory, find_build: FindBuild) -> None:
        super().__init__(
            "codegen-lsp",
            __version__,
            types.TextDocumentSyncKind.Incremental,
            SYNC,
            protocol_cls=CodegenProtocol,
            converter_factory=make_converter,
        )
        self.documents = Documents()
        self.notebooks = Notebooks()
        self.configuration = Configuration()
        self.completer = Completer()
        self.requests = Requests()
        self.refactorings = Requests()
        self.parsed = ParsedDocument()
        self.cancellable: dict[types.ProgressToken, Callable[[], object]] = {}
        """What to call when the user cancels the progress with this token."""
        self.pauses = Pauses(lambda uri, offset: read_ahead(self, uri, offset))
        self.looking = Pauses(lambda uri, shown: prepare_next(self, shown), LOOKING)
        self.scanner = WorkspaceScanner()
        self.metronome = Metronome()
        self.metrics = Metrics()
        self.outcomes = Outcomes(self.metrics)
        self.counts = Counts()
        self.status = StatusLine(self._send_status)
        self.models = Models(self, make_client, find_build)
        self.answered: OrderedDict[str, Answered] = OrderedDict()
        """How the last request of each open document ended; the last of all is at the end."""
        self.refactored: OrderedDict[str, Refactoring] = OrderedDict()
        """How the last refactoring of each open document ended; the last of all is at the end."""
        self.watches_editor = False
        """Whether `processId` is a process of this machine."""
        self.stopped = asyncio.Event()
        self.exit_code: int | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    def note(self, answered: Answered) -> None:
        """Remember how a request ended."""
        self.answered[answered.uri] = answered
        self.answered.move_to_end(answered.uri)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the messages; what goes wrong in it is logged."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)
        return task

    def stop(self, exit_code: int) -> None:
        """End the connection. The first exit code counts."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.stopped.set()

    def begin_closing(self) -> asyncio.Task[None]:
        """End everything that runs, the worker above all. Called again, it is the same end."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        return self._closing

    async def close(self) -> None:
        """`begin_closing`, waited for."""
        await asyncio.shield(self.begin_closing())

    async def _close(self) -> None:
        self.pauses.stop()
        self.looking.stop()
        self.scanner.close()
        self.completer.forget()
        self.protocol.cancel_all()
        for task in list(self._background):
            task.cancel()
        await self.models.close()
        await asyncio.to_thread(self.metrics.close)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log what pygls could not handle; it would show it to the user."""
        logger.error("%s: %s", getattr(source, "__name__", source), error)

    def _send_status(self, status: Status) -> None:
        self.protocol.notify(STATUS, status)
        if status.state == "error":
            text = f"{status.message} {status.advice}".strip()
            self.window_log_message(types.LogMessageParams(types.MessageType.Error, text))

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Work in the background failed", exc_info=error)


def find_build(name: str) -> Path:
    """The folder of an installed model. Raises ModelError."""
    from codegen_lsp.checkpoints.store import find

    return find(name).path


def create_server(client_factory: ClientFactory = InferenceClient, find_build: FindBuild = find_build) -> CodegenServer:
    """A server with all its handlers. It belongs to one connection."""
    server = CodegenServer(client_factory, find_build)
    for method, (handler, options) in FEATURES.items():
        server.feature(method, options)(handler)
    for name, command in COMMANDS.items():
        server.command(name)(command)
    return server
