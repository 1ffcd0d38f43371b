"""`window/workDoneProgress/cancel`."""

from __future__ import annotations

from lsprotocol import types

from codegen_lsp.lsp.session import Session


def work_done_progress_cancel(session: Session, params: types.WorkDoneProgressCancelParams) -> None:
    """`window/workDoneProgress/cancel`: cancel the work of a progress."""
    if cancel := session.editor.progress_cancellations.pop(params.token, None):
        cancel()
