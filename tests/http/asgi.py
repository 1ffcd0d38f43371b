"""Requests to the HTTP application in this process, without a socket, over a played model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from attrs import define, field
from starlette.types import ASGIApp

from codegen_lsp.http.completion import CompletionService
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult, LoadParams, StreamedText
from codegen_lsp.settings import Settings
from tests.played_model import Answer, PlayedModel, describe


class PlayedClient(PlayedModel):
    """A played model that keeps its state, as `InferenceClient` does."""

    state: WorkerState = WorkerState("stopped")
    restart_seconds: float | None = None

    async def stream(self, params: GenerateParams, on_text: Callable[[StreamedText], None]) -> GenerateResult:
        """Stream each answer in two parts, the second of which is left to the result."""
        result = await self.generate(params)
        for number, candidate in enumerate(result.candidates):
            on_text(StreamedText(params.stream, number, candidate.text[: len(candidate.text) // 2]))
        return result


def played_service(answer: Answer, name: str = "small-native", settings: Settings | None = None) -> CompletionService:
    """Return a service over a played model that is loaded; `played(service)` is the model."""
    client = PlayedClient(lambda _: None, lambda _: None, answer)
    client.model = describe(name)
    client.state = WorkerState("ready", model=client.model, pid=1)
    return CompletionService(settings or Settings(), LoadParams(name), client)  # type: ignore[arg-type]


def played(service: CompletionService) -> PlayedClient:
    assert isinstance(service.client, PlayedClient)
    return service.client


@define
class Exchange:
    """A request, and what has been answered so far."""

    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""
    chunks: list[bytes] = field(factory=list)
    disconnected: asyncio.Event = field(factory=asyncio.Event)
    """Set it to leave before the answer is whole."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events: JSON, or text that is none."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        return [json.loads(line) if line[:1] in "[{" and line != "[DONE]" else line for line in lines]


async def exchange(
    app: ASGIApp,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    client: str | None = "127.0.0.1",
    into: Exchange | None = None,
) -> Exchange:
    """Send a request and return its answer. `body` is bytes, or becomes JSON; None sends nothing."""
    answer = into or Exchange()
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    sent = {"host": "127.0.0.1:8012", "content-type": "application/json", "content-length": str(len(content))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (sent | (headers or {})).items()],
        "client": None if client is None else (client, 50000),
        "server": ("127.0.0.1", 8012),
    }
    messages = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (message := next(messages, None)) is not None:
            return message
        await answer.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        elif message["body"]:
            answer.chunks.append(message["body"])
            answer.body += message["body"]

    await app(scope, receive, send)
    return answer
