"""Bodies that are too large, texts that are too long, and work that ends in an unusual way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

from codegen_lsp.errors import ModelError, WorkerError
from codegen_lsp.http.answers import StreamAnswer, unless_disconnected
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import MAX_TOKENIZED
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult
from tests.http.asgi import exchange, played, played_service
from tests.http.conftest import RunningServer


def test_a_client_that_sends_too_much_sees_why(http_server: RunningServer) -> None:
    """The connection is not reset while it still sends."""
    body = b'{"prompt":"' + b"a" * 12_000_000 + b'"}'
    status, content = http_server.ask("POST", "/completion", body, {"Connection": "close"})
    assert status == 413
    assert b"larger than" in content


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {"content": "a" * (MAX_TOKENIZED + 1)}), ("/detokenize", {"tokens": [1] * (MAX_TOKENIZED + 1)})],
)
def test_long_texts_are_tokenized_in_parts(http_server: RunningServer, path: str, body: dict[str, Any]) -> None:
    """In one, they kept the worker from everything else."""
    status, content = http_server.ask("POST", path, body)
    assert status == 400
    assert b"in parts" in content


async def test_work_that_is_cancelled_from_within_is_a_problem() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    waited_for: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waited_for.cancel()
    with pytest.raises(WorkerError):
        await unless_disconnected(receive, waited_for)


async def test_a_stream_is_closed_when_its_client_leaves_while_it_is_written() -> None:
    closed, written, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.set()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            written.set()
            await asyncio.Event().wait()  # the client does not read

    generator = chunks()
    answer = StreamAnswer(generator, lambda problem: {}, seconds=1e9)
    writing = asyncio.ensure_future(answer({"type": "http"}, receive, send))
    await written.wait()
    left.set()
    await writing
    assert closed.is_set()


@pytest.mark.parametrize(
    ("path", "body"), [("/completion", {"prompt": ["a", "b", "c"]}), ("/v1/completions", {"prompt": ["a", "b", "c"]})]
)
async def test_when_one_prompt_of_several_fails_the_others_are_cancelled(path: str, body: dict[str, Any]) -> None:
    service = played_service(lambda params: ["x"])
    model = played(service)
    model.gate.clear()
    generate = model.generate

    async def fail_the_last(params: GenerateParams) -> GenerateResult:
        if params.prefix == "c":
            while len(model.generated) < 2:  # noqa: ASYNC110 - by the application
                await asyncio.sleep(0)
            raise ModelError("too long")
        return await generate(params)

    model.generate = fail_the_last  # type: ignore[method-assign]
    answer = await exchange(create_app(service, HttpConfig()), "POST", path, body)
    assert (answer.status, answer.json["error"]["message"]) == (500, "too long")
    assert {params.prefix for params in model.cancelled} == {"a", "b"}
    assert service.open_requests == 0
