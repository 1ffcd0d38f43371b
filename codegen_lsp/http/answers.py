"""From a request to its answer, the same for every dialect: read the body, run a handler, write JSON or events.

A client that disconnects cancels its handler, and so the generation in the worker, whether it waits for one answer or
reads a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from traceback import format_tb
from typing import Any, TypeVar

from attrs import frozen
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from codegen_lsp.errors import WorkerError
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.fields import Fields, read_object
from codegen_lsp.http.ignored_fields import HEADER, ignored_fields
from codegen_lsp.http.problems import CLIENT_CLOSED_REQUEST, RequestProblem, problem_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

DISCARDED_BODIES = 4
"""A body that is too large is read up to this many times the limit, and not kept, before it is refused."""
MAX_LENGTH_DIGITS = 400


@frozen
class Call:
    """A request to a handler of a dialect."""

    fields: Fields
    """The body; empty for GET."""
    request: Request
    service: CompletionService
    config: HttpConfig

    @property
    def user(self) -> str:
        """Key of the user, among whom the model's time is divided: the number of a key, or the client's address."""
        return str(getattr(self.request.state, "user", ""))


Handler = Callable[[Call], Awaitable[Response]]
ProblemForm = Callable[[RequestProblem], object]
"""Returns the JSON in which a dialect reports a problem."""


@frozen
class DescribedRoute:
    """A route, as `openapi` describes it."""

    method: str
    path: str
    summary: str
    """First line of the handler's docstring."""
    dialect: str
    """Name of the module that has the handler."""


class ServerContext:
    """The state that all handlers share."""

    def __init__(self, service: CompletionService, config: HttpConfig) -> None:
        self.service = service
        self.config = config
        self.forms: dict[str, ProblemForm] = {}
        """How problems are reported, by path."""
        self.described: list[DescribedRoute] = []
        """All routes."""

    def route(self, method: str, path: str, handler: Handler, form: ProblemForm) -> Route:
        """Return the route of a handler. `form` is how its problems are reported."""

        self.forms[path] = form
        summary = (handler.__doc__ or "").strip().partition("\n")[0]
        self.described.append(DescribedRoute(method, path, summary, handler.__module__.rpartition(".")[2]))

        async def endpoint(request: Request) -> Response:
            try:
                body = await _body(request, self.config.max_body_bytes) if method == "POST" else b""
                call = Call(read_object(body), request, self.service, self.config)
                async with asyncio.timeout(self.config.request_seconds):
                    answer = await unless_disconnected(request.receive, handler(call))
                if ignored := ignored_fields(call.fields):
                    answer.headers[HEADER] = ", ".join(ignored)
                return answer
            except ClientDisconnect:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            except Exception as error:
                return problem_answer(_reported(error), form)

        return Route(path, endpoint, methods=[method])


def json_answer(value: object, status: int = 200) -> Response:
    """Return an answer with JSON, without a blank after colons: llama.vim's pattern for an answer allows none."""
    return Response(compact_json(value), status, media_type="application/json")


def problem_answer(problem: RequestProblem, form: ProblemForm) -> Response:
    """Return the answer that reports a problem."""
    answer = json_answer(form(problem), problem.status)
    answer.headers.update(problem.headers)
    return answer


def compact_json(value: object) -> bytes:
    """Return JSON in UTF-8 without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def server_sent_event(value: object) -> bytes:
    """Return an event of a stream (`text/event-stream`) with JSON as its data."""
    return b"data: %s\n\n" % compact_json(value)


class StreamAnswer(Response):
    """An answer that is written while it is generated.

    The first chunk is generated before the status is sent, so that a problem up to then is reported with its own
    status. A later one is a last chunk, made by `problem_chunk`.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        form: ProblemForm,
        *,
        seconds: float,
        media_type: str = "text/event-stream",
        problem_chunk: Callable[[object], bytes] = server_sent_event,
    ) -> None:
        """`seconds` limits the whole stream."""
        super().__init__(None, 200, {"Cache-Control": "no-cache"}, media_type)
        self._chunks = chunks
        self._form = form
        self._seconds = seconds
        self._problem_chunk = problem_chunk
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the stream."""
        try:
            await unless_disconnected(receive, self._write(scope, receive, send))
        except ClientDisconnect:
            logger.debug("A client left its stream")

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with asyncio.timeout(self._seconds), aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    if not started:
                        started = True
                        await self._start(send)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            problem = _reported(error)
            if not started:
                await problem_answer(problem, self._form)(scope, receive, send)
                return
            chunk = self._problem_chunk(self._form(problem))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not started:
            await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


async def all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of work that is done at once. When one fails, the others are cancelled, and its error raised.

    `asyncio.gather` would leave the others running, for nobody.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def check_health(call: Call) -> None:
    """Raise RequestProblem unless the model is ready. Anybody may ask, so only this machine is told the reason."""
    try:
        call.service.check_ready()
    except WorkerError as error:
        message = str(error) if call.config.is_loopback else "The model is not ready."
        raise RequestProblem(503, "unavailable_error", message, error.retry_seconds) from None


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    """Return the result of work, which is cancelled when the client disconnects. Raises: ClientDisconnect.

    The body of the request must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        if working.cancelled():  # by what it waited for, such as a worker that ended
            raise WorkerError("The request was cancelled in the server.")
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def discard_body(request: Request, limit: int) -> None:
    """Read a body and forget it, up to `DISCARDED_BODIES` times the limit; a client that sends reads no answer before.

    The time that it may take to arrive is limited by the connection (`connections`).
    """
    if "expect" in request.headers:
        return
    size = 0
    with contextlib.suppress(ClientDisconnect):
        async for part in request.stream():
            size += len(part)
            if size > DISCARDED_BODIES * limit:
                return


async def _body(request: Request, limit: int) -> bytes:
    """Return the body. Raises: RequestProblem when it is encoded, or larger than `limit` bytes."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        await discard_body(request, limit)
        raise RequestProblem(415, "invalid_request_error", "The body must not be compressed (`Content-Encoding`).")
    announced = request.headers.get("content-length", "")[:MAX_LENGTH_DIGITS]
    refused = announced.isascii() and announced.isdigit() and int(announced) > limit
    parts: list[bytes] = []
    size = 0
    if not refused or (int(announced) <= DISCARDED_BODIES * limit and "expect" not in request.headers):
        async for part in request.stream():
            size += len(part)
            if size > DISCARDED_BODIES * limit:
                break
            refused = refused or size > limit
            if refused:
                parts.clear()  # read to its end all the same: a client that sends sees no answer before
            else:
                parts.append(part)
    if refused:
        raise RequestProblem(413, "invalid_request_error", f"The body is larger than {limit} bytes.")
    return b"".join(parts)


def _reported(error: Exception) -> RequestProblem:
    """Return the problem of an error; log one that is a bug, without its message, which may quote the request."""
    problem = problem_of(error)
    if problem.status == 500:
        logger.error("A request failed: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
    return problem
