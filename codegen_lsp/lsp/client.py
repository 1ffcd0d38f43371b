"""The editor at the other end of the connection: what it can do, and the requests and notifications sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from codegen_lsp.lsp.extensions import STATUS, Status
from codegen_lsp.lsp.jsonrpc import CodegenProtocol

logger = logging.getLogger(__name__)

SETTINGS_TIMEOUT = 3.0
"""Seconds an editor has to send its settings before the model is loaded without them."""
PROGRESS_TIMEOUT = 5.0
"""Seconds an editor has to accept a progress."""


@frozen
class EditorCapabilities:
    """The client capabilities that the server makes use of."""

    configuration: bool = False
    """Answers `workspace/configuration`."""
    registers_watchers: bool = False
    """Watches files for servers that have registered for it."""
    registers_configuration: bool = False
    """Sends `didChangeConfiguration` to servers that have registered for it."""
    progress: bool = False
    """Shows progress that a server begins."""
    apply_edit: bool = False
    """Answers `workspace/applyEdit`."""
    document_changes: bool = False
    """Takes edits of documents at a version."""
    confirms_edits: bool = False
    """Shows annotated edits to the user, to be confirmed."""
    resolves_edits: bool = False
    """Resolves the edit of a code action, and returns its data."""

    @classmethod
    def of(cls, capabilities: types.ClientCapabilities) -> EditorCapabilities:
        """Read the capabilities of `initialize`."""
        workspace, window, document = capabilities.workspace, capabilities.window, capabilities.text_document
        changes = workspace.did_change_configuration if workspace else None
        watched = workspace.did_change_watched_files if workspace else None
        edit = workspace.workspace_edit if workspace else None
        action = document.code_action if document else None
        resolve = action.resolve_support if action else None
        document_changes = bool(edit and edit.document_changes)
        return cls(
            configuration=bool(workspace and workspace.configuration),
            registers_watchers=bool(watched and watched.dynamic_registration),
            registers_configuration=bool(changes and changes.dynamic_registration),
            progress=bool(window and window.work_done_progress),
            apply_edit=bool(workspace and workspace.apply_edit),
            document_changes=document_changes,
            confirms_edits=bool(document_changes and edit and edit.change_annotation_support),
            resolves_edits=bool(action and action.data_support and resolve and "edit" in resolve.properties),
        )


class EditorConnection:
    """Sends messages to the editor."""

    def __init__(self, server: LanguageServer, protocol: CodegenProtocol) -> None:
        self.capabilities = EditorCapabilities()
        """Set by `initialize`."""
        self.has_folders = False
        """The editor named workspace folders in `initialize`, so that its root is one of them. Set by `initialize`."""
        self.progress_cancellations: dict[types.ProgressToken, Callable[[], object]] = {}
        """Called when the user cancels the progress with this token."""
        self._server = server
        self._protocol = protocol

    @property
    def position_encoding(self) -> types.PositionEncodingKind | str:
        """The unit of columns that was agreed on in `initialize`."""
        return self._server.workspace.position_encoding or types.PositionEncodingKind.Utf16

    @property
    def folders(self) -> tuple[str, ...]:
        """The URIs of the workspace folders."""
        workspace = self._server.workspace
        # The keys of pygls' dictionary are decoded: they name another folder where the path has `#`, `?` or `%`.
        folders = tuple(folder.uri for folder in workspace.folders.values())
        return folders or ((workspace.root_uri,) if workspace.root_uri and not self.has_folders else ())

    def send_status(self, status: Status) -> None:
        """Send `codegen-lsp/status`; an error also goes to the editor's log."""
        self._protocol.notify(STATUS, status)
        if status.state == "error":
            text = f"{status.message} {status.advice}".strip()
            self._server.window_log_message(types.LogMessageParams(types.MessageType.Error, text))

    def show_warning(self, message: str) -> None:
        """Show a message to the user."""
        self._server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, message))

    async def choose(self, message: str, titles: Sequence[str]) -> str | None:
        """Ask the user to choose; None if the message was dismissed."""
        actions = [types.MessageActionItem(title) for title in titles]
        params = types.ShowMessageRequestParams(types.MessageType.Info, message, actions=actions)
        answer = await self._server.window_show_message_request_async(params)
        return answer.title if answer is not None else None

    async def apply_edit(self, edit: types.WorkspaceEdit, label: str) -> types.ApplyWorkspaceEditResult:
        """Have the editor apply an edit."""
        return await self._server.workspace_apply_edit_async(types.ApplyWorkspaceEditParams(edit, label=label))

    async def pull_settings(self, section: str) -> tuple[bool, object]:
        """Request a section of the settings; the first value is false if the editor can't be asked or is silent."""
        if not self.capabilities.configuration:
            return False, None
        params = types.ConfigurationParams([types.ConfigurationItem(section=section)])
        try:
            async with asyncio.timeout(SETTINGS_TIMEOUT):
                answers = await self._server.workspace_configuration_async(params)
        except (JsonRpcException, TimeoutError) as error:
            logger.warning("The editor doesn't send its settings: %s", error or "no answer")
            return False, None
        return True, answers[0] if answers else None

    async def register_for_settings(self, section: str) -> None:
        """Register for changes of the settings; VS Code reports them only then."""
        options = types.DidChangeConfigurationRegistrationOptions(section=section)
        registration = types.Registration(
            "codegen-lsp-settings", types.WORKSPACE_DID_CHANGE_CONFIGURATION, register_options=options
        )
        try:
            await self._server.client_register_capability_async(types.RegistrationParams([registration]))
        except JsonRpcException as error:
            logger.warning("The editor will not report changes of the settings: %s", error)

    async def register_for_files(self, suffixes: Iterable[str]) -> None:
        """Register for changes of the workspace's files with these suffixes."""
        names = ",".join(sorted(suffix.removeprefix(".") for suffix in suffixes))
        options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher(f"**/*.{{{names}}}")])
        registration = types.Registration(
            "codegen-lsp-files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, register_options=options
        )
        try:
            await self._server.client_register_capability_async(types.RegistrationParams([registration]))
        except JsonRpcException as error:
            logger.info("The editor will not report changes of files: %s", error)

    async def create_progress(self, token: str) -> bool:
        """Request the display of a progress. False if the editor refuses or doesn't answer."""
        try:
            async with asyncio.timeout(PROGRESS_TIMEOUT):
                await self._server.window_work_done_progress_create_async(types.WorkDoneProgressCreateParams(token))
        except (JsonRpcException, TimeoutError) as error:
            logger.info("The editor shows no progress: %s", error)
            return False
        return True

    def report_progress(
        self,
        token: str,
        value: types.WorkDoneProgressBegin | types.WorkDoneProgressReport | types.WorkDoneProgressEnd,
    ) -> None:
        """Send `$/progress`."""
        self._server.progress(types.ProgressParams(token, value))

    def refuse_requests(self) -> None:
        """Refuse all requests from now on, and cancel those that are being answered."""
        self._protocol.refuse_requests()

    def cancel_requests(self) -> None:
        """Cancel the requests that are being answered, but for the one at hand."""
        self._protocol.cancel_all()
