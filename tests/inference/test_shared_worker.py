"""One worker for several servers: which servers share it, and that none affects another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import attrs
import psutil
import pytest

from codegen_lsp.errors import ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client import launch, shared_worker, worker_connection
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc import endpoint
from codegen_lsp.inference.rpc.endpoint import Endpoint
from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult, LoadParams, StopRules
from codegen_lsp.inference.worker import server as worker_server
from codegen_lsp.settings import Settings, structure_settings
from codegen_lsp.suggest.options import load_params
from tests.inference.conftest import ObservedWorker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")

ENDLESS = GenerateParams("a", "x = [\n" + "    1,\n" * 50, stop=StopRules(max_tokens=900, max_lines=10_000))
SHORT = GenerateParams("a", "def add(a, b):\n    return a +", stop=StopRules(max_tokens=8))

SERVER = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job of a shell
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import LoadParams
async def main():
    client = InferenceClient()
    await client.load(LoadParams(sys.argv[1], threads=1, shared=True))
    print(client.state.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the endpoints of one test. Its path is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="cl-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield Path(runtime) / "codegen-lsp"


@pytest.fixture
def params(embedded_build: Path) -> LoadParams:
    return LoadParams(str(embedded_build), threads=1, shared=True)


@pytest.fixture
async def make() -> AsyncIterator[Callable[[], InferenceClient]]:
    made: list[InferenceClient] = []

    def client() -> InferenceClient:
        made.append(InferenceClient())
        return made[-1]

    yield client
    for one in made:
        await one.close()


def server(params: LoadParams) -> subprocess.Popen[str]:
    """Start a process with a client. It prints the worker's pid when the model is loaded."""
    command = [sys.executable, "-c", SERVER, params.build]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


def alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def endpoint_of(client: InferenceClient) -> Endpoint | None:
    assert client._connection is not None
    return client._connection.endpoint


async def works(client: InferenceClient) -> bool:
    return (await client.generate(SHORT)).stats.generated_tokens > 0


Make = Callable[[], InferenceClient]


async def test_two_servers_use_one_worker_that_exits_with_the_last(
    make: Make, params: LoadParams, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_connection, "EXIT_TIMEOUT", 60.0)  # one that is killed leaves its socket
    first, second = make(), make()
    assert await first.load(params) == await second.load(params)
    pid = first.state.pid
    assert second.state.pid == pid
    await first.close()
    assert alive(pid)
    assert await works(second)
    await second.close()
    await until(lambda: not alive(pid))
    assert [path.name for path in folder.iterdir()] == ["lock"]


async def test_the_folder_and_its_files_are_accessible_to_the_user_only(
    make: Make, params: LoadParams, folder: Path
) -> None:
    await make().load(params)
    assert folder.stat().st_mode & 0o777 == 0o700
    (log,) = folder.glob("*.log")
    assert log.stat().st_mode & 0o777 == 0o600


async def test_servers_that_start_at_the_same_moment_start_one_worker(make: Make, params: LoadParams) -> None:
    clients = [make() for _ in range(5)]
    await asyncio.gather(*(client.load(params) for client in clients))
    assert len({client.state.pid for client in clients}) == 1


def test_processes_that_start_at_the_same_moment_start_one_worker(params: LoadParams) -> None:
    servers = [server(params) for _ in range(3)]
    try:
        workers = {int(one.stdout.readline()) for one in servers if one.stdout}
        assert len(workers) == 1
    finally:
        for one in servers:
            one.kill()
            one.communicate()
    (pid,) = workers
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
async def test_the_worker_outlives_the_server_that_started_it(
    make: Make, params: LoadParams, number: signal.Signals
) -> None:
    """The signal goes to the server's process group, as when a terminal is closed."""
    with server(params) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        other = make()
        await other.load(params)
        assert other.state.pid == pid
        os.killpg(starter.pid, number)
        # The worker has not inherited the server's pipes: the editor sees them close.
        rest, _ = await asyncio.to_thread(starter.communicate, timeout=60)
    assert rest == ""
    assert await works(other)
    await other.close()
    await until(lambda: not alive(pid))


async def test_a_worker_whose_only_server_is_killed_exits(params: LoadParams) -> None:
    with server(params) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    await until(lambda: not alive(pid))


async def test_a_killed_worker_is_replaced_by_one(make: Make, observed: ObservedWorker, params: LoadParams) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    pid = first.state.pid
    assert pid is not None
    observed.slow_down()
    running = asyncio.create_task(second.generate(ENDLESS))
    await observed.first_token()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="ended"):
        await running
    observed.speed_up()
    await until(lambda: first.state.pid not in (None, pid) and first.state.phase == "ready")
    await until(lambda: second.state.pid not in (None, pid) and second.state.phase == "ready")
    assert first.state.pid == second.state.pid
    assert await works(first)
    assert await works(second)


async def test_last_words_reach_every_server(
    make: Make, params: LoadParams, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The standard error of a crash, for servers that did not start the worker, too."""
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    (log,) = folder.glob("*.log")
    with log.open("a") as file:
        file.write("terminate called\n")
    states = []
    second._on_state = states.append
    assert first.state.pid is not None
    os.kill(first.state.pid, signal.SIGKILL)
    await until(lambda: states)
    assert states[0].message == "The inference worker ended. terminate called"
    assert "terminate called" in caplog.text


async def test_a_worker_that_dies_at_start_is_reported_and_stays_down(
    make: Make, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; sys.exit('no torch here')"
    monkeypatch.setattr(launch, "worker_command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr("codegen_lsp.inference.client.restarts.BACKOFF_SECONDS", (0.0, 0.0, 0.0, 0.0))
    client = make()
    with pytest.raises(WorkerError, match=r"exit code 1\. no torch here"):
        await client.load(params)
    await until(lambda: client.state.phase == "failed")
    assert "restart" in client.state.advice


async def test_a_stale_socket_is_replaced_and_others_are_removed(make: Make, params: LoadParams, folder: Path) -> None:
    met = shared_worker.endpoint_for(params)
    old = Endpoint(folder, "old")
    for one in (met, old):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(one.socket))
        one.log.write_text("of a worker that was killed\n")
    client = make()
    await client.load(params)
    assert endpoint_of(client) == met
    assert "of a worker that was killed" not in client.stderr
    assert not old.socket.exists()
    assert not old.log.exists()


async def test_a_worker_that_is_exiting_does_not_count_as_dead(make: Make, params: LoadParams) -> None:
    """Each window gets a model when windows are closed and opened in turn."""
    for _ in range(3):
        first = make()
        await first.load(params)
        leaving = asyncio.create_task(first.close())
        second = make()
        await second.load(params)
        await leaving
        assert await works(second)
        assert second._restarts.times == first._restarts.times
        assert len(second._restarts.times) == 0
        await second.close()


async def test_other_parameters_are_another_worker(make: Make, params: LoadParams) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    pid = first.state.pid
    await second.load(attrs.evolve(params, cache_memory_mb=8))
    assert second.state.pid != pid
    assert await works(first)
    assert await works(second)
    await second.load(params)
    assert second.state.pid == pid


async def test_a_broken_build_does_not_affect_the_others(make: Make, params: LoadParams, tmp_path: Path) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    with pytest.raises(ModelError, match=r"build\.json"):
        await second.load(attrs.evolve(params, build=str(tmp_path)))
    assert await works(first)
    await second.load(params)
    assert second.state.pid == first.state.pid


def test_facts_in_the_digest(params: LoadParams, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digest = shared_worker.digest_of(params)
    monkeypatch.chdir(Path(params.build).parent)
    assert shared_worker.digest_of(attrs.evolve(params, build=Path(params.build).name)) == digest
    for other in ({"engine": "ct2"}, {"device": "cpu"}, {"compute_type": "int8"}, {"threads": 2}):
        assert shared_worker.digest_of(attrs.evolve(params, **other)) != digest
    assert shared_worker.digest_of(attrs.evolve(params, ngrams="off")) != digest
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    assert shared_worker.digest_of(params) == digest
    with monkeypatch.context() as changed:
        changed.setenv("OMP_NUM_THREADS", "3")
        assert shared_worker.digest_of(params) != digest
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", "/usr/bin/another-python")
        assert shared_worker.digest_of(params) != digest
    with monkeypatch.context() as changed:
        changed.setattr(shared_worker, "__version__", "0.0.0")
        assert shared_worker.digest_of(params) != digest


def test_a_recompiled_native_library_changes_the_digest(
    params: LoadParams, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = shutil.copytree(shared_worker.PACKAGE, tmp_path / "codegen_lsp")
    monkeypatch.setattr(shared_worker, "PACKAGE", package)
    native = package / "inference" / "engines" / "native"
    for number, changed in enumerate(("decoder_avx2.so", "c_forward.py", "../base.py", "../../text_model.py")):
        (native / changed).touch()
        before = shared_worker.digest_of(params)
        (native / changed).write_bytes(b"changed")
        assert shared_worker.digest_of(params) != before, changed
        bytecode = native / "__pycache__" / f"written_{number}.pyc"
        bytecode.parent.mkdir(exist_ok=True)
        before = shared_worker.digest_of(params)
        bytecode.write_bytes(b"by the interpreter")
        assert shared_worker.digest_of(params) == before


def test_all_modules_that_a_worker_imports_are_in_the_digest(params: LoadParams) -> None:
    program = (
        "import sys; from codegen_lsp.inference.worker import __main__, process; "
        "from codegen_lsp.inference.engines.native import c_forward, compile_decoder, engine; "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('codegen_lsp')), "
        "*map(compile_decoder.library_of, compile_decoder.compiled()), sep='\\n')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    files = set(map(str, shared_worker.program_files()))
    assert [path for path in result.stdout.splitlines() if path not in files] == []


def test_a_changed_build_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"old")
    params = LoadParams(str(tmp_path), shared=True)
    before = shared_worker.digest_of(params)
    (tmp_path / "model.bin").write_bytes(b"newer")
    assert shared_worker.digest_of(params) != before


async def test_a_worker_of_another_version_is_not_used(
    make: Make, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(), make()
    await first.load(params)
    monkeypatch.setattr(shared_worker, "__version__", "0.0.0")
    await second.load(params)
    assert second.state.pid != first.state.pid
    assert endpoint_of(second) != endpoint_of(first)


async def test_a_worker_with_another_digest_is_not_used(
    make: Make, params: LoadParams, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(), make()
    await first.load(params)
    other = attrs.evolve(params, threads=2)
    met = endpoint_of(first)
    assert met is not None
    for name in ("socket", "log"):
        getattr(shared_worker.endpoint_for(other), name).symlink_to(getattr(met, name))
    await second.load(other)
    assert endpoint_of(second) is None
    assert second.state.pid != first.state.pid
    assert await works(second)
    assert "another build" in caplog.text


async def test_a_process_that_is_not_a_worker_is_not_used(
    make: Make, params: LoadParams, caplog: pytest.LogCaptureFixture
) -> None:
    met = shared_worker.endpoint_for(params)
    met.log.touch()

    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 at your service\r\n")
        writer.close()

    async with await asyncio.start_unix_server(chatter, met.socket):
        client = make()
        await client.load(params)
        assert endpoint_of(client) is None
        assert await works(client)
    assert "worker of its own" in caplog.text


async def test_restarting_gives_one_server_a_new_worker_and_leaves_the_others_theirs(
    make: Make, params: LoadParams
) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    old = first.state.pid
    await first.restart()
    new = first.state.pid
    assert new != old
    assert second.state.pid == old
    assert await works(second)
    assert await works(first)
    await second.restart()
    assert second.state.pid == new
    await until(lambda: not alive(old))


async def test_a_stopped_worker_without_other_clients_is_killed(make: Make, params: LoadParams) -> None:
    client = make()
    await client.load(params)
    pid = client.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await client.restart()
    assert client.state.pid != pid
    await until(lambda: not alive(pid))


async def test_a_stopped_worker_with_other_clients_is_not_killed(make: Make, params: LoadParams) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    pid = first.state.pid
    assert pid is not None
    await until(lambda: first._connection is not None and first._connection.clients == 2)
    os.kill(pid, signal.SIGSTOP)
    await first.close()
    assert alive(pid)
    os.kill(pid, signal.SIGCONT)
    assert await works(second)


async def test_requests_of_different_servers_do_not_supersede_each_other(make: Make, params: LoadParams) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    replaced, other, newer = await asyncio.gather(
        first.generate(ENDLESS), second.generate(ENDLESS), first.generate(SHORT), return_exceptions=True
    )
    assert isinstance(replaced, SupersededError)
    assert isinstance(other, GenerateResult)
    assert isinstance(newer, GenerateResult)


async def test_background_work_yields_to_any_server(make: Make, observed: ObservedWorker, params: LoadParams) -> None:
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    observed.slow_down()
    prefetch = asyncio.create_task(first.generate(attrs.evolve(ENDLESS, background=True)))
    await observed.first_token()
    assert await works(second)
    with pytest.raises(SupersededError):
        await prefetch


async def test_requests_of_a_server_that_disconnects_are_cancelled(
    make: Make, observed: ObservedWorker, params: LoadParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEGEN_LSP_LOG", "info")
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    observed.slow_down()
    running = asyncio.create_task(first.generate(ENDLESS))
    await observed.first_token()
    assert first._connection is not None
    first._connection.expected_to_end = True
    first._connection.worker.writer.transport.abort()
    with pytest.raises(WorkerError):
        await running
    observed.speed_up()
    assert await works(second)
    assert [line for line in second.stderr if "cancelled after" in line]
    await until(lambda: second._connection is not None and second._connection.clients == 1)


def message(body: object) -> bytes:
    text = json.dumps(body).encode()
    return b"Content-Length: %d\r\n\r\n" % len(text) + text


GARBAGE = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"\0" * 1000,
    b"x" * 200_000,
    b"Content-Length: 99999999999\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 5\r\n\r\n{nope",
    b"\r\n" * 100,
    b"X-Header: 1\r\n" * 100,
    message([1, 2]),
    message({"jsonrpc": "2.0", "id": {}, "method": "generate"}),
    b"".join(message({"jsonrpc": "2.0", "id": n, "method": "measure"}) for n in range(1000)),
)


async def test_garbage_ends_only_its_connection(make: Make, params: LoadParams) -> None:
    """All at once, since some of it is cut off only by the handshake's timeout."""
    client = make()
    await client.load(params)
    met = endpoint_of(client)
    assert met is not None

    async def is_cut_off(garbage: bytes) -> bool:
        reader, writer = await asyncio.open_unix_connection(met.socket)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(garbage)
                await writer.drain()
                await asyncio.wait_for(reader.read(), 60)
        except TimeoutError:
            return False
        finally:
            writer.close()
        return True

    pid = client.state.pid
    ends = await asyncio.gather(*map(is_cut_off, GARBAGE))
    assert [garbage[:24] for garbage, ended in zip(GARBAGE, ends, strict=True) if not ended] == []
    assert await works(client)
    assert client.state.pid == pid


async def test_messages_that_are_wrong_are_answered(make: Make, params: LoadParams) -> None:
    client = make()
    await client.load(params)
    met = endpoint_of(client)
    assert met is not None
    reader, writer = await asyncio.open_unix_connection(met.socket)
    writer.write(message({"jsonrpc": "2.0", "id": 1, "method": "generate", "params": 5}))
    writer.write(message({"jsonrpc": "2.0", "id": 2, "method": "no/such"}))
    writer.write(message({"jsonrpc": "2.0", "id": 3, "method": "load", "params": {"build": "/else"}}))
    writer.write_eof()
    async with asyncio.timeout(60):
        answers = (await reader.read()).decode()
    writer.close()
    assert answers.count("Content-Length") <= 3
    assert await works(client)


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(worker_server, "MAX_UNREAD_BYTES", 1000)
    answered = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = worker_server.BoundedWriter(writer)
        for _ in range(100):
            answers.write(b"x" * 100_000)
        assert writer.transport.is_closing()
        answered.set()

    folder.mkdir()
    async with await asyncio.start_unix_server(serve, folder / "s"):
        _, writer = await asyncio.open_unix_connection(folder / "s")
        await asyncio.wait_for(answered.wait(), 60)
        writer.close()


@pytest.mark.parametrize("reason", ["open", "nothing", "runtime"])
async def test_without_sharing_each_server_has_a_private_worker(
    make: Make,
    params: LoadParams,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    if reason == "open":
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    if reason == "nothing":
        monkeypatch.setattr(endpoint, "sys", SimpleNamespace(platform="win32"))
    if reason == "runtime":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "missing"))
    first, second = make(), make()
    await first.load(params)
    await second.load(params)
    assert first.state.pid != second.state.pid
    assert endpoint_of(first) is None
    assert await works(second)
    await first.load(params)  # not started again
    assert ("worker of its own" in caplog.text) == (reason != "nothing")


async def test_the_setting_decides(make: Make, embedded_build: Path) -> None:
    shared = Settings(threads=1)
    private, problems = structure_settings({"threads": 1, "worker.shared": False})
    assert not problems
    client = make()
    await client.load(load_params(shared, embedded_build))
    assert endpoint_of(client) is not None
    pid = client.state.pid
    await client.load(load_params(private, embedded_build))
    assert endpoint_of(client) is None
    await until(lambda: not alive(pid))
    await client.load(load_params(shared, embedded_build))
    assert endpoint_of(client) is not None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc on this system")
async def test_the_log_of_a_worker_that_ended_is_closed(make: Make, params: LoadParams, folder: Path) -> None:
    """At once: a server outlives many workers, and the garbage collector may not run for long."""
    client = make()
    await client.load(params)
    gc.disable()
    try:
        for _ in range(2):
            client._load = None  # so that it is not started again by itself
            connection = client._connection
            assert connection is not None
            os.kill(client.state.pid or 0, signal.SIGKILL)
            await connection.ended.wait()
            await client.load(params)
        opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert [path for path in opened if path.startswith(str(folder)) and path.endswith("(deleted)")] == []
    finally:
        gc.enable()
