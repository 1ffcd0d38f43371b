"""The server on a socket, as a process of its own: who is admitted, and what clients may do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from codegen_lsp.errors import AddressError
from codegen_lsp.lsp import transports
from codegen_lsp.lsp.sockets import parse_address
from tests.lsp.test_serve import EXPLAIN, answer_from, framed, message_from

COMMAND = (sys.executable, "-m", "codegen_lsp.cli", "serve")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes as POSIX has them")


INITIALIZE_BARE = {
    "id": 1,
    "method": "initialize",
    "params": {"processId": None, "capabilities": {}, "initializationOptions": {}},
}


def initialize(token: object, **options: Any) -> dict[str, Any]:
    """The first message of a client."""
    options = {"model": "no-such-model", "token": token} | options
    return INITIALIZE_BARE | {"params": INITIALIZE_BARE["params"] | {"initializationOptions": options}}  # type: ignore[operator]


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("localhost:2087", "localhost", 2087),
        ("2087", "127.0.0.1", 2087),
        (":2087", "127.0.0.1", 2087),
        ("[::1]:2087", "::1", 2087),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert parse_address(address) == (host, port)


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "localhost:http", "x:99999", "x:-1", "x:²"])
def test_invalid_addresses(address: str) -> None:
    with pytest.raises(AddressError, match="HOST:PORT"):
        parse_address(address)


class Listening:
    """The server on a socket."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, token: str) -> None:
        self.process, self.port, self.token = process, port, token

    def initialize(self, **options: Any) -> dict[str, Any]:
        return initialize(self.token, **options)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/?token={self.token}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


async def listen(kind: str, *options: str, address: str = "127.0.0.1:0") -> Listening:
    started = await asyncio.create_subprocess_exec(
        *COMMAND, f"--{kind}", address, *options, stderr=asyncio.subprocess.PIPE
    )
    assert started.stderr is not None
    line = (await started.stderr.readline()).decode()
    assert line.startswith(f"codegen-lsp listens on {kind}://"), line
    token = (await started.stderr.readline()).decode().removeprefix("Token: ").strip()
    if token.startswith("in "):
        token = Path(token.removeprefix("in ")).read_text().strip()
    return Listening(started, int(line.rsplit(":", 1)[1]), token)


async def end(listening: Listening) -> None:
    listening.process.terminate()
    assert await listening.process.wait() == 128 + signal.SIGTERM


@pytest.fixture
async def tcp() -> AsyncIterator[Listening]:
    listening = await listen("tcp")
    yield listening
    await end(listening)


@pytest.fixture
async def ws() -> AsyncIterator[Listening]:
    listening = await listen("ws")
    yield listening
    await end(listening)


# Who is admitted.


STRANGERS = {
    "no token": framed(INITIALIZE_BARE) + framed(EXPLAIN),
    "another token": framed(initialize("x" * 43)),
    "no text": framed(initialize(True)),
    "another request": framed(EXPLAIN),
    "a notification": framed({"method": "initialized", "params": {}}),
    "no JSON": b"Content-Length: 5\r\n\r\n{]}[(",
    "a large message": b"Content-Length: 90000000\r\n\r\n",
}


async def test_a_client_without_the_token_is_disconnected(tcp: Listening) -> None:
    for name, data in STRANGERS.items():
        reader, writer = await tcp.open()
        writer.write(data)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert b'"result"' not in answer, name
        assert (b"initializationOptions.token" in answer) == (b'"id"' in data), name
        writer.close()


def smuggled(token: str, header: str) -> bytes:
    """A form that a web page sends, with messages in its body; the page controls the path, the referer and the body."""
    body = framed(initialize(token)) + framed(EXPLAIN)
    request = f"POST /content-length:{len(body)} HTTP/1.1\r\n{header}\r\nContent-Type: text/plain\r\n\r\n"
    return request.encode() + body


async def test_a_page_that_posts_messages_is_disconnected(tcp: Listening) -> None:
    """Even with the right token: the first line is that of another protocol."""
    for header in ("Host: 127.0.0.1", "Referer: http://evil.example/?content-length:300"):
        reader, writer = await tcp.open()
        writer.write(smuggled(tcp.token, header))
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionResetError):  # the rest of the form was not read
                assert await reader.read() == b""
        writer.close()


async def test_a_header_that_only_ends_like_a_length_is_none(tcp: Listening) -> None:
    reader, writer = await tcp.open()
    body = framed(tcp.initialize()).partition(b"\r\n\r\n")[2]
    writer.write(b"Referer: http://evil.example/?content-length:%d\r\n\r\n%s" % (len(body), body))
    async with asyncio.timeout(60):
        assert b"result" not in await reader.read()
    writer.close()


async def test_the_token_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    first = await listen("tcp", "--token-file", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    await end(first)
    second = await listen("tcp", "--token-file", str(path))
    assert second.token == first.token
    reader, writer = await second.open()
    writer.write(framed(second.initialize()))
    assert "result" in await answer_from(reader, 1)
    writer.close()
    await end(second)


async def test_each_start_has_another_token(tcp: Listening) -> None:
    other = await listen("tcp")
    assert len(tcp.token) == len(other.token) >= 43
    assert tcp.token != other.token
    await end(other)


async def test_an_address_that_other_machines_reach_is_warned_about() -> None:
    listening = await listen("tcp", address="0.0.0.0:0")
    assert listening.process.stderr is not None
    assert b"WARNING: other machines can reach" in await listening.process.stderr.readline()
    await end(listening)


# What clients may do.


async def test_clients_have_no_say_in_the_log_file_nor_in_folders(
    tcp: Listening, tmp_path: Path, embedded_build: Path
) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(embedded_build, folder)
    log = tmp_path / ".bashrc"
    reader, writer = await tcp.open()
    options = {"log.file": str(log), "model": str(folder), "\ntouch ~/X #": 1}
    writer.write(framed(tcp.initialize(**options)) + framed({"method": "initialized", "params": {}}))
    assert "result" in await answer_from(reader, 1)
    while (message := await message_from(reader)).get("method") != "codegen-lsp/status":
        if message.get("method") == "window/showMessage":
            assert "`codegen-lsp.log.file` is ignored" in message["params"]["message"]
    assert message["params"]["state"] == "error"
    assert "can't choose a folder" in message["params"]["message"]
    assert not log.exists()
    command = {"command": "codegen-lsp.switchModel", "arguments": [str(folder)]}
    writer.write(framed({"id": 7, "method": "workspace/executeCommand", "params": command}))
    while (message := await message_from(reader)).get("id") != 7:
        pass
    assert "can't choose a folder" in message["error"]["message"]
    writer.close()


async def test_tcp_connections_one_after_another_and_side_by_side(tcp: Listening) -> None:
    for _ in range(2):
        first_in, first_out = await tcp.open()
        second_in, second_out = await tcp.open()
        for reader, writer in ((first_in, first_out), (second_in, second_out)):
            writer.write(framed(tcp.initialize()))
            assert "result" in await answer_from(reader, 1)
        # the end of one is not the end of the other
        first_out.write(framed({"id": 2, "method": "shutdown"}) + framed({"method": "exit"}))
        await answer_from(first_in, 2)
        assert await first_in.read() == b""
        second_out.write(framed(EXPLAIN))
        assert "result" in await answer_from(second_in, 5)
        # one that just goes
        second_out.transport.abort()
        first_out.close()


async def test_a_connection_that_ends_while_the_model_loads_leaves_no_worker(tcp: Listening) -> None:
    for _ in range(3):
        reader, writer = await tcp.open()
        writer.write(framed(tcp.initialize(model="auto")))
        assert "result" in await answer_from(reader, 1)
        writer.write(framed({"method": "initialized", "params": {}}))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
    server = psutil.Process(tcp.process.pid)
    async with asyncio.timeout(60):
        while any(map(runs, server.children())):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def runs(process: psutil.Process) -> bool:
    """Return whether a process that was listed runs still."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_tcp_address_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = (*COMMAND, "--tcp", f"127.0.0.1:{taken.getsockname()[1]}")
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Can't listen on" in result.stderr
    assert "Choose another port." in result.stderr


async def test_websocket(ws: Listening) -> None:
    for _ in range(2):
        async with connect(ws.url, max_size=None) as client:
            await client.send(json.dumps({"jsonrpc": "2.0"} | ws.initialize()))
            answer = await client.recv()
            assert isinstance(answer, str)
            assert "capabilities" in json.loads(answer)["result"]
            await client.send("{")
            assert json.loads(await client.recv())["error"]["code"] == -32700
            # larger than the library's own limit of 1 MiB
            item = {"uri": "file:///a.py", "languageId": "python", "version": 1, "text": "x" * 3_000_000}
            opened = {"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": item}}
            await client.send(json.dumps(opened))
            await client.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "shutdown"}))
            while json.loads(answer := await client.recv()).get("id") != 2:
                pass
            await client.send(json.dumps({"jsonrpc": "2.0", "method": "exit"}))
            await client.wait_closed()


REQUESTS: list[tuple[str, dict[str, str], int]] = [
    ("", {}, 401),
    ("?token=x", {}, 401),
    ("?token=", {"Authorization": "Bearer x"}, 401),
    ("", {"Authorization": "Bearer TOKEN"}, 101),
    ("?token=TOKEN", {}, 101),
    ("?token=TOKEN", {"Origin": "http://localhost:8080"}, 403),
    ("?token=TOKEN", {"Origin": "https://evil.example"}, 403),
    ("?token=TOKEN", {"Origin": "null"}, 403),
    ("?token=TOKEN", {"Host": "evil.example"}, 403),
    ("?token=TOKEN", {"Host": "localhost"}, 101),
]


async def test_websocket_clients_that_are_admitted(ws: Listening) -> None:
    for query, headers, status in REQUESTS:
        assert await status_of(ws, query, headers) == status, (query, headers)


async def status_of(ws: Listening, query: str, headers: dict[str, str]) -> int:
    """The status with which a request for a WebSocket is answered."""
    reader, writer = await ws.open()
    sent = {
        "Host": f"127.0.0.1:{ws.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    } | headers
    lines = [f"GET /{query} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    writer.write("\r\n".join(lines).replace("TOKEN", ws.token).encode())
    status = int((await reader.readline()).split()[1])
    writer.transport.abort()
    return status


async def test_pages_of_an_allowed_origin() -> None:
    ws = await listen("ws", "--allow-origin", "http://localhost:8080")
    assert await status_of(ws, "?token=TOKEN", {"Origin": "http://localhost:8080"}) == 101
    assert await status_of(ws, "", {"Origin": "http://localhost:8080"}) == 401
    assert await status_of(ws, "?token=TOKEN", {"Origin": "http://localhost:9090"}) == 403
    await end(ws)


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "MAX_UNREAD_BYTES", 1_000_000)
    connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    listening = await asyncio.start_server(lambda _, writer: connected.put_nowait(writer), "127.0.0.1", 0)
    async with listening:
        _, client = await asyncio.open_connection(*listening.sockets[0].getsockname())
        client.transport.pause_reading()  # type: ignore[attr-defined]
        bounded = transports.SocketWriter(await connected.get())
        for _ in range(10_000):
            bounded.write(b"x" * 10_000)
            if bounded.writer.transport.is_closing():
                break
        assert bounded.writer.transport.is_closing()
        client.transport.abort()
