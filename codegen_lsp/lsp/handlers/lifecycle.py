"""The beginning and the end of a connection: `initialize`, `initialized`, `shutdown`, and an editor that vanishes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from codegen_lsp.lsp.handlers import configuration

if TYPE_CHECKING:
    import psutil

    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""Time between two looks at whether the editor's process is still there."""


def initialize(ls: CodegenServer, params: types.InitializeParams) -> None:
    """`initialize`. Nothing slow may happen here: the model is loaded after `initialized`."""
    ls.documents.encoding = ls.workspace.position_encoding or types.PositionEncodingKind.Utf16
    ls.configuration.initial = params.initialization_options
    if ls.watches_editor and params.process_id is not None and (editor := process_of(params.process_id)):
        ls.background(stop_with(ls, editor))


async def initialized(ls: CodegenServer, params: types.InitializedParams) -> None:
    """`initialized`: from here on the editor may be asked things, and the model is loaded."""
    await configuration.start(ls)


async def shutdown(ls: CodegenServer, params: None) -> None:
    """`shutdown`: what is running is cancelled, and the worker ends; `exit` follows."""
    ls.protocol.refuse_from_now_on()
    ls.begin_closing()


def process_of(process_id: int) -> psutil.Process | None:
    """The editor's process; None when it is not there, as in another container or on another machine."""
    import psutil

    try:
        return psutil.Process(process_id)
    except (psutil.Error, ValueError) as error:
        logger.info("The editor's process can't be watched: %s", error)
        return None


async def stop_with(server: CodegenServer, editor: psutil.Process) -> None:
    """Stop the server when the editor's process has ended.

    The end of stdin says the same, but not while another process holds the pipe open.
    """
    while _alive(editor):  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(WATCH_SECONDS)
    logger.warning("The editor's process %d is gone; the server stops", editor.pid)
    server.stop(1)


def _alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
