"""Which work is under way: one request for each document, and the quiet moments after typing.

Every change of a document brings a request, and only the newest is worth anything. An older one is therefore cancelled,
which ends its generation, and still answered: with nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PAUSE = 0.4
"""Seconds without a key after which a document is read ahead; the gaps of steady typing are shorter."""
LOOKING = 0.15
"""Seconds after a suggestion was given from which on the next one is prepared. Who types on has typed by then, and who
looks at the suggestion needs longer to accept it."""


class SupersededRequest(Exception):  # noqa: N818 - no error: it says what to answer
    """A newer request of the same document came, or the document was closed."""


class Requests:
    """The requests that are running, by document."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}

    @property
    def idle(self) -> bool:
        """Whether no request is running."""
        return not self._running

    async def newest(self, uri: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work. Raises SupersededRequest when newer work for the document begins meanwhile.

        Cancelling the caller cancels the work.
        """
        self.cancel(uri)
        task = asyncio.create_task(work)
        self._running[uri] = task
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise SupersededRequest from None
        finally:
            if self._running.get(uri) is task:
                del self._running[uri]

    def cancel(self, uri: str) -> None:
        """End the work for a document."""
        if task := self._running.get(uri):
            task.cancel()


class Pauses:
    """Calls a function when nothing has happened for a while, with what happened last."""

    def __init__(self, action: Callable[..., Awaitable[None]], seconds: float = PAUSE) -> None:
        self._action = action
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._uri = ""

    @property
    def waiting(self) -> bool:
        """Whether something is still to be done, or being done."""
        return self._task is not None and not self._task.done()

    def later(self, uri: str, what: object) -> None:
        """Act after a pause from now on; what was to be done before is dropped."""
        self.stop()
        self._uri = uri
        self._task = asyncio.create_task(self._wait(uri, what))

    def forget(self, uri: str) -> None:
        """Do nothing for a document any more."""
        if uri == self._uri:
            self.stop()

    def stop(self) -> None:
        """Do nothing."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _wait(self, uri: str, what: object) -> None:
        await asyncio.sleep(self._seconds)
        await self._action(uri, what)
