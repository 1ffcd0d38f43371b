"""Progress of longer work as editors show it (`$/progress`): loading a model, a refactoring."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from lsprotocol import types

from codegen_lsp.lsp.background import BackgroundTasks
from codegen_lsp.lsp.client import EditorConnection


class WorkProgress:
    """The progress of one piece of work. Each has a token of its own: an editor may refuse one that it has seen."""

    def __init__(
        self,
        editor: EditorConnection,
        background: BackgroundTasks,
        title: str,
        cancel: Callable[[], object] | None = None,
    ) -> None:
        self._editor = editor
        self._title = title
        self._token = f"codegen-lsp-{uuid.uuid4()}"
        self._message = ""
        self._fraction = 0.0
        self._end: str | None = None
        self._begun = False
        self._cancellable = cancel is not None
        if cancel is not None:
            editor.progress_cancellations[self._token] = cancel
        if editor.capabilities.progress:
            background.start(self._begin())

    def report(self, message: str, fraction: float) -> None:
        """Show how far the work is; ignored if `fraction` is less than before.

        Until the editor has accepted the progress, the report is only remembered.
        """
        if fraction < self._fraction:
            return
        self._message, self._fraction = message, fraction
        if self._begun and self._end is None:
            self._send(types.WorkDoneProgressReport(message=message or None, percentage=self._percentage()))

    def end(self, message: str) -> None:
        """Remove the progress."""
        self._editor.progress_cancellations.pop(self._token, None)
        self._end = message
        if self._begun:
            self._send(types.WorkDoneProgressEnd(message=message or None))

    async def _begin(self) -> None:
        if not await self._editor.create_progress(self._token):
            return
        self._begun = True
        self._send(
            types.WorkDoneProgressBegin(
                title=self._title,
                cancellable=self._cancellable,
                message=self._message or None,
                percentage=self._percentage(),
            )
        )
        # Short work ends before the editor has answered; its progress is removed at once.
        if self._end is not None:
            self.end(self._end)

    def _percentage(self) -> int:
        return round(100 * min(max(self._fraction, 0.0), 1.0))

    def _send(
        self, value: types.WorkDoneProgressBegin | types.WorkDoneProgressReport | types.WorkDoneProgressEnd
    ) -> None:
        self._editor.report_progress(self._token, value)
