"""Requests on their way from the front to a replica, and answers on their way back. Nothing here knows Ray.

The front reads a request whole and sends it to the replica of its document. A replica that is lost before the answer
has begun costs nothing but time: the request is sent again, to another one, since completion changes nothing on the
server. Once a part of a stream has been passed on, the loss is reported in the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from attrs import frozen
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codegen_lsp.deploy.document_key import document_key
from codegen_lsp.http.answers import ProblemForm, compact_json, unless_disconnected
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.dialects import llama_cpp
from codegen_lsp.http.problems import RequestProblem

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""Attempts at one request. More than two are needed only when replicas are lost faster than they are replaced."""
PAUSE_SECONDS = 0.25
"""Pause before the second attempt, twice as long before each later one: a replica restarts its worker in this time."""
REPLICA_HEADER = b"x-codegen-lsp-replica"
"""Header of answers that names the replica."""


class ReplicaLostError(Exception):
    """The replica that was asked ended before its answer was whole."""


class ClusterFullError(Exception):
    """As many requests wait for a replica as may."""


@frozen(kw_only=True)
class ForwardedRequest:
    """A request, as a replica's application gets it."""

    scope: dict[str, Any]
    body: bytes


@frozen
class AnswerStart:
    """Status and headers of an answer, before the parts of its body, which are bytes."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def header(self, name: bytes) -> bytes:
        """Return the value of a header; empty if it is missing."""
        return next((value for key, value in self.headers if key.lower() == name), b"")


Parts = AsyncGenerator[AnswerStart | bytes, None]
Ask = Callable[[ForwardedRequest, str], Parts]
"""Sends a request to the replica of a key. Its parts raise ReplicaLostError and ClusterFullError."""

SCOPE_KEYS = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers"),
    *("client", "server"),
)


async def answer_parts(app: ASGIApp, request: ForwardedRequest, replica: str) -> Parts:
    """Yield the answer of an application. Closing the generator is to the application a client that disconnects."""
    parts: asyncio.Queue[AnswerStart | bytes | None] = asyncio.Queue()
    body: list[Message] = [{"type": "http.request", "body": request.body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> Message:
        if body:
            return body.pop()
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(key), bytes(value)) for key, value in message.get("headers", ())]
            parts.put_nowait(AnswerStart(message["status"], [*headers, (REPLICA_HEADER, replica.encode())]))
        elif chunk := message.get("body", b""):
            parts.put_nowait(bytes(chunk))

    async def run() -> None:
        try:
            await app(dict(request.scope), receive, send)
        finally:
            parts.put_nowait(None)

    running = asyncio.ensure_future(run())
    try:
        while (part := await parts.get()) is not None:
            yield part
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})


class Forwarder:
    """An ASGI application that answers each request by the replica of its document."""

    def __init__(self, ask: Ask, config: HttpConfig) -> None:
        self._ask = ask
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await read_body(receive, self._config.max_body_bytes)
        if body is None:
            return await send_problem(send, 413, f"The body is larger than {self._config.max_body_bytes} bytes.")
        kept = {key: scope[key] for key in SCOPE_KEYS if key in scope}
        kept["state"] = {"user": scope.get("state", {}).get("user", "")}  # set by the guard
        request = ForwardedRequest(scope=kept, body=body)
        key = document_key(body, (scope.get("client") or ("",))[0])
        try:
            await unless_disconnected(receive, self._answer(request, key, _Answer(send)))
        except ClientDisconnect:
            logger.debug("A client left")

    async def _answer(self, request: ForwardedRequest, key: str, answer: _Answer) -> None:
        try:
            async with asyncio.timeout(self._config.request_seconds):
                for attempt in range(ATTEMPTS):
                    if attempt:
                        await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
                        logger.warning("Attempt %d at a request whose replica was lost", attempt + 1)
                    if await self._attempt(request, key, answer, last=attempt == ATTEMPTS - 1):
                        return
            await answer.fail(503, "The replica of this document was lost, and so were others. Send the request again.")
        except TimeoutError:
            await answer.fail(504, "The answer took too long.")
        except ClusterFullError:
            await answer.fail(503, "Too many requests wait for an answer. Send the request again later.")

    async def _attempt(self, request: ForwardedRequest, key: str, answer: _Answer, *, last: bool) -> bool:
        """Answer by one replica; return whether the request is answered. False is another attempt."""
        try:
            async with aclosing(self._ask(request, key)) as parts:
                start = await anext(parts)
                assert isinstance(start, AnswerStart)
                if start.status == 503 and not last:  # its worker is being restarted, or it has too much to do
                    return False
                if start.header(b"content-length"):
                    await answer.whole(start, b"".join([part async for part in parts if isinstance(part, bytes)]))
                    return True
                async for part in parts:
                    assert isinstance(part, bytes)
                    await answer.part(start, part)
                await answer.end(start)
                return True
        except ReplicaLostError:
            if not answer.started:
                return False
            await answer.fail(503, "The replica was lost while it answered. Send the request again.")
            return True


class _Answer:
    """The answer to a client, as far as it has been sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self._media_type = b""

    async def whole(self, start: AnswerStart, body: bytes) -> None:
        await self._start(start)
        await self._send({"type": "http.response.body", "body": body})

    async def part(self, start: AnswerStart, body: bytes) -> None:
        if not self.started:
            await self._start(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, start: AnswerStart) -> None:
        if not self.started:
            await self._start(start)
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, status: int, message: str) -> None:
        """Report a problem: as the answer, or as the last part of a stream that has begun."""
        if not self.started:
            await send_problem(self._send, status, message)
            return
        problem = problem_body(status, message)
        events = self._media_type.startswith(b"text/event-stream")
        await self._send(
            {"type": "http.response.body", "body": b"data: %s\n\n" % problem if events else problem + b"\n"}
        )

    async def _start(self, start: AnswerStart) -> None:
        self.started = True
        self._media_type = start.header(b"content-type")
        await self._send({"type": "http.response.start", "status": start.status, "headers": start.headers})


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request; None if it is larger than `limit` bytes."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)


def problem_body(status: int, message: str) -> bytes:
    """Return a problem of the cluster in the form that clients of OpenAI and of llama.cpp know."""
    return compact_json(llama_cpp.problem_body(cluster_problem(status, message)))


def cluster_problem(status: int, message: str) -> RequestProblem:
    """Return a problem of the cluster."""
    kind = "timeout_error" if status == 504 else "invalid_request_error" if status < 500 else "unavailable_error"
    return RequestProblem(status, kind, message)


def problem_form(path: str) -> ProblemForm:
    """Return the form of the problems of a path for which no replica is asked."""
    return _ollama_problem if path.startswith("/api/") else llama_cpp.problem_body


def _ollama_problem(problem: RequestProblem) -> object:
    return {"error": problem.message}


async def send_problem(send: Send, status: int, message: str) -> None:
    """Answer a request with a problem."""
    problem = cluster_problem(status, message)
    body = problem_body(status, message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
