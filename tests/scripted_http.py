"""An HTTP server that answers by a script: as a server of this project, wrongly, late, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import cattrs
from attrs import define, field

from codegen_lsp.inference.client.remote_server import RemoteServer, remote_server
from codegen_lsp.inference.rpc import remote
from codegen_lsp.inference.rpc.messages import Candidate, GenerateResult, GenerationStats, Score, ScoreResult
from codegen_lsp.version import __version__
from tests.played_model import describe

TEXT = "remote text"


@define
class Arrived:
    """A request that arrived at the server."""

    method: str
    headers: dict[str, str]
    body: dict[str, Any]
    left: asyncio.Event = field(factory=asyncio.Event)
    """Set when the client closes the connection."""

    @property
    def params(self) -> Any:
        return self.body["params"]


Script = Callable[[Arrived], Awaitable[bytes]]
"""Returns the bytes of the response; none to close the connection."""


@define
class ScriptedServer:
    """A server on a free port of the loopback interface."""

    script: Script
    arrived: list[Arrived] = field(factory=list)
    connections: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None
    closes_after_answer: bool = False
    _listening: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def address(self, **how: Any) -> RemoteServer:
        return remote_server(self.url, **how)

    def asked(self, method: str) -> list[Arrived]:
        return [one for one in self.arrived if one.method == method]

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End as a process that is killed: the port and all connections."""
        assert self._listening is not None
        self._listening.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                await self._answer(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        request = Arrived(first.split()[1].rpartition("/")[2], headers, body)
        self.arrived.append(request)
        answering = asyncio.ensure_future(self.script(request))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            request.left.set()
            answering.cancel()
            raise ConnectionError
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        response = answering.result()
        if not response:
            raise ConnectionError
        writer.write(response)
        await writer.drain()
        if self.closes_after_answer:
            raise ConnectionError


def response(body: object, status: int = 200, headers: str = "") -> bytes:
    """Return an HTTP response with JSON, or with bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n{headers}\r\n".encode() + content


def value(result: object, instance: str = "first") -> bytes:
    """Return the response with the value of a reply."""
    return response({"instance": instance, "value": cattrs.unstructure(result)})


def shaken(name: str = "native-big", instance: str = "first") -> bytes:
    """Return the response to a handshake."""
    return value(remote.RemoteHandshake(__version__, instance, describe(name)), instance)


def generated(text: str = TEXT) -> GenerateResult:
    candidate = Candidate(text, 2, -0.5, "stop", [(len(text), -1.0)])
    return GenerateResult([candidate], GenerationStats(10, 5, 2, 0.0, 0.01, 0.02))


async def well(request: Arrived) -> bytes:
    """Answer as a server of this project does."""
    match request.method:
        case remote.HANDSHAKE:
            return shaken()
        case remote.GENERATE:
            return value(generated())
        case remote.WARM:
            return value(0)
        case remote.SCORE:
            return value(ScoreResult([Score(-1.0, 1) for _ in request.params["texts"]]))
    return response({}, 404)


def but(method: str, script: Script) -> Script:
    """Return a script that answers one method otherwise."""

    async def answer(request: Arrived) -> bytes:
        return await (script if request.method == method else well)(request)

    return answer


async def never(request: Arrived) -> bytes:
    """Accept a request and never answer it."""
    await asyncio.Event().wait()
    raise AssertionError


def always(reply: bytes) -> Script:
    """Return a script with one response."""

    async def answer(request: Arrived) -> bytes:
        return reply

    return answer


@contextlib.asynccontextmanager
async def scripted_server(script: Script = well, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """Start a server, and end it afterwards."""
    server = ScriptedServer(script, tls=tls)
    await server.start()
    yield server
    await server.stop()
