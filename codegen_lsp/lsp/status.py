"""The state of the server as the editor sees it: the `codegen-lsp/status` notification.

Completion that doesn't come has many causes, and most of them look alike from the outside: the model is still loading,
is missing, has died. The notification says which, and what to do; it is sent when something changed and only then.
Errors go to the editor's log as well (`window/logMessage`), since most editors know no notifications of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from attrs import frozen

from codegen_lsp.inference.rpc.messages import ModelDescription

logger = logging.getLogger(__name__)

STATUS = "codegen-lsp/status"

State = Literal["starting", "loading", "ready", "busy", "error", "disabled"]


@frozen
class Status:
    """Params of `codegen-lsp/status`."""

    state: State
    """`starting`: no model yet. `loading`, `ready`, `busy` (a suggestion is being made). `error`: there will be no
    suggestions until something is done about it. `disabled`: off in the settings."""
    message: str = ""
    """What happened, in a sentence."""
    advice: str = ""
    """What to do about it, in a sentence; empty when there is nothing to do."""
    model: ModelDescription | None = None
    worker_pid: int | None = None
    """Process of the model."""


class StatusLine:
    """Remembers the last status and passes on changes."""

    def __init__(self, send: Callable[[Status], None]) -> None:
        self._send = send
        self.current = Status("starting")

    def show(self, status: Status) -> None:
        """Send the status if it is not the current one."""
        if status == self.current:
            return
        self.current = status
        level = logging.ERROR if status.state == "error" else logging.DEBUG
        logger.log(level, "Status: %s. %s %s", status.state, status.message, status.advice)
        self._send(status)
