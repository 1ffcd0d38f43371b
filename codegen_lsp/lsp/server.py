"""The language server: the list of what it can do, by message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.lsp.client import EditorConnection
from codegen_lsp.lsp.extensions import EXPLAIN, MODEL_ADVICE
from codegen_lsp.lsp.handlers.code_action import OPTIONS, code_action, code_action_resolve
from codegen_lsp.lsp.handlers.commands import COMMANDS, execute_command
from codegen_lsp.lsp.handlers.configuration import did_change_configuration
from codegen_lsp.lsp.handlers.explain import explain
from codegen_lsp.lsp.handlers.inline_completion import inline_completion
from codegen_lsp.lsp.handlers.lifecycle import initialize, initialized, shutdown
from codegen_lsp.lsp.handlers.model_advice import model_advice
from codegen_lsp.lsp.handlers.notebook_sync import notebook_did_change, notebook_did_close, notebook_did_open
from codegen_lsp.lsp.handlers.progress import work_done_progress_cancel
from codegen_lsp.lsp.handlers.synthesis import edit, propose, run, turns
from codegen_lsp.lsp.handlers.text_sync import (
    did_change,
    did_close,
    did_open,
    did_save,
    unreadable_change,
)
from codegen_lsp.lsp.handlers.workspace_sync import (
    ANY_FILE,
    did_change_watched_files,
    did_change_workspace_folders,
    did_create_files,
    did_delete_files,
    did_rename_files,
)
from codegen_lsp.lsp.jsonrpc import CodegenProtocol, make_converter
from codegen_lsp.lsp.models import ClientFactory, FindBuild, find_build
from codegen_lsp.lsp.notebooks import SYNC
from codegen_lsp.lsp.session import Session
from codegen_lsp.lsp.synthesis_messages import EDIT, PROPOSE, RUN, TURNS
from codegen_lsp.version import __version__

logger = logging.getLogger(__name__)

FEATURES: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (initialize, None),
    types.INITIALIZED: (initialized, None),
    types.SHUTDOWN: (shutdown, None),
    types.TEXT_DOCUMENT_DID_OPEN: (did_open, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (did_change, None),
    types.TEXT_DOCUMENT_DID_SAVE: (did_save, types.SaveOptions(include_text=False)),
    types.TEXT_DOCUMENT_DID_CLOSE: (did_close, None),
    types.WORKSPACE_DID_CHANGE_WATCHED_FILES: (did_change_watched_files, None),
    types.WORKSPACE_DID_CREATE_FILES: (did_create_files, ANY_FILE),
    types.WORKSPACE_DID_RENAME_FILES: (did_rename_files, ANY_FILE),
    types.WORKSPACE_DID_DELETE_FILES: (did_delete_files, ANY_FILE),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: (did_change_workspace_folders, None),
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
    MODEL_ADVICE: (model_advice, None),
    TURNS: (turns, None),
    PROPOSE: (propose, None),
    EDIT: (edit, None),
    RUN: (run, None),
}
"""The handlers by method, with the options that announce them to the editor."""


class CodegenServer(LanguageServer):
    """One connection: pygls' server object with a session, whose handlers take the session in its place."""

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
        self.session = Session(EditorConnection(self, self.protocol), make_client, find_build)
        self.protocol.on_exit = self.session.stop
        self.protocol.on_unreadable_change = partial(unreadable_change, self.session)
        for method, (handler, options) in FEATURES.items():
            self.feature(method, options)(partial(handler, self.session))
        for name, command in COMMANDS.items():
            self.command(name)(partial(command, self.session))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log an error that pygls could not handle; pygls would show it to the user."""
        logger.error("%s: %s", getattr(source, "__name__", source), error)


def create_server(client_factory: ClientFactory = InferenceClient, find_build: FindBuild = find_build) -> CodegenServer:
    """Return a server with all its handlers, for one connection."""
    return CodegenServer(client_factory, find_build)
