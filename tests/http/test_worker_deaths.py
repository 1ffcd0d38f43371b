"""A worker that dies again and again, as the clients of the HTTP server see it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve

from tests import needs

needs.extra("serve")

from starlette.applications import Starlette

from codegen_lsp.errors import WorkerError
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService, server_load_params
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.inference.client import restarts
from codegen_lsp.inference.client.client import InferenceClient, WorkerState
from codegen_lsp.settings import Settings
from tests.http.asgi import exchange, played, played_service

WAIT_SECONDS = 50.0
"""Longer than the requests take that are put off."""
REQUESTS = {
    "/completion": {"prompt": "import ", "n_predict": 2},
    "/v1/completions": {"prompt": "import ", "max_tokens": 2, "stream": True},
    "/api/generate": {"model": "m", "prompt": "import ", "options": {"num_predict": 2}},
    "/tokenize": {"content": "import"},
}


@pytest.fixture
async def service(embedded_build: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CompletionService]:
    """A service whose worker stays down after its third death."""
    monkeypatch.setattr(restarts, "CRASHES", 3)
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (0.0,))
    monkeypatch.setattr(restarts, "UNATTENDED_SECONDS", WAIT_SECONDS)
    load = evolve(server_load_params(Settings(), embedded_build), threads=1, shared=False)
    made = CompletionService(Settings(), load, InferenceClient(unattended=True))
    await made.start()
    yield made
    await made.close()


async def _until_ready(app: Starlette) -> None:
    while (await exchange(app, "GET", "/health")).status != 200:  # noqa: ASYNC110 - by the client of the worker
        await asyncio.sleep(0.01)


async def test_requests_are_put_off_until_the_worker_runs_again(service: CompletionService) -> None:
    app = create_app(service, HttpConfig())
    for _ in range(3):
        await _until_ready(app)
        pid = service.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while service.state.phase == "ready":  # noqa: ASYNC110 - until the client has noticed
            await asyncio.sleep(0.01)
    for path, body in REQUESTS.items():
        refused = await exchange(app, "POST", path, body)
        assert refused.status == 503, path
        assert 1 <= int(refused.headers["retry-after"]) <= WAIT_SECONDS
        assert "signal 9" in str(refused.json["error"])
    unwell = await exchange(app, "GET", "/health")
    assert unwell.status == 503
    assert 1 <= int(unwell.headers["retry-after"]) <= WAIT_SECONDS
    await service.client.restart()
    await _until_ready(app)
    assert (await exchange(app, "POST", "/completion", REQUESTS["/completion"])).status == 200


@pytest.mark.parametrize(("seconds", "header"), [(None, "1"), (0.2, "1"), (39.5, "40")])
@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_the_reason_is_told_on_this_machine_alone(path: str, seconds: float | None, header: str) -> None:
    service = played_service(lambda _: [])
    played(service).state = WorkerState("failed", "Ended. No file /home/me/model.", "It is started again.")
    played(service).restart_seconds = seconds
    for host, told in (("127.0.0.1", True), ("192.0.2.1", False)):
        answer = await exchange(create_app(service, HttpConfig(host=host), guarded=False), "GET", path)
        assert (answer.status, answer.headers["retry-after"]) == (503, header)
        assert ("/home/me" in answer.body.decode()) is told
        assert answer.json["error"]["message"]


async def test_a_request_whose_worker_dies_may_be_sent_again() -> None:
    service = played_service(lambda _: [])
    played(service).generate_error = WorkerError("The inference worker ended.")
    for path, body in REQUESTS.items():
        if path != "/tokenize":
            answer = await exchange(create_app(service, HttpConfig()), "POST", path, body)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
