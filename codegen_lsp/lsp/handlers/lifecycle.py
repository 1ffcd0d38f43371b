"""The start and the end of a connection: `initialize`, `initialized`, `shutdown`, and an editor that vanishes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from codegen_lsp.lsp.client import EditorCapabilities
from codegen_lsp.lsp.handlers.configuration import start
from codegen_lsp.lsp.handlers.installed_models import watch_store
from codegen_lsp.lsp.session import Session

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

WATCH_INTERVAL = 1.0
"""Seconds between two checks of whether the editor's process is alive."""


def initialize(session: Session, params: types.InitializeParams) -> None:
    """`initialize`. Must be fast: the model is loaded after `initialized`."""
    session.editor.capabilities = EditorCapabilities.of(params.capabilities)
    session.editor.has_folders = bool(params.workspace_folders)
    session.documents.encoding = session.editor.position_encoding
    session.configuration.initial = params.initialization_options
    if session.watches_editor and params.process_id is not None and (editor := process_of(params.process_id)):
        session.background.start(stop_with(session, editor))


async def initialized(session: Session, params: types.InitializedParams) -> None:
    """`initialized`: from here on the server may send requests; the settings are read and the model is loaded."""
    await start(session)
    session.background.start(watch_store(session))


async def shutdown(session: Session, params: None) -> None:
    """`shutdown`: cancel all requests and end the worker; `exit` follows."""
    session.editor.refuse_requests()
    session.begin_closing()


def process_of(process_id: int) -> psutil.Process | None:
    """Return the editor's process; None if there is none of this number, as in another container."""
    import psutil

    try:
        return psutil.Process(process_id)
    except (psutil.Error, ValueError) as error:
        logger.info("The editor's process can't be watched: %s", error)
        return None


async def stop_with(session: Session, editor: psutil.Process) -> None:
    """Stop the server when the editor's process has ended.

    The end of stdin tells the same, but not while another process holds the pipe open.
    """
    while _alive(editor):  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(WATCH_INTERVAL)
    logger.warning("The editor's process %d is gone; the server stops", editor.pid)
    session.stop(1)


def _alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
