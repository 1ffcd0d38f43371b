"""An LSP client that starts the real server with its worker, and the positions of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.rpc.peer import ErrorReplyError, JsonRpcPeer
from codegen_lsp.source.lines import end_of_line, line_starts

TIMEOUT = 60.0
"""Seconds in which the server must answer a request or reach a state."""
SHUTDOWN_TIMEOUT = 10.0
COMMAND = (sys.executable, "-m", "codegen_lsp.cli", "serve")


class ReplayError(CodegenError):
    """A replay that can't start or go on."""


class EditorClient:
    """A client with its server and one worker."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.changed = asyncio.Event()
        self.lines: list[str] = []
        self._server: Process | None = None
        self._peer: JsonRpcPeer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, settings: dict[str, Any], environment: dict[str, str], folders: Sequence[Path]) -> None:
        """Start and initialize a server; return when its model is ready. Raises: ReplayError."""
        await self.launch(environment)
        await self.initialize(settings, folders)
        await self.until_ready()

    async def launch(self, environment: dict[str, str]) -> None:
        """Start a server."""
        self._server = server = await asyncio.create_subprocess_exec(
            *COMMAND, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert server.stdin is not None
        assert server.stdout is not None
        self._peer = JsonRpcPeer(server.stdin)
        self._peer.notifications["codegen-lsp/status"] = self._take_status
        self._tasks = [asyncio.ensure_future(self._peer.receive(server.stdout)), asyncio.ensure_future(self._drain())]

    async def initialize(self, settings: dict[str, Any], folders: Sequence[Path]) -> None:
        """Send `initialize`, wait for its answer, and send `initialized`. Raises: ReplayError."""
        capabilities: dict[str, Any] = {"textDocument": {"inlineCompletion": {}, "synchronization": {}}}
        await self.ask(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": None,
                "capabilities": capabilities,
                "initializationOptions": settings,
                "workspaceFolders": [{"uri": folder.as_uri(), "name": folder.name} for folder in folders],
            },
        )
        self.tell("initialized", {})

    async def until_ready(self) -> None:
        """Wait until the model is ready. Raises: ReplayError when it can't be loaded."""
        await self.until("ready", "error", "disabled")
        if self.status["state"] != "ready":
            raise ReplayError(f"The server has no model: {self.status['message']}", self.status["advice"])

    async def ask(self, method: str, params: object) -> Any:
        """Return the result of a request. Raises: ReplayError when there is none within `TIMEOUT`, or an error."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self.begin(method, params)[1]
        except TimeoutError as error:
            raise ReplayError(f"The server did not answer {method} in {TIMEOUT:.0f} s.", "See its log.") from error
        except ErrorReplyError as error:
            raise ReplayError(f"The server answered {method} with an error: {error}", "See its log.") from error

    def begin(self, method: str, params: object) -> tuple[str, asyncio.Future[Any]]:
        """Send a request; return its id and the future of its result."""
        assert self._peer is not None
        id, future = self._peer.request(method, params)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # those of cancelled requests
        return id, future

    def tell(self, method: str, params: object) -> None:
        """Send a notification."""
        assert self._peer is not None
        self._peer.notify(method, params)

    async def until(self, *states: str) -> None:
        """Wait for one of these states. Raises: ReplayError."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while self.status.get("state") not in states:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError as error:
            said = "\n".join(self.lines[-5:])
            raise ReplayError(f"The server did not become {states[0]}. It said: {said or 'nothing'}") from error

    async def end(self) -> None:
        """Shut the server down; kill it if it does not end."""
        server = self._server
        if server is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                await self.begin("shutdown", None)[1]
                self.tell("exit", None)
                await server.wait()
        if server.returncode is None:
            server.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def processes(self) -> tuple[psutil.Process, psutil.Process]:
        """The processes of server and worker."""
        assert self._server is not None
        return psutil.Process(self._server.pid), psutil.Process(self.status["workerPid"])

    def _take_status(self, params: dict[str, Any]) -> None:
        self.status = params
        self.changed.set()

    async def _drain(self) -> None:
        assert self._server is not None
        assert self._server.stderr is not None
        async for line in self._server.stderr:
            self.lines = [*self.lines[-99:], line.decode("utf-8", "replace").rstrip()]


@asynccontextmanager
async def opened(settings: dict[str, Any], log: Path, folders: Sequence[Path]) -> AsyncIterator[EditorClient]:
    """Start a server with these settings and workspace folders; its worker writes to the log.

    The worker is private, so that the figures don't depend on open windows. Raises: ReplayError.
    """
    editor = EditorClient()
    # Indexes of workspaces are kept beside the log, not in the user's cache.
    environment = {**os.environ, "CODEGEN_LSP_LOG": "info", "XDG_CACHE_HOME": str(log.parent / "cache")}
    try:
        await editor.start(
            settings | {"metrics": False, "worker": {"shared": False}, "log": {"level": "info", "file": str(log)}},
            environment,
            folders,
        )
        yield editor
    finally:
        await editor.end()


def position_at(text: str, offset: int) -> dict[str, int]:
    """Return the position of an offset, its column in UTF-16 units."""
    starts = line_starts(text)
    line = bisect_right(starts, offset) - 1
    return {"line": line, "character": len(text[starts[line] : offset].encode("utf-16-le")) // 2}


def range_at(text: str, start: int, end: int) -> dict[str, Any]:
    """Return the range between two offsets."""
    return {"start": position_at(text, start), "end": position_at(text, end)}


def offset_at(text: str, position: dict[str, int]) -> int:
    """Return the offset of a position, in code points."""
    start = line_starts(text)[position["line"]]
    line = text[start : end_of_line(text, start)]
    return start + len(line.encode("utf-16-le")[: 2 * position["character"]].decode("utf-16-le", "ignore"))
