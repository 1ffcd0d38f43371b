"""Progress of what takes a while, as editors show it (`$/progress`): loading a model, a refactoring."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from codegen_lsp.inference.rpc.messages import LoadProgress

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds to wait for the editor to make a place for the progress."""


class WorkProgress:
    """The progress of one piece of work. Each has a token of its own: an editor may refuse one that it has seen."""

    def __init__(self, server: CodegenServer, title: str, cancel: Callable[[], object] | None = None) -> None:
        self._server = server
        self._title = title
        self._token = f"codegen-lsp-{uuid.uuid4()}"
        self._last = LoadProgress("", 0.0)
        self._end: str | None = None
        self._begun = False
        self._cancellable = cancel is not None
        if cancel is not None:
            server.cancellable[self._token] = cancel
        if supported(server):
            server.background(self._begin())

    def report(self, progress: LoadProgress) -> None:
        """Show how far the work is. Never goes back. Until the editor has made a place, reports are remembered only."""
        if progress.fraction < self._last.fraction:
            return
        self._last = progress
        if self._begun and self._end is None:
            message, percentage = progress.message or None, self._percentage()
            self._notify(types.WorkDoneProgressReport(message=message, percentage=percentage))

    def end(self, message: str) -> None:
        """Take the progress away."""
        self._server.cancellable.pop(self._token, None)
        self._end = message
        if self._begun:
            self._notify(types.WorkDoneProgressEnd(message=message or None))

    async def _begin(self) -> None:
        create = types.WorkDoneProgressCreateParams(self._token)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._server.window_work_done_progress_create_async(create)
        except (JsonRpcException, TimeoutError) as error:
            logger.info("The editor shows no progress: %s", error)
            return
        self._begun = True
        message, percentage = self._last.message or None, self._percentage()
        self._notify(
            types.WorkDoneProgressBegin(
                title=self._title, cancellable=self._cancellable, message=message, percentage=percentage
            )
        )
        # Short work is over before the editor has answered; the place that it made is taken away again.
        if self._end is not None:
            self.end(self._end)

    def _percentage(self) -> int:
        return round(100 * min(max(self._last.fraction, 0.0), 1.0))

    def _notify(
        self, value: types.WorkDoneProgressBegin | types.WorkDoneProgressReport | types.WorkDoneProgressEnd
    ) -> None:
        self._server.progress(types.ProgressParams(self._token, value))


def work_done_progress_cancel(ls: CodegenServer, params: types.WorkDoneProgressCancelParams) -> None:
    """`window/workDoneProgress/cancel`: the user no longer wants what the progress is of."""
    if cancel := ls.cancellable.pop(params.token, None):
        cancel()


def supported(server: CodegenServer) -> bool:
    """Whether the editor shows progress that a server starts."""
    window = server.client_capabilities.window
    return bool(window and window.work_done_progress)
