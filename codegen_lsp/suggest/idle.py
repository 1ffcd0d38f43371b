"""Work for idle moments, such as warming the KV cache while the user pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class IdleTimer(Generic[T]):
    """Calls an action with a document and a value once nothing newer was scheduled for some seconds."""

    def __init__(self, action: Callable[[str, T], Awaitable[None]], seconds: float) -> None:
        self.seconds = seconds
        self._action = action
        self._uri = ""
        self._pending: T | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """True while the action is scheduled or runs."""
        return self._task is not None and not self._task.done()

    def schedule(self, uri: str, value: T) -> None:
        """Schedule the action in place of the one that is scheduled or runs."""
        self.cancel()
        self._uri, self._pending = uri, value
        self._task = asyncio.create_task(self._wait(uri, value))

    def cancel(self, uri: str | None = None) -> None:
        """Cancel the action, scheduled or running, or only one for the given document."""
        if self._task is None or uri not in (None, self._uri):
            return
        self._pending = None
        self._task.cancel()
        self._task = None

    async def fire(self) -> None:
        """Run the scheduled action now instead of later, and wait for its end. Does nothing if none is scheduled."""
        value = self._pending
        if value is not None:
            self.cancel()
            await self._action(self._uri, value)

    async def _wait(self, uri: str, value: T) -> None:
        await asyncio.sleep(self.seconds)
        self._pending = None
        try:
            await self._action(uri, value)
        except Exception:
            logger.exception("Idle work failed")
