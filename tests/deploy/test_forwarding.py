"""From the front to a replica and back: retries, problems, streams, clients that leave. The replicas are played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests import needs

needs.extra("serve")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from codegen_lsp.deploy import forwarding
from codegen_lsp.deploy.forwarding import (
    ATTEMPTS,
    AnswerStart,
    ClusterFullError,
    ForwardedRequest,
    Forwarder,
    Parts,
    ReplicaLostError,
    answer_parts,
)
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import Exchange, exchange

BODY = {"filename": "a.py", "prompt": "x = "}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "PAUSE_SECONDS", 0.0)


class Replicas:
    """Replicas that behave as the test says, one behaviour for each attempt; the last one for all further ones."""

    def __init__(self, *behaviours: Callable[[ForwardedRequest], Parts]) -> None:
        self.behaviours = list(behaviours)
        self.keys: list[str] = []

    async def ask(self, request: ForwardedRequest, key: str) -> Parts:
        self.keys.append(key)
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        async for part in behaviour(request):
            yield part


def running(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[ForwardedRequest], Parts]:
    app = Starlette(routes=[Route("/x", endpoint, methods=["POST"])])
    return lambda request: answer_parts(app, request, "r1")


async def echo(request: Request) -> Response:
    return JSONResponse({"got": await request.json(), "agent": request.headers.get("user-agent")})


async def stream(request: Request) -> Response:
    async def events() -> Parts:
        for number in range(3):
            yield b"data: %d\n\n" % number

    return StreamingResponse(events(), media_type="text/event-stream")  # type: ignore[arg-type]


async def unavailable(request: Request) -> Response:
    return JSONResponse({"error": "the worker is being restarted"}, 503)


async def lost(request: ForwardedRequest) -> Parts:
    raise ReplicaLostError
    yield b""


async def lost_before_the_body_is_whole(request: ForwardedRequest) -> Parts:
    yield AnswerStart(200, [(b"content-type", b"application/json"), (b"content-length", b"10")])
    yield b'{"a"'
    raise ReplicaLostError


def lost_in_a_stream(media_type: bytes) -> Callable[[ForwardedRequest], Parts]:
    async def parts(request: ForwardedRequest) -> Parts:
        yield AnswerStart(200, [(b"content-type", media_type)])
        yield b"data: 0\n\n"
        raise ReplicaLostError

    return parts


async def ask(replicas: Replicas, config: HttpConfig | None = None, **more: object) -> Exchange:
    app = Forwarder(replicas.ask, config or HttpConfig())
    return await exchange(app, "POST", "/x", BODY, {"user-agent": "test"}, **more)  # type: ignore[arg-type]


async def test_an_answer_comes_back_whole_with_the_name_of_its_replica() -> None:
    answer = await ask(Replicas(running(echo)))
    assert (answer.status, answer.json) == (200, {"got": BODY, "agent": "test"})
    assert answer.headers["x-codegen-lsp-replica"] == "r1"


async def test_a_stream_comes_back_in_its_parts() -> None:
    answer = await ask(Replicas(running(stream)))
    assert answer.chunks == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("fault", [lost, lost_before_the_body_is_whole, running(unavailable)])
async def test_a_request_whose_replica_is_lost_is_asked_again(fault: Callable[[ForwardedRequest], Parts]) -> None:
    replicas = Replicas(fault, fault, running(echo))
    answer = await ask(replicas)
    assert (answer.status, answer.json["got"]) == (200, BODY)
    assert len(replicas.keys) == 3
    assert len(set(replicas.keys)) == 1


async def test_a_request_is_given_up_with_an_answer_that_says_so() -> None:
    replicas = Replicas(lost)
    answer = await ask(replicas)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "Send the request again" in answer.json["error"]["message"]
    assert len(replicas.keys) == ATTEMPTS


async def test_the_last_problem_of_a_replica_is_passed_on() -> None:
    answer = await ask(Replicas(running(unavailable)))
    assert (answer.status, answer.json) == (503, {"error": "the worker is being restarted"})


@pytest.mark.parametrize("media_type", [b"text/event-stream", b"application/x-ndjson"])
async def test_a_stream_that_breaks_says_so(media_type: bytes) -> None:
    replicas = Replicas(lost_in_a_stream(media_type))
    answer = await ask(replicas)
    last = answer.chunks[-1].decode().removeprefix("data: ")
    assert answer.chunks[-1].startswith(b"data: ") == (media_type == b"text/event-stream")
    assert json.loads(last)["error"]["code"] == 503
    assert len(replicas.keys) == 1


async def test_a_full_cluster_is_not_asked_again() -> None:
    async def full(request: ForwardedRequest) -> Parts:
        raise ClusterFullError
        yield b""

    replicas = Replicas(full)
    assert (await ask(replicas)).status == 503
    assert len(replicas.keys) == 1


async def test_a_body_that_is_too_large_reaches_no_replica() -> None:
    replicas = Replicas(running(echo))
    answer = await ask(replicas, HttpConfig(max_body_bytes=10))
    assert (answer.status, replicas.keys) == (413, [])


async def test_an_answer_that_takes_too_long_ends_in_the_replica() -> None:
    ended = asyncio.Event()
    answer = await ask(Replicas(running(endless(asyncio.Event(), ended))), HttpConfig(request_seconds=0.01))
    assert answer.status == 504
    assert ended.is_set()


async def test_a_client_that_leaves_cancels_the_replica_s_work() -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    answer = Exchange()
    asking = asyncio.ensure_future(ask(Replicas(running(endless(started, ended))), into=answer))
    await started.wait()
    answer.disconnected.set()
    await asking
    assert ended.is_set()
    assert answer.status == 0


def endless(started: asyncio.Event, ended: asyncio.Event) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    return endpoint
