"""What goes wrong around the server: a disk that is full, clients that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import resource
import socket
import struct
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

from codegen_lsp.benchmarks.lsp_client import COMMAND, ReplayError
from codegen_lsp.benchmarks.soak.connection import StartedServer
from codegen_lsp.benchmarks.soak.levels import marked_processes
from codegen_lsp.benchmarks.soak.malformed import framed

SMALL_DISK = 256 * 2**20
"""Bytes of a file system up to which it is really filled."""
START_TIMEOUT = 120.0
EXIT_TIMEOUT = 60.0
"""Seconds in which a server whose editor is gone must end."""


class FullDisk:
    """Makes writing files fail for the processes of a run, and possible again.

    A small file system is filled, so that writing fails with ENOSPC. On another one, the processes may write only empty
    files (RLIMIT_FSIZE), so that it fails with EFBIG.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._ballast = folder / "ballast"
        self._mark = mark
        room = os.statvfs(folder)
        self.is_filled = room.f_blocks * room.f_frsize <= SMALL_DISK

    def fill(self) -> None:
        """Let writing fail."""
        if not self.is_filled:
            self._limit(0)
            return
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Let writing succeed."""
        if self.is_filled:
            self._ballast.unlink(missing_ok=True)
        else:
            self._limit(None)

    def _limit(self, size: int | None) -> None:
        for process in marked_processes(self._mark):
            with contextlib.suppress(OSError):
                _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


class TcpServer(StartedServer):
    """A server on TCP, to which clients connect that vanish."""

    def __init__(self) -> None:
        self.port = 0
        self.token = ""
        self._reading: asyncio.Task[None] | None = None

    async def start(self, environment: dict[str, str]) -> None:
        """Start the server. Raises: ReplayError when it does not say where it listens."""
        self._server = await asyncio.create_subprocess_exec(
            *COMMAND, "--tcp", "127.0.0.1:0", env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
        assert self._server.stderr is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not self.token and (line := await self._server.stderr.readline()):
                    if found := re.search(rb"listens on tcp://[^ ]*:(\d+)", line):
                        self.port = int(found[1])
                    if found := re.match(rb"Token: (\S+)", line):
                        self.token = found[1].decode()
        except TimeoutError:
            pass
        if not self.token:
            raise ReplayError("The server on TCP did not start.")
        self._reading = asyncio.create_task(self._read())

    @property
    def connections(self) -> int:
        """Number of clients that the server believes to be connected."""
        import psutil

        found = psutil.Process(self.pid).net_connections("tcp")
        return sum(one.status not in (psutil.CONN_LISTEN, psutil.CONN_TIME_WAIT) for one in found)

    async def end(self) -> bool:
        """End the server by SIGTERM; return False if it had to be killed."""
        server = self._server
        if server is None:
            return True
        ended = True
        if server.returncode is None:
            server.terminate()
            try:
                await asyncio.wait_for(server.wait(), EXIT_TIMEOUT)
            except TimeoutError:
                server.kill()
                ended = False
        await server.wait()
        if self._reading is not None:
            await self._reading
        return ended

    async def _read(self) -> None:
        assert self._server is not None
        assert self._server.stderr is not None
        while await self._server.stderr.read(2**16):
            pass


def first_messages(token: str, settings: dict[str, Any], text: str) -> list[bytes]:
    """Return what a client sends until it waits for a completion."""
    options = {
        "processId": None,
        "rootUri": None,
        "capabilities": {},
        "initializationOptions": settings | {"token": token},
    }
    uri = "file:///vanishing.py"
    item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    request = {"textDocument": {"uri": uri}, "position": {"line": 9, "character": 0}, "context": {"triggerKind": 1}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": options},
        {"method": "initialized", "params": {}},
        {"method": "textDocument/didOpen", "params": {"textDocument": item}},
        {"id": 2, "method": "textDocument/inlineCompletion", "params": request},
        {"id": 3, "method": "codegen-lsp/explain", "params": {}},
    ]
    return [framed(json.dumps({"jsonrpc": "2.0", **message}).encode()) for message in messages]


async def vanish_from_tcp(server: TcpServer, settings: dict[str, Any], text: str, choose: random.Random) -> str:
    """Connect, send a random part of what a client sends, and be gone; return how."""
    messages = first_messages(server.token if choose.random() < 0.9 else "x" * 20, settings, text)
    complete = choose.randint(0, len(messages))
    data = b"".join(messages[:complete])
    if complete < len(messages):
        data += messages[complete][: choose.randint(0, len(messages[complete]) - 1)]
    if choose.random() < 0.2:
        data += choose.randbytes(choose.randint(1, 500))
    answers, reset = choose.random() < 0.3, choose.random() < 0.5
    await _connect_and_vanish(("127.0.0.1", server.port), data, answers=answers and complete > 0, reset=reset)
    return "client on TCP"


async def vanish_from_worker(sockets: list[Path], choose: random.Random) -> str:
    """Connect to one of the workers' sockets as no server does, send something, and be gone; return how."""
    if not sockets:
        return "stranger at the worker, none there"
    handshake = framed(
        json.dumps({"jsonrpc": "2.0", "id": "1", "method": "handshake", "params": {"digest": "x"}}).encode()
    )
    data = choose.choice((b"", b"GET / HTTP/1.1\r\n\r\n", handshake, handshake[:30], choose.randbytes(300)))
    await _connect_and_vanish(str(choose.choice(sockets)), data, answers=False, reset=False)
    return "stranger at the worker's socket"


async def _connect_and_vanish(address: tuple[str, int] | str, data: bytes, *, answers: bool, reset: bool) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        if isinstance(address, str):
            reader, writer = await asyncio.open_unix_connection(address)
        else:
            reader, writer = await asyncio.open_connection(*address)
        try:
            if reset:
                found = writer.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.write(data)
            await writer.drain()
            if answers:
                async with asyncio.timeout(1.0):
                    await reader.read(100)
        finally:
            writer.close()


async def vanish_from_window(
    environment: dict[str, str], settings: dict[str, Any], choose: random.Random
) -> str | None:
    """Start a server on stdio whose editor ends in the middle of a message; return how, or None if it did not end."""
    process = await asyncio.create_subprocess_exec(*COMMAND, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    messages = first_messages("", settings, "value = 1\n" * 20)
    data = b"".join(messages)
    if choose.random() < 0.5:
        data = data[: choose.randint(1, len(data) - 1)]
    process.stdin.write(data)
    with contextlib.suppress(OSError):
        await process.stdin.drain()
    # Its answer to `initialize`, if that was sent whole: so the editor vanishes once the server works.
    if len(data) >= len(messages[0]):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                await process.stdout.read(100)
    if choose.random() < 0.5:
        process.kill()
        how = "window that was killed"
    else:
        process.stdin.close()
        how = "window whose editor was gone"
    try:
        async with asyncio.timeout(EXIT_TIMEOUT):
            while await process.stdout.read(2**16):
                pass
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return how
