"""A connection to the server that counts what is sent and answered, and sends what no client library would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from typing import Any

from codegen_lsp.benchmarks.lsp_client import COMMAND, ReplayError
from codegen_lsp.benchmarks.soak.malformed import MalformedMessage, framed
from codegen_lsp.inference.rpc.framing import read_messages

PATIENCE = 180.0
"""Seconds without any message of the server after which an open request counts as unanswered."""
EXIT_TIMEOUT = 60.0
"""Seconds between `exit` and the end of the process."""
READ_LIMIT = 2**20
KEPT = 20
"""Number of wrong messages, and of lines of the standard error stream, that are kept."""


class StartedServer:
    """A server of the test, which runs in a process of its own."""

    _server: Process | None = None

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._server is not None
        return self._server.pid

    @property
    def ended(self) -> bool:
        """True once the server's process has ended."""
        return self._server is None or self._server.returncode is not None


class CountingConnection(StartedServer):
    """A server on stdio, and the requests that it has not answered yet."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        """Messages by kind."""
        self.answered: Counter[str] = Counter()
        """Answers by kind of the request and outcome, as `completion: items`."""
        self.null_expected = self.null_answered = 0
        """Answers under the id null, to messages that have no valid id."""
        self.unexpected: list[str] = []
        """Answers to requests that were not made, or were answered before; the first `KEPT`."""
        self.shown: list[str] = []
        """Messages that the server shows to the user; the first `KEPT`."""
        self.status: dict[str, Any] = {}
        self.lines: list[str] = []
        self.open: dict[str, str] = {}
        """Kinds of the requests that are not answered, by id."""
        self._awaited: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, environment: dict[str, str]) -> None:
        """Start a server."""
        self._server = server = await asyncio.create_subprocess_exec(
            *COMMAND, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=READ_LIMIT
        )
        self._tasks = [asyncio.create_task(self._read(server)), asyncio.create_task(self._read_errors(server))]

    def next_id(self) -> str:
        """Return the id for the next request."""
        self._number += 1
        return f"r{self._number}"

    def notify(self, kind: str, method: str, params: object) -> None:
        """Send a notification."""
        self.sent[kind] += 1
        self._send(framed(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()))

    def request(self, kind: str, method: str, params: object) -> str:
        """Send a request; return its id."""
        id = self.next_id()
        self.sent[kind] += 1
        self.open[id] = kind
        self._send(framed(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()))
        return id

    async def ask(self, kind: str, method: str, params: object) -> dict[str, Any]:
        """Send a request; return the answer, which has `result` or `error`. Raises: ReplayError."""
        id = self.request(kind, method, params)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._awaited[id] = future
        await self.until(future.done, f"answer {method}")
        return future.result()

    def send_malformed(self, messages: list[tuple[str, MalformedMessage]]) -> None:
        """Send malformed messages with their ids, at once."""
        for id, message in messages:
            self.sent[message.kind] += 1
            if message.answered == "by id":
                self.open[id] = message.kind
            elif message.answered == "null":
                self.null_expected += 1
        self._send(b"".join(message.data for _, message in messages))

    async def drain(self) -> None:
        """Wait until the server has read most of what was sent. Raises: ReplayError when it does not read."""
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            async with asyncio.timeout(PATIENCE):
                await self._server.stdin.drain()
        except (TimeoutError, OSError) as error:
            raise self._failure("read its messages") from error

    async def until(self, holds: Any, what: str) -> None:
        """Wait until a condition holds, which messages of the server bring about.

        Raises: ReplayError when it does not hold and no message arrives for `PATIENCE` seconds, or the server ends.
        """
        while not holds():
            if self.ended:
                raise self._failure(what)
            self._changed.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._changed.wait()
            except TimeoutError as error:
                raise self._failure(what) from error

    async def until_answered(self, at_most: int = 0) -> None:
        """Wait until at most so many requests are open. Raises: ReplayError."""
        await self.until(
            lambda: len(self.open) + self.null_expected - self.null_answered <= at_most, "answer all requests"
        )

    async def end(self) -> int | None:
        """Shut the server down; return its exit code, or None if it had to be killed."""
        server = self._server
        if server is None:
            return None
        if server.returncode is None:
            with contextlib.suppress(ReplayError, TimeoutError):
                await self.ask("shutdown", "shutdown", None)
                self.notify("exit", "exit", None)
                await asyncio.wait_for(server.wait(), EXIT_TIMEOUT)
        killed = server.returncode is None
        if killed:
            server.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        code = await server.wait()
        return None if killed else code

    def _send(self, data: bytes) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(data)

    async def _read(self, server: Process) -> None:
        assert server.stdout is not None
        async for body in read_messages(server.stdout, strict=True):
            self._take(json.loads(body))
            self._changed.set()
        await server.wait()
        self._changed.set()

    async def _read_errors(self, server: Process) -> None:
        assert server.stderr is not None
        async for line in server.stderr:
            self.lines = [*self.lines[1 - KEPT :], line.decode("utf-8", "replace").rstrip()]

    def _take(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is not None:
            self._take_call(method, message)
            return
        id = message["id"]
        if id is None:
            self.null_answered += 1
            self.answered[f"no valid id: {_outcome(message)}"] += 1
        elif (kind := self.open.pop(id, None)) is not None:
            self.answered[f"{kind}: {_outcome(message)}"] += 1
            if (future := self._awaited.pop(id, None)) and not future.done():
                future.set_result(message)
        elif len(self.unexpected) < KEPT:
            self.unexpected.append(json.dumps(message)[:200])

    def _take_call(self, method: str, message: dict[str, Any]) -> None:
        """Take a notification or a request of the server."""
        if method == "codegen-lsp/status":
            self.status = message["params"]
        elif method.startswith("window/showMessage") and len(self.shown) < KEPT:
            self.shown.append(message["params"]["message"])
        if "id" in message:
            self.sent["answer to a request of the server"] += 1
            self._send(framed(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": None}).encode()))

    def _failure(self, what: str) -> ReplayError:
        said = "\n".join(self.lines[-5:]) or "nothing"
        ended = f" It ended with {self._server.returncode}." if self._server and self.ended else ""
        return ReplayError(f"The server did not {what}.{ended} It said: {said}", "See its log.")


def _outcome(message: dict[str, Any]) -> str:
    """Return the outcome of an answer."""
    if error := message.get("error"):
        return "cancelled" if error["code"] == -32800 else f"error {error['code']}"
    result = message.get("result")
    if isinstance(result, dict) and "items" in result:
        return "items" if result["items"] else "no items"
    return "result"


def new_environment(folder: str, mark: str) -> dict[str, str]:
    """Return the environment of the servers, whose files are all below a folder.

    The variable `SOAK` marks them and their child processes.
    """
    environment = {**os.environ, "SOAK": mark, "TMPDIR": f"{folder}/tmp"}  # noqa: S108 - a folder of the run
    for name in ("cache", "state", "data", "config"):
        environment[f"XDG_{name.upper()}_HOME"] = f"{folder}/{name}"
    environment["XDG_RUNTIME_DIR"] = f"{folder}/run"
    return environment


def new_mark() -> str:
    """Return a text that marks the processes of one run."""
    return f"{os.getpid()}-{time.time_ns()}"
