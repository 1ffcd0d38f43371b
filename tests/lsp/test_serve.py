"""The server as a process of its own, without a model: streams, exit codes, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
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
from websockets.exceptions import InvalidStatus

STDIO = "import sys; from codegen_lsp.lsp.serve import serve_stdio; sys.exit(serve_stdio())"
SOCKET = "import sys; from codegen_lsp.lsp.serve import serve_{0}; sys.exit(serve_{0}('127.0.0.1:0'))"
INITIALIZE = {
    "id": 1,
    "method": "initialize",
    "params": {"processId": None, "capabilities": {}, "initializationOptions": {"model": "no-such-model"}},
}
EXPLAIN = {"id": 5, "method": "codegen-lsp/explain", "params": {}}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes as POSIX has them")


def framed(message: dict[str, Any]) -> bytes:
    body = json.dumps({"jsonrpc": "2.0"} | message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


async def message_from(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message. Anything else on the stream fails the test."""
    length = 0
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        assert name in (b"Content-Length", b"Content-Type"), line
        if name == b"Content-Length":
            length = int(value)
    assert length, "the stream ended"
    return json.loads(await reader.readexactly(length))  # type: ignore[no-any-return]


async def answer_from(reader: asyncio.StreamReader, number: int | None) -> dict[str, Any]:
    while True:
        message = await message_from(reader)
        assert message.get("method") != "window/showMessage"
        if "method" not in message and message["id"] == number:
            return message


class Process:
    """The server on stdio."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout

    def send(self, *messages: dict[str, Any]) -> None:
        self.stdin.write(b"".join(map(framed, messages)))

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        self.send(message)
        return await answer_from(self.stdout, message["id"])

    async def exit_code(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", STDIO, stdin=pipe, stdout=pipe)
    yield Process(started)
    if started.returncode is None:
        started.kill()
        await started.wait()


async def test_shutdown_and_exit(process: Process) -> None:
    assert "capabilities" in (await process.request(INITIALIZE))["result"]
    process.send({"method": "initialized", "params": {}})
    assert (await process.request({"id": 2, "method": "shutdown"}))["result"] is None
    process.send({"method": "exit"})
    assert await process.exit_code() == 0
    assert await process.stdout.read() == b""


async def test_exit_without_shutdown(process: Process) -> None:
    await process.request(INITIALIZE)
    process.send({"method": "exit"})
    assert await process.exit_code() == 1


async def test_exit_before_anything(process: Process) -> None:
    process.send({"method": "exit"})
    assert await process.exit_code() == 1


@pytest.mark.parametrize(("shutdown", "code"), [(True, 0), (False, 1)])
async def test_the_end_of_the_input_ends_the_server(process: Process, shutdown: bool, code: int) -> None:
    await process.request(INITIALIZE)
    if shutdown:
        await process.request({"id": 2, "method": "shutdown"})
    process.stdin.close()
    assert await process.exit_code() == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals(process: Process, number: signal.Signals) -> None:
    await process.request(INITIALIZE)
    process.process.send_signal(number)
    assert await process.exit_code() == 128 + number


async def test_garbage_between_messages(process: Process) -> None:
    await process.request(INITIALIZE)
    process.stdin.write(b"hello?\nContent-Length: 3\r\n\r\n{]}" + b"Content-Length: x\r\n\r\n\x00\xff\n")
    assert (await answer_from(process.stdout, None))["error"]["code"] == -32700
    assert "result" in await process.request(EXPLAIN)


def test_a_server_whose_editor_stops_reading_still_ends() -> None:
    started = subprocess.Popen([sys.executable, "-c", STDIO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin is not None
    assert started.stdout is not None
    flood = b"".join(framed({"id": number, "method": "x" * 1_000}) for number in range(2_000))
    started.stdin.write(framed(INITIALIZE) + flood + framed({"method": "exit"}))
    started.stdin.flush()
    assert started.wait(20) == 1
    started.stdin.close()
    started.stdout.close()


async def test_printed_text_does_not_get_between_the_messages() -> None:
    code = (
        "import sys, os; from codegen_lsp.lsp import serve, server\n"
        "def make():\n"
        "    print('from python', flush=True); os.write(1, b'from C'); os.system('echo from a child')\n"
        "    return server.create_server()\n"
        "sys.exit(serve.serve_stdio(make))"
    )
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    process = Process(started)
    assert "result" in await process.request(INITIALIZE)
    process.stdin.close()
    await process.exit_code()


async def test_the_server_ends_with_the_editor_even_if_its_pipe_stays_open() -> None:
    """An editor that was killed, while another process (here: this one) still holds the pipe to the server."""
    read, write = os.pipe()
    editor = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    out, into = os.pipe()
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", STDIO, stdin=read, stdout=into)
    os.close(read)
    os.close(into)
    params = INITIALIZE["params"] | {"processId": editor.pid}  # type: ignore[operator]
    os.write(write, framed(INITIALIZE | {"params": params}) + framed({"method": "initialized", "params": {}}))
    assert os.read(out, 1)
    editor.kill()
    await editor.wait()
    async with asyncio.timeout(20):
        assert await started.wait() == 1
    os.close(write)
    os.close(out)


async def test_an_editor_in_another_container_can_not_be_watched(process: Process) -> None:
    free = next(pid for pid in range(2**22 - 1, 1, -1) if not psutil.pid_exists(pid))
    params = INITIALIZE["params"] | {"processId": free}  # type: ignore[operator]
    await process.request(INITIALIZE | {"params": params})
    process.send({"method": "initialized", "params": {}})
    assert "result" in await process.request(EXPLAIN)


# Sockets.


class Listening:
    """The server on a socket."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port


async def listen(kind: str) -> Listening:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SOCKET.format(kind), stderr=asyncio.subprocess.PIPE
    )
    assert started.stderr is not None
    line = (await started.stderr.readline()).decode()
    assert line.startswith(f"codegen-lsp listens on {kind}://127.0.0.1:")
    return Listening(started, int(line.rsplit(":", 1)[1]))


@pytest.fixture
async def tcp() -> AsyncIterator[Listening]:
    listening = await listen("tcp")
    yield listening
    listening.process.terminate()
    assert await listening.process.wait() == 128 + signal.SIGTERM


@pytest.fixture
async def ws() -> AsyncIterator[Listening]:
    listening = await listen("ws")
    yield listening
    listening.process.terminate()
    assert await listening.process.wait() == 128 + signal.SIGTERM


async def test_tcp_connections_one_after_another_and_side_by_side(tcp: Listening) -> None:
    for _ in range(2):
        first_in, first_out = await asyncio.open_connection("127.0.0.1", tcp.port)
        second_in, second_out = await asyncio.open_connection("127.0.0.1", tcp.port)
        for reader, writer in ((first_in, first_out), (second_in, second_out)):
            writer.write(framed(INITIALIZE))
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


async def test_a_connection_that_ends_while_the_model_loads_leaves_no_worker(
    tcp: Listening, embedded_build: Path
) -> None:
    params = INITIALIZE["params"] | {"initializationOptions": {"model": str(embedded_build)}}  # type: ignore[operator]
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp.port)
        writer.write(framed(INITIALIZE | {"params": params}))
        assert "result" in await answer_from(reader, 1)
        writer.write(framed({"method": "initialized", "params": {}}))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
    server = psutil.Process(tcp.process.pid)
    async with asyncio.timeout(20):
        while [child for child in server.children() if child.status() != psutil.STATUS_ZOMBIE]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_tcp_address_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code = SOCKET.format("tcp").replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "AddressError: Can't listen on" in result.stderr
    assert "Choose another port." in result.stderr


async def test_websocket(ws: Listening) -> None:
    for _ in range(2):
        async with connect(f"ws://127.0.0.1:{ws.port}", max_size=None) as client:
            await client.send(json.dumps({"jsonrpc": "2.0"} | INITIALIZE))
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


async def test_websocket_refuses_pages_of_other_hosts(ws: Listening) -> None:
    with pytest.raises(InvalidStatus):
        await connect(f"ws://127.0.0.1:{ws.port}", origin="https://evil.example")  # type: ignore[arg-type]
    async with connect(f"ws://127.0.0.1:{ws.port}", origin="http://localhost:8080"):  # type: ignore[arg-type]
        pass
