"""Requests to the model that are in flight, shared by all editor requests that they may answer (coalescing).

Editors ask again at every key. If the text typed since a generation began turns out to be the beginning of its answer,
the rest of the answer is right for the newer request, too, and comes sooner than a new generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from attrs import define

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion
from codegen_lsp.inference.rpc.messages import GenerateResult
from codegen_lsp.suggest.cache import typed_since

T = TypeVar("T")

GRACE = 0.1
"""Seconds for which a generation continues after its last request was cancelled. VS Code cancels at a key and asks
again 50 ms later, and the text typed meanwhile is often the beginning of the answer."""

ShapedResult = tuple[GenerateResult, list[Suggestion] | Refusal]


@define(eq=False)
class InFlightRequest:
    """A generation in flight, and the request it was begun for."""

    snapshot: Snapshot
    options: Options
    started: float
    """By the clock of the service, in seconds."""
    task: asyncio.Task[ShapedResult]
    waiters: int = 0

    async def join(self) -> ShapedResult:
        """Wait for the result. The generation is cancelled `GRACE` seconds after its last waiter was."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiters -= 1
            if not self.waiters and not self.task.done():
                asyncio.get_running_loop().call_later(GRACE, self._cancel_unless_joined)

    def may_answer(self, snapshot: Snapshot, options: Options) -> bool:
        """Return true if the result may be right for this snapshot, too."""
        if self.task.done() or self.options != options or snapshot.trigger is not self.snapshot.trigger:
            return False
        return typed_since(self.snapshot, snapshot) is not None

    def _cancel_unless_joined(self) -> None:
        if not self.waiters:
            self.task.cancel()


class InFlightRequests:
    """The generations in flight: at most one per document, and one prefetch in all."""

    def __init__(self) -> None:
        self._by_uri: dict[str, InFlightRequest] = {}
        self._prefetch: InFlightRequest | None = None

    @property
    def prefetching(self) -> bool:
        """True while a prefetch runs."""
        return self._prefetch is not None and not self._prefetch.task.done()

    def matching(self, snapshot: Snapshot, options: Options) -> Iterator[InFlightRequest]:
        """Yield those whose result may be right for a snapshot."""
        for request in (self._by_uri.get(snapshot.uri), self._prefetch):
            if request is not None and request.may_answer(snapshot, options):
                yield request

    def start(
        self, snapshot: Snapshot, options: Options, started: float, work: Coroutine[Any, Any, ShapedResult]
    ) -> InFlightRequest:
        """Begin a generation for a document, in place of the one in flight there."""
        self.cancel(snapshot.uri)
        request = InFlightRequest(snapshot, options, started, _create_task(work))
        self._by_uri[snapshot.uri] = request
        request.task.add_done_callback(lambda _: self._remove(request))
        return request

    def start_prefetch(
        self, snapshot: Snapshot, options: Options, started: float, work: Coroutine[Any, Any, ShapedResult]
    ) -> InFlightRequest:
        """Begin a prefetch, in place of the one in flight."""
        self._cancel_prefetch()
        self._prefetch = InFlightRequest(snapshot, options, started, _create_task(work))
        return self._prefetch

    def cancel(self, uri: str) -> None:
        """Cancel the generation for a document."""
        if request := self._by_uri.pop(uri, None):
            request.task.cancel()

    def cancel_document(self, uri: str) -> None:
        """Cancel what runs for a document, a prefetch included."""
        self.cancel(uri)
        if self._prefetch and self._prefetch.snapshot.uri == uri:
            self._cancel_prefetch()

    def cancel_all(self) -> None:
        """Cancel everything."""
        for uri in list(self._by_uri):
            self.cancel(uri)
        self._cancel_prefetch()

    def _cancel_prefetch(self) -> None:
        if self._prefetch:
            self._prefetch.task.cancel()
            self._prefetch = None

    def _remove(self, request: InFlightRequest) -> None:
        if self._by_uri.get(request.snapshot.uri) is request:
            del self._by_uri[request.snapshot.uri]


def _create_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Return a task whose exception is retrieved, so that asyncio does not log one that nothing waits for."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
