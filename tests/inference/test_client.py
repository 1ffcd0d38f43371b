"""The client with real worker processes: start, cancel, kill, restart, close."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from codegen_lsp.errors import ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client import launch, restarts, worker_connection
from codegen_lsp.inference.client.client import InferenceClient, WorkerState
from codegen_lsp.inference.client.worker_connection import WorkerConnection
from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    LoadParams,
    LoadProgress,
    StopRules,
    StreamedText,
    WarmParams,
)
from tests.children import children_with
from tests.inference.conftest import ObservedWorker

PREFIX = "import os\n\n\ndef read_lines(path):\n    with open(path) as file:\n        for line in fi"
LONG = StopRules(max_tokens=900, max_lines=10_000)
SHORT = StopRules(max_tokens=8, max_lines=1)


class Watched(InferenceClient):
    """A client that keeps all its states."""

    def __init__(self, *, unattended: bool = False) -> None:
        self.states: list[WorkerState] = []
        self.progress: list[LoadProgress] = []
        self.changed = asyncio.Event()
        super().__init__(on_state=self._note, on_progress=self.progress.append, unattended=unattended)

    def _note(self, state: WorkerState) -> None:
        self.states.append(state)
        self.changed.set()

    async def until(self, *phases: str) -> None:
        async with asyncio.timeout(60):
            while self.state.phase not in phases:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def client() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.close()


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def params(request: pytest.FixtureRequest, embedded_build: Path) -> LoadParams:
    return LoadParams(str(embedded_build), threads=1, shared=request.param)


def request(document: str = "a", stop: StopRules = SHORT, prefix: str = PREFIX) -> GenerateParams:
    return GenerateParams(document, prefix, stop=stop)


async def test_load_generate_close(client: Watched, params: LoadParams) -> None:
    model = await client.load(params)
    assert model.engine in ("ct2", "native")
    assert [state.phase for state in client.states][:3] == ["starting", "loading", "ready"]
    assert client.progress[-1].fraction == 1.0
    result = await client.generate(request())
    assert result.stats.prompt_tokens > 5
    pid = client.state.pid
    assert pid is not None
    await client.close()
    assert not psutil.pid_exists(pid)
    assert client.state.phase == "stopped"


async def test_the_worker_stays_light_with_ct2(client: Watched, embedded_build: Path) -> None:
    """Loading torch takes a second and a third of a gigabyte."""
    await client.load(LoadParams(str(embedded_build), engine="ct2", threads=1))
    maps = Path(f"/proc/{client.state.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    assert "libtorch" not in maps.read_text()


async def test_cancelling_stops_the_computation(
    client: Watched, observed: ObservedWorker, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract test checks that it ends within one token; this one, that the cancellation arrives."""
    monkeypatch.setenv("CODEGEN_LSP_LOG", "info")
    await client.load(params)
    endless = request(stop=LONG, prefix="x = [\n" + "    1,\n" * 50)
    whole = await client.generate(endless)
    assert whole.stats.generated_tokens > 100
    observed.slow_down()
    task = asyncio.create_task(client.generate(endless))
    await observed.first_token()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    observed.speed_up()
    assert (await client.generate(request("b"))).stats.generated_tokens > 0
    (line,) = [line for line in client.stderr if "cancelled after" in line]
    assert int(line.split()[-2]) < whole.stats.generated_tokens


async def test_text_is_streamed_as_it_is_generated(client: Watched, params: LoadParams) -> None:
    """The parts and the end in the result are the whole text, and come before the result."""
    await client.load(params)
    rules = StopRules(max_tokens=40, max_lines=8, strings=["zzz", "\n\n\n"])
    parts: list[StreamedText] = []
    wanted = evolve(request(stop=rules), top_logprobs=2, distinct=False)
    result = await client.stream(wanted, parts.append)
    (candidate,) = result.candidates
    streamed = "".join(part.text for part in parts)
    assert len(parts) > 3
    assert candidate.text.startswith(streamed)
    assert "".join(token.text for token in candidate.generated) == candidate.text
    tokens = [token for part in parts for token in part.tokens]
    assert tokens == candidate.generated[: len(tokens)]
    assert all(len(token.alternatives) == 2 for token in tokens[1:])


async def test_a_newer_request_supersedes_an_older_one_of_its_document(
    client: Watched, observed: ObservedWorker, params: LoadParams
) -> None:
    await client.load(params)
    observed.slow_down()
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(client.generate(request(stop=LONG, prefix=PREFIX + "l" * number))))
        await asyncio.sleep(0)
    await asyncio.wait(tasks[:-1])
    observed.speed_up()
    other = asyncio.create_task(client.generate(request("other")))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[:-1]] == [SupersededError] * 5
    assert not isinstance(results[-1], BaseException)
    assert (await other).stats.generated_tokens > 0


async def test_more_requests_than_the_worker_takes_at_once_wait(client: Watched, params: LoadParams) -> None:
    """The worker ends the connection of a client that opens too many. Cancelled ones count until they are answered."""
    await client.load(params)
    pid = client.state.pid
    several = [evolve(request(str(at), evolve(SHORT, max_tokens=1)), user="a") for at in range(rpc.MAX_REQUESTS + 40)]
    cancelled = [asyncio.create_task(client.generate(one)) for one in several]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()
    results = await asyncio.gather(*map(client.generate, several), return_exceptions=True)
    assert [one for one in results if isinstance(one, BaseException)] == []
    assert client.state.pid == pid


async def test_requests_that_wait_fail_when_the_worker_ends(client: Watched, params: LoadParams) -> None:
    await client.load(params)
    several = [evolve(request(str(at), LONG), user="a") for at in range(rpc.MAX_REQUESTS + 40)]
    tasks = [asyncio.create_task(client.generate(one)) for one in several]
    await client.until("busy")
    assert client.state.pid is not None
    os.kill(client.state.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in results} == {WorkerError}


async def test_a_killed_worker_is_replaced(client: Watched, observed: ObservedWorker, params: LoadParams) -> None:
    await client.load(params)
    observed.slow_down()
    task = asyncio.create_task(client.generate(request(stop=LONG)))
    await observed.first_token()
    pid = client.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError):
        await task
    with pytest.raises(WorkerError):
        await client.generate(request())
    observed.speed_up()
    await client.until("ready")
    assert client.state.pid != pid
    assert (await client.generate(request())).stats.generated_tokens > 0
    assert any("signal 9" in state.message for state in client.states)


def test_a_killed_worker_is_replaced_in_an_event_loop_of_uvloop(params: LoadParams) -> None:
    """Its streams raise other errors than asyncio's once they are closed. Ray Serve uses it."""
    uvloop = pytest.importorskip("uvloop")

    async def kill_and_ask_again() -> None:
        client = Watched()
        await client.load(evolve(params, shared=False))
        task = asyncio.create_task(client.generate(request(stop=LONG)))
        await client.until("busy")
        assert client.state.pid is not None
        os.kill(client.state.pid, signal.SIGKILL)
        with pytest.raises(WorkerError):
            await task
        await client.until("ready")
        assert (await client.generate(request())).stats.generated_tokens > 0
        await client.close()

    uvloop.run(kill_and_ask_again())


async def test_a_restart_that_fails_unexpectedly_is_shown(
    client: Watched, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.load(params)

    async def fail() -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(client, "_end_connection", fail)
    assert client.state.pid is not None
    os.kill(client.state.pid, signal.SIGKILL)
    await client.until("failed")
    monkeypatch.undo()
    await client.restart()
    assert client.state.phase == "ready"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_connection, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(worker_connection, "TICK", 0.1)
    monkeypatch.setattr(worker_connection, "LOADING_TICKS", 600)


async def test_a_worker_that_hangs_is_replaced(client: Watched, params: LoadParams, impatient: None) -> None:
    await client.load(params)
    task = asyncio.create_task(client.generate(request(stop=LONG)))
    await client.until("busy")
    pid = client.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerError):
        await task
    await client.until("ready")
    assert client.state.pid != pid
    assert any("no longer answered" in state.message for state in client.states)
    assert not psutil.pid_exists(pid)


async def test_a_second_server_does_not_wait_for_a_worker_that_hangs(
    client: Watched, embedded_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_connection, "JOIN_TIMEOUT", 1.0)
    params = LoadParams(str(embedded_build), threads=1, shared=True)
    await client.load(params)
    pid = client.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    second = Watched()
    try:
        await second.load(params)
        assert second.state.pid not in (None, pid)
        assert (await second.generate(request())).stats.generated_tokens > 0
    finally:
        await second.close()
        with suppress(ProcessLookupError):  # the first server may have noticed by now, and ended it
            os.kill(pid, signal.SIGCONT)


async def test_a_busy_worker_answers_pings(client: Watched, observed: ObservedWorker, params: LoadParams) -> None:
    await client.load(params)
    observed.slow_down()
    task = asyncio.create_task(client.generate(request(stop=LONG)))
    await observed.first_token()
    assert client._connection is not None
    _, pong = client._connection.peer.request(rpc.PING, None)
    assert (await pong) == {"value": True}
    assert not task.done()
    task.cancel()


async def test_a_worker_that_keeps_dying_stays_down_until_restarted(
    client: Watched, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(restarts, "CRASHES", 3)
    await client.load(params)
    for _ in range(restarts.CRASHES):
        await client.until("ready")
        pid = client.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        client.changed.clear()
        await client.changed.wait()
    await client.until("failed")
    assert "restart" in client.state.advice
    await client.restart()
    assert client.state.phase == "ready"


@pytest.fixture
async def unattended() -> AsyncIterator[Watched]:
    made = Watched(unattended=True)
    yield made
    await made.close()


async def test_where_nobody_restarts_it_a_worker_that_keeps_dying_is_started_again(
    unattended: Watched, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(restarts, "CRASHES", 3)
    monkeypatch.setattr(restarts, "UNATTENDED_SECONDS", 0.01)
    await unattended.load(params)
    for _ in range(restarts.CRASHES + 2):
        await unattended.until("ready")
        pid = unattended.state.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        unattended.changed.clear()
        await unattended.changed.wait()
    await unattended.until("ready")
    assert "failed" not in {state.phase for state in unattended.states}
    assert (await unattended.generate(request())).stats.generated_tokens > 0


async def test_while_it_waits_for_its_restart_requests_are_told_how_long(
    unattended: Watched, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (40.0,))
    await unattended.load(params)
    assert unattended.restart_seconds is None
    assert unattended.state.pid is not None
    os.kill(unattended.state.pid, signal.SIGKILL)
    await unattended.until("starting")
    with pytest.raises(WorkerError, match="in 40 s") as raised:
        await unattended.generate(request())
    assert raised.value.retry_seconds is not None
    assert 0 < raised.value.retry_seconds <= 40
    await unattended.restart()
    assert unattended.restart_seconds is None
    assert unattended.state.phase == "ready"


async def test_where_nobody_restarts_it_a_worker_that_can_not_be_started_or_load_is_tried_again(
    unattended: Watched, embedded_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (0.0,))
    monkeypatch.setattr(restarts, "UNATTENDED_SECONDS", 0.01)
    command = launch.worker_command
    monkeypatch.setattr(launch, "worker_command", lambda: [str(tmp_path / "no-program")])
    build = tmp_path / "build"
    with pytest.raises(WorkerError, match="can't be started"):
        await unattended.load(LoadParams(str(build), threads=1, shared=False))
    monkeypatch.setattr(launch, "worker_command", command)
    while unattended.state.phase != "failed" or unattended.state.pid is None:  # it started, and found no model
        unattended.changed.clear()
        await unattended.changed.wait()
    shutil.copytree(embedded_build, build)
    await unattended.until("ready")


async def test_a_broken_build_is_reported_and_another_can_be_loaded(
    client: Watched, params: LoadParams, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"build\.json"):
        await client.load(LoadParams(str(tmp_path)))
    assert client.state.phase == "failed"
    assert client.state.advice
    with pytest.raises(WorkerError):
        await client.generate(request())
    await client.load(params)
    assert client.state.phase == "ready"


async def test_a_truncated_model_is_named(client: Watched, embedded_build: Path, tmp_path: Path) -> None:
    for file in embedded_build.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="truncated"):
        await client.load(LoadParams(str(tmp_path)))


async def test_loading_again_keeps_the_process(client: Watched, params: LoadParams) -> None:
    await client.load(params)
    pid = client.state.pid
    await client.load(params)
    assert client.state.pid == pid
    assert (await client.generate(request())).candidates is not None


async def test_warming_makes_the_next_request_hit_the_cache(client: Watched, params: LoadParams) -> None:
    await client.load(params)
    text = "".join(f"value_{n} = {n} * scale  # one of many\n" for n in range(60))
    await client.warm(WarmParams("a", text))
    assert (await client.generate(request(prefix=text + "value_"))).stats.cached_tokens > 200


async def test_background_generation_is_superseded_and_does_not_show_as_busy(
    client: Watched, observed: ObservedWorker, params: LoadParams
) -> None:
    await client.load(params)
    observed.slow_down()
    text = "x = [\n" + "    1,\n" * 50
    prefetch = asyncio.create_task(client.generate(GenerateParams("a", text, stop=LONG, background=True)))
    await observed.first_token()
    assert client.state.phase == "ready"
    assert (await client.generate(request("b"))).stats.generated_tokens > 0
    with pytest.raises(SupersededError):
        await prefetch
    observed.speed_up()
    undisturbed = await client.generate(GenerateParams("a", text, stop=SHORT, background=True))
    assert undisturbed.stats.generated_tokens > 0


async def test_the_worker_ignores_signals_of_a_terminal_and_obeys_sigterm(
    client: Watched, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever dispositions it inherits. Shells start background jobs with SIGINT ignored."""
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (600.0, 600.0, 600.0, 600.0))
    inherited = {signal.SIGINT: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_IGN}
    before = {number: signal.signal(number, disposition) for number, disposition in inherited.items()}
    try:
        await client.load(params)
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)
    pid = client.state.pid
    assert pid is not None
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert (await client.generate(request())).stats.generated_tokens > 0
    os.kill(pid, signal.SIGTERM)
    await client.until("starting")
    assert "signal 15" in client.state.message


async def test_cancelled_requests_leave_nothing_behind(client: Watched, params: LoadParams) -> None:
    await client.load(params)
    for _ in range(5):
        task = asyncio.create_task(client.generate(request(stop=LONG)))
        await client.until("busy")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await client.generate(request())
    connection = client._connection
    assert connection is not None
    while connection.peer.open_requests:  # noqa: ASYNC110 - a ping may be open beside them, which is answered
        await asyncio.sleep(0.01)


async def test_closing_while_it_starts_leaves_no_worker(params: LoadParams) -> None:
    client = Watched()
    loading = asyncio.create_task(client.load(params))
    await client.until("starting")
    await client.close()
    with pytest.raises(WorkerError):
        await loading
    with pytest.raises(WorkerError):
        await client.load(params)
    assert not children_with("codegen_lsp.inference.worker")


async def test_without_a_model_there_is_a_clear_error(client: Watched) -> None:
    with pytest.raises(WorkerError):
        await client.generate(request())
    await client.warm(WarmParams("a", "x"))


def test_no_worker_outlives_a_killed_server(embedded_build: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from codegen_lsp.inference.client.client import InferenceClient\n"
        "from codegen_lsp.inference.rpc.messages import GenerateParams, LoadParams, StopRules\n"
        "async def main():\n"
        "    client = InferenceClient()\n"
        f"    await client.load(LoadParams({str(embedded_build)!r}, threads=1))\n"
        "    print(client.state.pid, flush=True)\n"
        "    while True:\n"
        "        await client.generate(GenerateParams('a', 'x = 1\\n' * 200, stop=StopRules(900, 10000)))\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        server.kill()
        server.wait()
        assert worker.wait(timeout=30) is not None or not worker.is_running()


async def test_a_private_worker_that_dies_at_start_is_reported(
    client: Watched, embedded_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; sys.exit('out of order')"
    monkeypatch.setattr(launch, "worker_command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (0.0, 0.0, 0.0, 0.0))
    with pytest.raises(WorkerError, match=r"exit code 1\. out of order"):
        await client.load(LoadParams(str(embedded_build), threads=1, shared=False))
    await client.until("failed")


async def test_a_worker_whose_stream_closes_before_it_exits_is_reported_with_the_cause(
    client: Watched, embedded_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import os, sys, time; os.close(0); os.close(1); time.sleep(1); sys.exit('out of order')"
    monkeypatch.setattr(launch, "worker_command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(restarts, "BACKOFF_SECONDS", (60.0,) * 4)
    monkeypatch.setattr(worker_connection, "EXIT_TIMEOUT", 60.0)
    open_worker = client._open

    async def open_and_wait(params: LoadParams) -> WorkerConnection:
        connection = await open_worker(params)
        while not connection.worker.writer.is_closing():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
        return connection

    monkeypatch.setattr(client, "_open", open_and_wait)
    with pytest.raises(WorkerError, match=r"exit code 1\. out of order"):
        await client.load(LoadParams(str(embedded_build), threads=1, shared=False))
