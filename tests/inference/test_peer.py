"""JSON-RPC between two ends: answers, errors, cancellation, and what ends a connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.peer import ErrorReplyError, JsonRpcPeer


class Pipe:
    """What one end has written, handed to the other one."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.messages: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.messages.append(json.loads(data.partition(b"\r\n\r\n")[2]))
        self.reader.feed_data(data)


class Ends:
    """Two connected ends. `here` makes requests; `there` has a method that answers and one that waits."""

    def __init__(self) -> None:
        self.sent, self.received = Pipe(), Pipe()
        self.here, self.there = JsonRpcPeer(self.sent), JsonRpcPeer(self.received, max_requests=3)
        self.started = asyncio.Event()
        self.there.requests |= {"double": self.double, "wait": self.wait}
        self.tasks = [
            asyncio.ensure_future(self.here.receive(self.received.reader)),
            asyncio.ensure_future(self.there.receive(self.sent.reader)),
        ]

    async def double(self, params: Any) -> object:
        return params["number"] * 2

    async def wait(self, params: Any) -> object:
        self.started.set()
        await asyncio.Event().wait()
        return None


@pytest.fixture
async def ends() -> Ends:
    return Ends()


async def test_a_request_is_answered(ends: Ends) -> None:
    pairs = [ends.here.request("double", {"number": number}) for number in (1, 2)]
    assert [await future for _, future in pairs] == [2, 4]
    assert ends.here.open_requests == ends.there.open_requests == 0
    assert all(message["jsonrpc"] == "2.0" for message in ends.sent.messages + ends.received.messages)


@pytest.mark.parametrize(
    ("method", "params", "code", "reason"),
    [("no/such", {}, -32601, "no/such"), ("double", {}, -32603, "KeyError: 'number'"), ("double", 5, -32603, "int")],
)
async def test_an_error_is_answered(ends: Ends, method: str, params: object, code: int, reason: str) -> None:
    with pytest.raises(ErrorReplyError, match=reason):
        await ends.here.request(method, params)[1]
    assert ends.received.messages[-1]["error"]["code"] == code
    assert await ends.here.request("double", {"number": 3})[1] == 6


@pytest.mark.parametrize("started", [False, True])
async def test_a_cancelled_request_is_answered_once(ends: Ends, started: bool) -> None:
    id, future = ends.here.request("wait", {})
    if started:
        await ends.started.wait()
    ends.here.cancel(id)
    with pytest.raises(ErrorReplyError, match="cancelled"):
        await future
    assert ends.received.messages[-1]["error"]["code"] == -32800
    ends.here.cancel(id)
    assert await ends.here.request("double", {"number": 3})[1] == 6
    assert len(ends.received.messages) == 2


async def test_a_request_that_nobody_waits_for_any_more_leaves_nothing(ends: Ends) -> None:
    id, future = ends.here.request("wait", {})
    future.cancel()
    ends.here.cancel(id)
    await ends.here.request("double", {"number": 3})[1]
    assert ends.here.open_requests == ends.there.open_requests == 0


async def test_notifications_reach_their_listener_and_break_nothing(ends: Ends) -> None:
    taken: list[object] = []
    ends.there.notifications |= {"note": taken.append, "broken": lambda params: params["missing"]}
    for method in ("note", "broken", "no/such"):
        ends.here.notify(method, {"a": 1})
    assert await ends.here.request("double", {"number": 3})[1] == 6
    assert taken == [{"a": 1}]


async def test_all_requests_of_an_end_that_leaves_are_cancelled(ends: Ends) -> None:
    futures = [ends.here.request("wait", {})[1] for _ in range(3)]
    await ends.started.wait()
    await ends.there.cancel_all()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [ErrorReplyError] * 3
    assert ends.there.open_requests == 0


REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "wait"}


@pytest.mark.parametrize(
    "bodies",
    [
        [b"{nope"],
        [b"\xff"],
        [b"[" * 100_000],
        [[1, 2]],
        ["text"],
        [{}],
        [{"jsonrpc": "1.0", "id": 1, "method": "wait"}],
        [{"jsonrpc": "2.0", "id": {}, "method": "wait"}],
        [{"jsonrpc": "2.0", "id": None, "method": "wait"}],
        [{"jsonrpc": "2.0", "id": 1, "method": 5}],
        [{"jsonrpc": "2.0", "id": 1, "error": "text"}],
        [REQUEST, REQUEST],
        [REQUEST | {"id": id} for id in range(4)],
    ],
    ids=str,
)
async def test_anything_that_is_no_message_ends_the_connection(ends: Ends, bodies: list[Any]) -> None:
    for body in bodies:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        ends.sent.reader.feed_data(b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    with pytest.raises(FramingError):
        await asyncio.wait_for(ends.tasks[1], 60)
    await ends.there.cancel_all()


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "id": 99, "result": 1},
        {"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "unknown"}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 99}},
        {"jsonrpc": "2.0", "method": "$/cancelRequest"},
    ],
    ids=str,
)
async def test_messages_about_unknown_requests_are_ignored(ends: Ends, body: object) -> None:
    ends.there.handle(json.dumps(body).encode())
    assert await ends.here.request("double", {"number": 3})[1] == 6


async def test_text_of_any_kind_arrives(ends: Ends) -> None:
    texts: list[object] = []
    ends.there.notifications["note"] = texts.append
    for text in ("ä\0\r\n", "𝔘", "\ud800", "Content-Length: 3\r\n\r\n"):
        ends.here.notify("note", text)
    await ends.here.request("double", {"number": 1})[1]
    assert texts == ["ä\0\r\n", "𝔘", "\ud800", "Content-Length: 3\r\n\r\n"]
