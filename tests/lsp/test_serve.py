"""The server as a process of its own, without a model: streams, exit codes, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

STDIO = "from codegen_lsp.lsp import serve, watchdog; watchdog.end_process(serve.serve_stdio())"
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
        async with asyncio.timeout(60):
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
    assert started.wait(60) == 1
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
    async with asyncio.timeout(60):
        assert await started.wait() == 1
    os.close(write)
    os.close(out)


async def test_an_editor_in_another_container_can_not_be_watched(process: Process) -> None:
    free = next(pid for pid in range(2**22 - 1, 1, -1) if not psutil.pid_exists(pid))
    params = INITIALIZE["params"] | {"processId": free}  # type: ignore[operator]
    await process.request(INITIALIZE | {"params": params})
    process.send({"method": "initialized", "params": {}})
    assert "result" in await process.request(EXPLAIN)


# A server that can't end by itself.

STUCK = """
import asyncio, re, sys, threading
from codegen_lsp.lsp import serve, server, watchdog
watchdog.EXIT_TIMEOUT, watchdog.CPU_SECONDS, watchdog.HEARTBEAT = 0.5, 1.0, 0.1
watchdog.end_process_later.__defaults__ = ({end},)

def stand_still():
    print("stuck", file=sys.stderr, flush=True)
    {stuck}

def make():
    made = server.create_server()
    asyncio.get_running_loop().call_later(0.2, {where})
    return made

watchdog.end_process(serve.serve_stdio(make))
"""
REGEX = 're.match("(a*)*b", "a" * 40)'
"""Keeps the interpreter's lock for years."""
LOOP = "while True: pass"


async def stuck_server(stuck: str, where: str = "stand_still", end: float = 0.5) -> asyncio.subprocess.Process:
    """Start a server that gets stuck. It has `end` seconds from the end of its input to its own."""
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK.format(stuck=stuck, where=where, end=end), stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert started.stderr is not None
    assert await started.stderr.readline() == b"stuck\n"
    return started


async def test_a_server_whose_event_loop_stands_still_is_ended() -> None:
    """Without the end of its input, which nobody could notice."""
    started = await stuck_server(REGEX)
    async with asyncio.timeout(60):
        assert await started.wait() == -signal.SIGPROF


@pytest.mark.parametrize("how", ["end of input", signal.SIGTERM])
async def test_the_end_is_not_missed_while_the_event_loop_stands_still(how: str | signal.Signals) -> None:
    started = await stuck_server("import time\n    while True: time.sleep(0.01)")
    assert started.stdin is not None
    if isinstance(how, signal.Signals):
        started.send_signal(how)
    else:
        started.stdin.close()
    async with asyncio.timeout(60):
        assert await started.wait() == -signal.SIGALRM


async def test_a_thread_that_waits_for_ever_does_not_keep_the_server() -> None:
    pool = "asyncio.get_running_loop().run_in_executor(None, threading.Event().wait); return"
    started = await stuck_server(pool)
    assert started.stdin is not None
    started.stdin.write(framed(INITIALIZE) + framed({"id": 2, "method": "shutdown"}) + framed({"method": "exit"}))
    async with asyncio.timeout(60):
        assert await started.wait() == 0


async def test_work_in_threads_is_no_standstill() -> None:
    """A multiple of the processor time that the event loop may take, in a thread beside it."""
    work = "threading.Thread(target=work).start()"
    work += "\n\ndef work():\n    for _ in range(60_000_000): pass\n    print('worked', file=sys.stderr, flush=True)"
    started = await stuck_server(work, end=60.0)
    assert started.stderr is not None
    assert started.stdin is not None
    async with asyncio.timeout(200):
        assert await started.stderr.readline() == b"worked\n"
    started.stdin.close()
    assert await started.wait() == 1
