"""At most one task of a kind: newer work supersedes the older."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class SupersededRequest(Exception):  # noqa: N818 - tells how to answer, and is not an error
    """Newer work was begun, or the document was closed."""


class LatestTask:
    """The work of one kind for one document, such as its completion request."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    @property
    def running(self) -> bool:
        """True while work runs."""
        return self._task is not None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Cancel the work that runs, and return the result of the new work. Cancelling the caller cancels the work.

        Raises: SupersededRequest when newer work begins meanwhile, or on `cancel`.
        """
        self.cancel()
        task = asyncio.create_task(work)
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise SupersededRequest from None
        finally:
            if self._task is task:
                self._task = None

    def cancel(self) -> None:
        """Cancel the work that runs."""
        if self._task is not None:
            self._task.cancel()
