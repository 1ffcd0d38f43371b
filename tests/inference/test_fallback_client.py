"""A server and the local model in its place: who answers, and what is said about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest

from codegen_lsp.errors import ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client import answer_times, remote_client
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.client.fallback_client import FallbackClient
from codegen_lsp.inference.client.remote_client import RemoteClient
from codegen_lsp.inference.rpc import remote
from codegen_lsp.inference.rpc.connection import RequestFailure, failure_reply
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    OriginParams,
    ScoredText,
    ScoreParams,
    WarmParams,
)
from tests.played_model import PlayedModel
from tests.scripted_http import TEXT, Arrived, ScriptedServer, but, never, response, scripted_server, well
from tests.suggest.conftest import HOUR

PARAMS = GenerateParams("file:///main.py", "def f(", "\n")
LOCAL = "local text"
Make = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no answer of the server count as late, however slow this machine is."""
    for name in ("FIRST_LIMIT", "MIN_LIMIT", "MAX_LIMIT"):
        monkeypatch.setattr(answer_times, name, HOUR)
    monkeypatch.setattr(remote_client, "FIRST_LIMIT", HOUR)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes clients, which are closed at the end; the server is probed again an hour later, unless told otherwise."""
    made: list[FallbackClient] = []

    def client(server: ScriptedServer, delay: float = 3600.0) -> FallbackClient:
        states: list[WorkerState] = []

        def local(**callbacks: Any) -> PlayedModel:
            return PlayedModel(**callbacks, answer=lambda _: [LOCAL])

        found = FallbackClient(
            server.address(),
            local,
            on_state=states.append,
            on_progress=lambda _: None,
            make_remote=lambda *args, **how: RemoteClient(*args, **how, delays=(delay,)),
        )
        found.states = states  # type: ignore[attr-defined]
        made.append(found)
        return found

    yield client
    for one in made:
        await one.close()


async def connected(client: Any) -> Any:
    await client.load(LoadParams("/models/native-small"))
    await until(lambda: client.remote.ready)
    return client


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - states are not events
            await asyncio.sleep(0.005)


async def answer_of(client: FallbackClient, **changes: Any) -> str:
    result = await client.generate(attrs.evolve(PARAMS, **changes))
    return result.candidates[0].text


@pytest.mark.usefixtures("patient")
async def test_the_server_answers_while_it_is_there(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    assert await answer_of(client) == TEXT
    assert client.local.generated == []
    assert client.state.phase == "ready"
    assert client.state.model.name == "native-big"
    assert client.state.message == f"Connected to {server.url}: native-big."
    await client.warm(WarmParams("d", "x"))
    assert len(server.asked(remote.WARM)) == len(client.local.warmed) == 1  # either may answer next
    await client.score(ScoreParams("d", [ScoredText("a", "b")]))
    assert client.local.scored == []


@pytest.mark.usefixtures("patient")
async def test_a_killed_server_is_replaced_within_the_request(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server, 0.01))
    server.script = but(remote.GENERATE, never)
    request = asyncio.create_task(answer_of(client))
    await until(lambda: server.asked(remote.GENERATE))
    await server.stop()
    assert await request == LOCAL
    assert client.state.phase == "ready"
    assert client.state.model.name == "native-small"
    assert client.state.message.startswith(f"Using the local model native-small, because {server.url} ")
    asked = len(server.arrived)
    assert await answer_of(client) == LOCAL
    assert len(server.arrived) == asked  # at once
    await client.score(ScoreParams("d", [ScoredText("a", "b")]))
    assert len(client.local.scored) == 1
    server.script = well
    await server.start()
    await until(lambda: client.remote.ready)
    assert await answer_of(client) == TEXT
    assert client.state.model.name == "native-big"


async def test_a_server_that_does_not_answer_is_overtaken(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    server.script = never
    assert await answer_of(client) == LOCAL
    assert "is late" in client.state.message
    await until(lambda: server.asked(remote.GENERATE)[0].left.is_set())


async def test_a_late_answer_counts_if_it_comes_first(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    gate = asyncio.Event()

    async def late(request: Arrived) -> bytes:
        await gate.wait()
        return await well(request)

    server.script = but(remote.GENERATE, late)
    client.local.gate.clear()
    request = asyncio.create_task(answer_of(client))
    await until(lambda: client.local.generated)
    gate.set()
    assert await request == TEXT
    assert client.remote.ready
    await until(lambda: client.local.cancelled)


async def test_a_late_server_without_a_local_model_is_waited_for(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    gate = asyncio.Event()

    async def late(request: Arrived) -> bytes:
        await gate.wait()
        return await well(request)

    server.script = but(remote.GENERATE, late)
    client.local.generate_error = WorkerError("No model is loaded.")
    request = asyncio.create_task(answer_of(client))
    await until(lambda: client.local.generated)
    gate.set()
    assert await request == TEXT


async def test_cancelling_ends_both_generations(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    server.script = but(remote.GENERATE, never)
    client.local.gate.clear()
    request = asyncio.create_task(answer_of(client))
    await until(lambda: client.local.generated)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await until(lambda: client.local.cancelled)
    await until(lambda: server.asked(remote.GENERATE)[0].left.is_set())


async def test_typing_past_every_request_goes_on_with_the_local_model(server: ScriptedServer, make: Make) -> None:
    """Each key cancels the request before it, sooner than the server would be late."""
    client = await connected(make(server))
    await answer_of(client)
    server.script = never
    answers: list[str] = []
    async with asyncio.timeout(60):
        while not answers:
            request = asyncio.create_task(answer_of(client))
            done, _ = await asyncio.wait({request}, timeout=client.remote.limit(PARAMS) / 2)
            if done:
                answers.append(request.result())
            request.cancel()
    assert answers == [LOCAL]


@pytest.mark.usefixtures("patient")
async def test_a_request_that_only_the_server_refuses(server: ScriptedServer, make: Make) -> None:
    async def failing(request: Arrived) -> bytes:
        return response({"instance": "first"} | failure_reply(RequestFailure("model", "Bad")))

    client = await connected(make(server))
    server.script = but(remote.GENERATE, failing)
    assert await answer_of(client) == LOCAL
    assert client.remote.ready


@pytest.mark.usefixtures("patient")
async def test_a_superseded_request_is_not_answered_by_another_model(server: ScriptedServer, make: Make) -> None:
    async def superseded(request: Arrived) -> bytes:
        return response({"instance": "first"} | failure_reply(RequestFailure("superseded", "")))

    client = await connected(make(server))
    server.script = but(remote.GENERATE, superseded)
    with pytest.raises(SupersededError):
        await answer_of(client)
    assert client.local.generated == []


@pytest.mark.usefixtures("patient")
async def test_background_work_is_for_one_model(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    assert await answer_of(client, background=True) == TEXT
    await server.stop()
    with pytest.raises(WorkerError):
        await answer_of(client, background=True)
    assert client.local.generated == []
    assert await answer_of(client, background=True) == LOCAL


async def test_the_index_stays_here(server: ScriptedServer, make: Make) -> None:
    client = await connected(make(server))
    await client.update_index(IndexUpdate("key"))
    await client.index_state(IndexStateParams("key"))
    await client.origin(OriginParams("a", "b"))
    assert client.local.index_updates == [IndexUpdate("key")]
    assert len(client.local.origins_asked) == 1
    assert [one.method for one in server.arrived] == [remote.HANDSHAKE]


@pytest.mark.usefixtures("patient")
async def test_the_local_model_answers_while_the_server_is_connected_to(make: Make) -> None:
    async with scripted_server(never) as server:
        client = make(server)
        await client.load(LoadParams("/models/native-small"))
        assert client.state.phase == "ready"
        assert client.state.message == f"Using the local model native-small. Connecting to {server.url}."
        assert await answer_of(client) == LOCAL
        server.script = well
        await client.restart()
        await until(lambda: client.remote.ready)
        assert client.local.restarts == 1
        assert await answer_of(client) == TEXT


@pytest.mark.usefixtures("patient")
async def test_a_local_model_that_can_not_be_loaded(make: Make) -> None:
    async with scripted_server() as server:
        client = make(server)
        client.local.broken["native-small"] = ModelError("It is truncated.")
        assert (await client.load(LoadParams("/models/native-small"))).name == "native-big"
        assert client.state.phase == "ready"
        assert await answer_of(client) == TEXT
        await server.stop()
        with pytest.raises(WorkerError):
            await answer_of(client)
        assert client.state.phase == "failed"
        assert client.state.message.startswith(server.url)
        assert client.state.message.endswith("It is truncated.")
    gone = make(server)
    gone.local.broken["native-small"] = ModelError("It is truncated.")
    with pytest.raises(ModelError, match="truncated"):
        await gone.load(LoadParams("/models/native-small"))


@pytest.mark.usefixtures("patient")
async def test_a_server_that_goes_away_before_the_local_model_is_loaded(server: ScriptedServer, make: Make) -> None:
    client = make(server)
    client.local.loading.clear()
    loading = asyncio.create_task(client.load(LoadParams("/models/native-small")))
    await until(lambda: client.remote.ready)
    await server.stop()
    request = asyncio.create_task(answer_of(client))
    await until(lambda: not client.remote.ready)
    assert client.state.phase == "loading"
    client.local.loading.set()
    assert await request == LOCAL
    await loading


async def test_all_requests_of_a_server_that_goes_away_are_answered(server: ScriptedServer, make: Make) -> None:
    """Those that nothing else would end for half a minute, too."""
    client = await connected(make(server))
    server.script = never
    scoring = asyncio.create_task(client.score(ScoreParams("d", [ScoredText("a", "b")])))
    warming = asyncio.create_task(client.warm(WarmParams("d", "x")))
    await until(lambda: len(server.arrived) >= 3)
    assert len((await scoring).scores) == 1
    await warming
    assert not client.remote.ready
    assert len(client.local.scored) == 1


@pytest.mark.usefixtures("patient")
async def test_states_are_those_of_the_model_that_answers(server: ScriptedServer, make: Make) -> None:
    client = make(server)
    client.local.loading.clear()
    loading = asyncio.create_task(client.load(LoadParams("/models/native-small")))
    await until(lambda: client.remote.ready)
    assert client.state.model.name == "native-big"  # before the local model is loaded
    assert await answer_of(client) == TEXT
    client.local.loading.set()
    await loading
    assert [state.phase for state in client.states if state.model][:3] == ["ready", "busy", "ready"]
    assert {state.model.name for state in client.states if state.model} == {"native-big"}
