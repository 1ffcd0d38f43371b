"""The server in this process, with a played model: messages go in as an editor sends them, and come out as JSON."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.errors import ModelError
from codegen_lsp.lsp.server import CodegenServer, create_server
from tests.played_model import PlayedModel
from tests.suggest.conftest import let_no_time_pass

URI = "file:///project/main.py"


def find_build(name: str) -> Path:
    """Every model is installed but the one called missing."""
    if name == "missing":
        raise ModelError("There is no model called 'missing'.", "See `codegen-lsp models list`.")
    return Path("/models") / ("default" if name == "auto" else name)


class Editor:
    """The other side of the connection."""

    def __init__(self) -> None:
        self.models: list[PlayedModel] = []
        self.server: CodegenServer = create_server(self._make_model, find_build)
        self.server.protocol.set_writer(self, include_headers=False)
        let_no_time_pass(self.server.session.suggestions)
        self.sent: list[dict[str, Any]] = []
        """All that the server sent, in order."""
        self.configuration: Any = None
        """What the editor answers when it is asked for settings."""
        self.replies: dict[str, Any] = {}
        """What the editor answers to other requests of the server."""
        self.silent_about: set[str] = set()
        """Requests of the server that the editor doesn't answer."""
        self._ids = itertools.count(1)
        self._arrived = asyncio.Condition()

    def _make_model(self, **callbacks: Any) -> PlayedModel:
        self.models.append(PlayedModel(**callbacks))
        return self.models[-1]

    @property
    def model(self) -> PlayedModel:
        return self.models[-1]

    # As pygls' writer.

    def write(self, data: bytes) -> None:
        message = json.loads(data)
        self.sent.append(message)
        if "method" in message and "id" in message and message["method"] not in self.silent_about:
            result = [self.configuration] if message["method"] == "workspace/configuration" else None
            result = self.replies.get(message["method"], result)
            asyncio.get_running_loop().call_soon(self.send, {"id": message["id"], "result": result})

    def close(self) -> None:
        pass

    # Messages to the server.

    def send(self, message: dict[str, Any]) -> None:
        self.send_raw(json.dumps({"jsonrpc": "2.0"} | message).encode())

    def send_raw(self, body: bytes) -> None:
        self.server.protocol.receive(body)

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"method": method} | ({} if params is None else {"params": params}))

    def begin(self, method: str, params: Any = None) -> int:
        """Send a request; its id."""
        number = next(self._ids)
        self.send({"id": number, "method": method} | ({} if params is None else {"params": params}))
        return number

    async def answer(self, number: int | str | None) -> dict[str, Any]:
        """The answer to the request with this id."""
        return await self.wait_for(lambda message: "method" not in message and message.get("id") == number)

    async def request(self, method: str, params: Any = None) -> Any:
        """The result of a request; an error fails the test."""
        answer = await self.answer(self.begin(method, params))
        assert "error" not in answer, answer
        return answer["result"]

    async def refusal(self, method: str, params: Any = None) -> dict[str, Any]:
        """The error of a request; a result fails the test."""
        answer = await self.answer(self.begin(method, params))
        assert "error" in answer, answer
        return answer["error"]

    async def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is wanted, of those that came and those to come."""
        for _ in range(15_000):
            for message in self.sent:
                if wanted(message):
                    return message
            await asyncio.sleep(0.002)
        raise AssertionError(f"no such message came; these did: {self.sent}")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.002)

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            await asyncio.sleep(0)

    # What editors do.

    async def initialize(self, capabilities: dict[str, Any] | None = None, options: Any = None) -> dict[str, Any]:
        result = await self.request(
            "initialize",
            {"processId": None, "rootUri": None, "capabilities": capabilities or {}, "initializationOptions": options},
        )
        self.notify("initialized", {})
        await self.settle()
        return result

    def open(self, text: str, uri: str = URI, language: str = "python", version: int = 1) -> None:
        item = {"uri": uri, "languageId": language, "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, version: int, *changes: dict[str, Any], uri: str = URI) -> None:
        document = {"uri": uri, "version": version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)})

    def type(self, version: int, line: int, character: int, text: str, uri: str = URI) -> None:
        at = {"line": line, "character": character}
        self.change(version, {"range": {"start": at, "end": at}, "text": text}, uri=uri)

    def begin_completion(
        self, line: int, character: int, *, invoked: bool = False, uri: str = URI, selected: Any = None
    ) -> int:
        context: dict[str, Any] = {"triggerKind": 1 if invoked else 2}
        if selected is not None:
            context["selectedCompletionInfo"] = selected
        position = {"line": line, "character": character}
        return self.begin(
            "textDocument/inlineCompletion",
            {"textDocument": {"uri": uri}, "position": position, "context": context},
        )

    async def complete(self, line: int, character: int, **how: Any) -> list[dict[str, Any]]:
        """The items at a position."""
        answer = await self.answer(self.begin_completion(line, character, **how))
        assert "error" not in answer, answer
        return answer["result"]["items"]

    async def explain(self, uri: str | None = None) -> dict[str, Any]:
        return await self.request("codegen-lsp/explain", {"textDocument": {"uri": uri}} if uri else {})

    def notifications(self, method: str) -> list[Any]:
        return [message["params"] for message in self.sent if message.get("method") == method]

    @property
    def states(self) -> list[str]:
        return [status["state"] for status in self.notifications("codegen-lsp/status")]


@pytest.fixture
async def editor() -> AsyncIterator[Editor]:
    """An editor before `initialize`."""
    editor = Editor()
    yield editor
    await editor.server.session.close()
    assert_all_answered_once(editor)


@pytest.fixture
async def ready(editor: Editor) -> Editor:
    """An editor whose server is initialized and has a model."""
    await editor.initialize()
    return editor


def assert_all_answered_once(editor: Editor) -> None:
    """No request got two answers."""
    ids = [message["id"] for message in editor.sent if "method" not in message and message["id"] is not None]
    assert len(ids) == len(set(ids))


def text_of(items: list[dict[str, Any]]) -> list[str]:
    return [item["insertText"] for item in items]


async def pause(editor: Editor) -> None:
    """Let the pause come that the server waits for, and the idle work that follows it."""
    await editor.settle()
    await editor.server.session.suggestions.pause_timer.fire()


async def look(editor: Editor) -> None:
    """Let the time pass in which a user looks at a suggestion, and the prefetch that follows it."""
    await editor.settle()
    await editor.server.session.suggestions.prefetch_timer.fire()
