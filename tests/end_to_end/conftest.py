"""A client for LSP 3.18, the server as an editor starts it, and the real worker with a real build."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.protocol import default_converter
from pytest_lsp import LanguageClient
from pytest_lsp.client import register_lsp_features
from pytest_lsp.protocol import LanguageClientProtocol

SERVE = "import sys; from codegen_lsp.lsp.serve import serve_stdio; sys.exit(serve_stdio())"
OBSERVED = (
    "import sys; from codegen_lsp.inference.client import launch; "
    f"launch.worker_command = lambda: [sys.executable, {str(Path(__file__).parent / 'observed_worker.py')!r}]; "
) + SERVE
ANSWER_TIMEOUT = 60.0
"""Seconds until a test gives up on something that must happen."""


class Recording(LanguageClientProtocol):
    """Keeps all messages of the server."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        if "jsonrpc" in data:
            self._server.received.append(dict(data))  # type: ignore[attr-defined]
        return super().structure_message(data)


class Client(LanguageClient):
    """An editor."""

    def __init__(self) -> None:
        super().__init__(protocol_cls=Recording, converter_factory=default_converter)
        self.received: list[dict[str, Any]] = []
        self.runtime = tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"])
        """Folder of its server's worker: its own, unless another client gets the same."""

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Do nothing: answers to malformed messages have ids that pygls' client does not know."""

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [message["params"] for message in self.received if message.get("method") == "codegen-lsp/status"]

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Messages shown to the user."""
        methods = ("window/showMessage", "window/showMessageRequest")
        return [message for message in self.received if message.get("method") in methods]

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until a condition holds; return its value."""
        async with asyncio.timeout(ANSWER_TIMEOUT):
            while not (value := holds()):  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.01)
        return value

    async def status(self, *states: str, after: int = 0) -> dict[str, Any]:
        """Wait for a status with one of these states, skipping the first `after`; return it."""
        return await self.until(
            lambda: next((status for status in self.statuses[after:] if status["state"] in states), None)
        )

    async def start(
        self,
        build: Path,
        program: str = SERVE,
        options: dict[str, Any] | None = None,
        folders: Sequence[Path] = (),
        **env: str,
    ) -> None:
        """Start the server and initialize it with a model and workspace folders."""
        await self.launch(sys.executable, "-c", program, **env)
        await self.initialize(build, options, folders)

    async def launch(self, *command: str, **env: str) -> None:
        await self.start_io(*command, env={**os.environ, "XDG_RUNTIME_DIR": self.runtime, **env})

    async def initialize(
        self, build: Path, options: dict[str, Any] | None = None, folders: Sequence[Path] = ()
    ) -> None:
        capabilities = types.ClientCapabilities(
            window=types.WindowClientCapabilities(work_done_progress=True),
            text_document=types.TextDocumentClientCapabilities(
                inline_completion=types.InlineCompletionClientCapabilities()
            ),
        )
        # These tests are not about the quality of suggestions.
        settings = {"model": str(build), "threads": 2, "cache": {"memory_mb": 64}}
        settings |= {"threshold": 0, "ablate": ["correctness"]} | (options or {})
        await self.initialize_session(
            types.InitializeParams(
                capabilities=capabilities,
                initialization_options=settings,
                workspace_folders=[types.WorkspaceFolder(folder.as_uri(), folder.name) for folder in folders] or None,
            )
        )

    def send_raw(self, body: bytes) -> None:
        """Send bytes as one message."""
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def open(self, uri: str, text: str, language: str = "python") -> None:
        self.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, language, 1, text)))

    def change(self, uri: str, version: int, *changes: types.TextDocumentContentChangeEvent) -> None:
        self.text_document_did_change(
            types.DidChangeTextDocumentParams(types.VersionedTextDocumentIdentifier(version, uri), list(changes))
        )

    def type(self, uri: str, version: int, line: int, character: int, text: str) -> None:
        at = types.Position(line, character)
        self.change(uri, version, types.TextDocumentContentChangePartial(types.Range(at, at), text))

    def request(self, uri: str, line: int, character: int, *, invoked: bool = False) -> asyncio.Future[Any]:
        """Request suggestions; return a future of the answer, with the request's id as `number`."""
        kind = types.InlineCompletionTriggerKind.Invoked if invoked else types.InlineCompletionTriggerKind.Automatic
        future = self.text_document_inline_completion(
            types.InlineCompletionParams(
                types.InlineCompletionContext(kind), types.TextDocumentIdentifier(uri), types.Position(line, character)
            )
        )
        number = next(number for number, known in self.protocol._request_futures.items() if known is future)
        wrapped = asyncio.wrap_future(future)
        wrapped.number = number  # type: ignore[attr-defined]
        return wrapped

    async def complete(
        self, uri: str, line: int, character: int, *, invoked: bool = False
    ) -> list[types.InlineCompletionItem]:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            answer = await self.request(uri, line, character, invoked=invoked)
        return list(answer.items)

    def cancel(self, future: asyncio.Future[Any]) -> None:
        """Send `$/cancelRequest` for a request."""
        self.protocol.notify("$/cancelRequest", types.CancelParams(future.number))  # type: ignore[attr-defined]

    async def explain(self, uri: str | None = None) -> dict[str, Any]:
        params = {"textDocument": {"uri": uri}} if uri else {}
        number = f"explain-{len(self.received)}"
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self.protocol.send_request_async("codegen-lsp/explain", params, msg_id=number)
        return next(message["result"] for message in reversed(self.received) if message.get("id") == number)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client without a server. A server that it starts is shut down at the end."""
    client = new_client()
    yield client
    await end(client)


@pytest.fixture
async def window(client: Client) -> AsyncIterator[Client]:
    """Another client, of the same user."""
    other = new_client()
    other.runtime = client.runtime
    yield other
    await end(other)


def new_client() -> Client:
    client = Client()
    register_lsp_features(client)
    client.feature("codegen-lsp/status")(lambda params: None)
    return client


async def end(client: Client) -> None:
    """Shut down a client's server, if it has one."""
    server = client._server
    if server is None:
        return
    if server.returncode is None and client.capabilities is not None:
        await asyncio.wait_for(client.shutdown_session(), ANSWER_TIMEOUT)
        assert server.returncode == 0
    await client.stop()


@pytest.fixture(scope="session")
def source() -> str:
    """A real Python file."""
    return Path(json.__file__).with_name("decoder.py").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def without_network() -> list[str]:
    """Prefix of a command line that runs the rest without a network."""
    command = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow network namespaces")
    return command
