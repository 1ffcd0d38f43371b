"""The state of the server as the editor shows it: the `codegen-lsp/status` notification.

A missing completion has many causes that look alike from the outside: the model is still loading, is not installed, has
died. The notification names the cause and what to do. Errors go to the editor's log as well (`window/logMessage`),
since most editors do not know the notification.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from codegen_lsp.lsp.extensions import Status

logger = logging.getLogger(__name__)


class StatusLine:
    """Remembers the last status and passes on changes."""

    def __init__(self, send: Callable[[Status], None]) -> None:
        self._send = send
        self.current = Status("starting")

    def show(self, status: Status) -> None:
        """Send the status unless it is the current one."""
        if status == self.current:
            return
        self.current = status
        level = logging.ERROR if status.state == "error" else logging.DEBUG
        logger.log(level, "Status: %s. %s %s", status.state, status.message, status.advice)
        self._send(status)
