"""The files and folders of the workspace: `workspace/didChangeWatchedFiles`, `didCreateFiles`, `didRenameFiles`,
`didDeleteFiles` and `didChangeWorkspaceFolders`."""

from __future__ import annotations

from lsprotocol import types

from codegen_lsp.lsp.handlers.configuration import offer_adapted
from codegen_lsp.lsp.session import Session

ANY_FILE = types.FileOperationRegistrationOptions(
    [types.FileOperationFilter(types.FileOperationPattern("**"), scheme="file")]
)
"""Files and folders: a folder that is renamed takes its files along."""


def did_change_watched_files(session: Session, params: types.DidChangeWatchedFilesParams) -> None:
    """`workspace/didChangeWatchedFiles`: files were created, changed, renamed or deleted, as by a branch switch."""
    session.suggestions.files_changed()


def did_create_files(session: Session, params: types.CreateFilesParams) -> None:
    """`workspace/didCreateFiles`."""
    session.suggestions.files_changed()


def did_rename_files(session: Session, params: types.RenameFilesParams) -> None:
    """`workspace/didRenameFiles`."""
    session.suggestions.files_changed()


def did_delete_files(session: Session, params: types.DeleteFilesParams) -> None:
    """`workspace/didDeleteFiles`."""
    session.suggestions.files_changed()


def did_change_workspace_folders(session: Session, params: types.DidChangeWorkspaceFoldersParams) -> None:
    """`workspace/didChangeWorkspaceFolders`. Another model may have been adapted to the folders."""
    session.suggestions.folders_changed(session.editor.folders)
    session.background.start(session.models.apply())
    offer_adapted(session)
