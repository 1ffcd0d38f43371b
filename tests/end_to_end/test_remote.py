"""A language server that uses an HTTP server of this project as its model: real processes, models and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import define, field

from codegen_lsp.lsp.remote_consent import confirm
from codegen_lsp.settings import RemoteSettings
from tests import needs
from tests.end_to_end.conftest import ANSWER_TIMEOUT, SERVE, Client

needs.extra("serve")

from tests.http.conftest import RunningServer, running_server

pytestmark = pytest.mark.slow

PATIENT = (
    "from codegen_lsp.inference.client import answer_times, remote_client; "
    "remote_client.FIRST_LIMIT = answer_times.FIRST_LIMIT = 3600.0; "
    "answer_times.MIN_LIMIT = answer_times.MAX_LIMIT = 3600.0; "
) + SERVE
"""A language server for which no answer is late, so that the local model answers for a server that is away alone."""
TEXT = """\
def mean(values):
    total = sum(values)
    return total / len(values)


def variance(values):
    centre = mean(values)
    return sum((value - centre) ** 2 for value in values) / len(values)


def spread(values):
    centre = mean(val
"""
LINE, COLUMN = 11, 21


@define
class Proxy:
    """A network between a language server and the server: it can be slow, deliver nothing, or end encryption."""

    target: int
    port: int = 0
    delay: float = 0.0
    """Seconds before each piece is passed on."""
    tls: ssl.SSLContext | None = None
    """The certificate that it shows, as a proxy before the server does that speaks https; None for http."""
    connections: int = 0
    """Those that were made, the encrypted ones once both sides agreed."""
    delivers: asyncio.Event = field(factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _writers: list[asyncio.StreamWriter] = field(factory=list)
    _listening: asyncio.Server | None = None

    async def start(self) -> None:
        self.delivers.set()
        self._listening = await asyncio.start_server(self._join, "127.0.0.1", ssl=self.tls)
        self.port = self._listening.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self.delivers.wait()
                await asyncio.sleep(self.delay)
                sink.write(data)
        sink.close()


@pytest.fixture(scope="module")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose model is loaded."""
    with running_server(tmp_path_factory.mktemp("http")) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
async def proxy(http_server: RunningServer) -> AsyncIterator[Proxy]:
    found = Proxy(http_server.port)
    await found.start()
    yield found
    found.stop()


async def connect(
    client: Client, build: Path, port: int, folder: Path | None = None, program: str = PATIENT, **settings: Any
) -> None:
    """Start a language server that uses the server at a port, and wait until it does."""
    url = f"http://127.0.0.1:{port}"
    confirm(RemoteSettings(url))
    options = {"remote": {"url": url}, "debounce": "off", **settings}
    await client.start(build, program, options, [folder] if folder else [])
    await connected(client)


async def connected(client: Client, after: int = 0) -> None:
    """Wait until the last status says that the server is used."""
    await client.until(
        lambda: len(client.statuses) > after and client.statuses[-1]["message"].startswith("Connected to ")
    )


async def local(client: Client) -> str:
    """Wait until the local model is in use; return why."""
    prefix = "Using the local model"
    await client.until(lambda: client.statuses[-1]["message"].startswith(prefix))
    message: str = client.statuses[-1]["message"]
    return message


async def typed(client: Client, uri: str, text: str) -> list[str]:
    """Type a text key by key; return what is suggested after each, which must be something."""
    suggested = []
    for number, key in enumerate(text):
        client.type(uri, number + 2, LINE, COLUMN + number, key)
        items = await client.complete(uri, LINE, COLUMN + number + 1)
        suggested.append(items[0].insert_text if items else "")
    return [str(one) for one in suggested]


async def test_answers_of_the_server_are_those_of_the_same_model_here(
    client: Client, window: Client, embedded_build: Path, http_server: RunningServer, tmp_path: Path
) -> None:
    await connect(client, embedded_build, http_server.port)
    window.runtime = str(tmp_path)
    await window.start(embedded_build)
    await window.status("ready")
    uri = "file:///spread.py"
    found = []
    for one in (client, window):
        one.open(uri, TEXT)
        found.append([item.insert_text for item in await one.complete(uri, LINE, COLUMN, invoked=True)])
    assert found[0] == found[1]
    assert found[0]
    assert client.statuses[-1]["model"]["remote"]
    assert not window.statuses[-1]["model"]["remote"]


async def test_typing_goes_on_while_the_server_is_killed_and_started_again(
    client: Client, embedded_build: Path, tmp_path: Path
) -> None:
    uri, other = "file:///spread.py", "file:///other.py"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path))
        await asyncio.to_thread(server.wait_until_ready)
        await connect(client, embedded_build, server.port)
        client.open(uri, TEXT)
        assert await client.complete(uri, LINE, COLUMN)
        server.process.kill()
        server.process.wait()
        assert all(await typed(client, uri, "ues"))
        client.open(other, TEXT)
        assert await client.complete(other, LINE, COLUMN)
        assert f"http://127.0.0.1:{server.port}" in await local(client)
        stack.pop_all()
    before = len(client.statuses)
    with running_server(tmp_path, address=f"127.0.0.1:{server.port}"):
        await connected(client, before)
        client.open("file:///third.py", TEXT)
        assert await client.complete("file:///third.py", LINE, COLUMN)
        assert client.statuses[-1]["message"].startswith("Connected to ")
    assert client.shown == []


async def test_a_network_that_delivers_nothing_any_longer(client: Client, embedded_build: Path, proxy: Proxy) -> None:
    await connect(client, embedded_build, proxy.port, program=SERVE)
    uri = "file:///spread.py"
    client.open(uri, TEXT)
    assert await client.complete(uri, LINE, COLUMN)
    proxy.delivers.clear()
    assert all(await typed(client, uri, "ues"))
    client.open("file:///other.py", TEXT)
    assert await client.complete("file:///other.py", LINE, COLUMN)
    await local(client)
    before = len(client.statuses)
    proxy.delivers.set()
    await connected(client, before)


async def test_a_slow_network_is_used(client: Client, embedded_build: Path, proxy: Proxy) -> None:
    proxy.delay = 0.05
    await connect(client, embedded_build, proxy.port)
    uri = "file:///spread.py"
    client.open(uri, TEXT)
    assert all(await typed(client, uri, "ues"))


async def test_nothing_is_sent_to_a_server_that_a_workspace_names(
    client: Client, embedded_build: Path, proxy: Proxy
) -> None:
    """As far as the protocol says, the settings of a workspace and the user's are the same."""
    options = {"remote": {"url": f"http://127.0.0.1:{proxy.port}"}}
    await client.start(embedded_build, options=options)
    await client.status("ready")
    client.open("file:///spread.py", TEXT)
    assert await client.complete("file:///spread.py", LINE, COLUMN)
    assert "was not confirmed by you" in client.statuses[-1]["message"]
    assert proxy.connections == 0


async def test_files_of_the_workspace_count_for_the_local_model(
    client: Client, embedded_build: Path, proxy: Proxy, tmp_path: Path
) -> None:
    """Their index stays here, and is fed while the server answers."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "library.py").write_text(
        "def burrow_of(quokka_registry):\n    return quokka_registry.marsupials\n" * 5, encoding="utf-8"
    )
    await connect(client, embedded_build, proxy.port, folder)

    async def completes(number: int) -> bool:
        uri = (folder / f"new{number}.py").as_uri()
        client.open(uri, "def visit(quokka_registry):\n    return quokka_registry.mar")
        items = await client.complete(uri, 1, 30, invoked=True)
        return any("marsupials" in str(item.insert_text) for item in items)

    assert not await completes(0)
    proxy.stop()
    async with asyncio.timeout(ANSWER_TIMEOUT):
        while not await completes(number := len(client.statuses)):
            assert number
    await local(client)


async def test_a_key_is_read_from_its_file_and_a_wrong_one_leaves_the_local_model(
    client: Client, window: Client, embedded_build: Path, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file in (right, wrong):
        file.write_text(f"{file.name}-0123456789abcdef\n", encoding="ascii")
        file.chmod(0o600)
    with running_server(tmp_path, "--api-key-file", str(right)) as server:
        await asyncio.to_thread(server.wait_until_ready)
        for one, file in ((client, right), (window, wrong)):
            settings = RemoteSettings(f"http://127.0.0.1:{server.port}", str(file))
            confirm(settings)
            remote = {"url": settings.url, "key_file": settings.key_file}
            await one.start(embedded_build, options={"remote": remote})
            await one.status("ready")
            if one is client:
                await connected(client)
        await window.until(lambda: "does not know the key (HTTP 401)" in window.statuses[-1]["message"])
        window.open("file:///spread.py", TEXT)
        assert await window.complete("file:///spread.py", LINE, COLUMN)


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """Return what a server needs that shows a certificate for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_server_with_a_certificate_of_the_teams_own_authority_is_used_over_https(
    client: Client, embedded_build: Path, http_server: RunningServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    proxy = Proxy(http_server.port, tls=certified(authority, "localhost"))
    await proxy.start()
    settings = RemoteSettings(f"https://localhost:{proxy.port}", ca_file=str(tmp_path / "authority.pem"))
    confirm(settings)
    remote = {"url": settings.url, "ca_file": settings.ca_file}
    await client.start(embedded_build, PATIENT, {"remote": remote, "debounce": "off"})
    await connected(client)
    generated = await asyncio.to_thread(generations, http_server)
    client.open("file:///spread.py", TEXT)
    assert all(await typed(client, "file:///spread.py", "ues"))
    assert proxy.connections > 0
    assert await asyncio.to_thread(generations, http_server) > generated
    proxy.stop()
    await local(client)


@pytest.mark.parametrize("wrong", ["another authority", "another name", "not of the system's authorities"])
async def test_a_server_with_a_wrong_certificate_gets_nothing_and_the_local_model_answers(
    client: Client, embedded_build: Path, http_server: RunningServer, tmp_path: Path, wrong: str
) -> None:
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(tmp_path / "authority.pem")
    signer = trustme.CA() if wrong == "another authority" else trusted
    proxy = Proxy(http_server.port, tls=certified(signer, "other.test" if wrong == "another name" else "localhost"))
    await proxy.start()
    ca_file = "" if wrong.startswith("not") else str(tmp_path / "authority.pem")
    settings = RemoteSettings(f"https://localhost:{proxy.port}", ca_file=ca_file)
    confirm(settings)
    generated = await asyncio.to_thread(generations, http_server)
    remote = {"url": settings.url, "ca_file": settings.ca_file}
    await client.start(embedded_build, options={"remote": remote, "debounce": "off"})
    await client.status("ready")
    assert "certificate" in await local(client)
    client.open("file:///spread.py", TEXT)
    assert all(await typed(client, "file:///spread.py", "ues"))
    assert "certificate" in client.statuses[-1]["message"]
    assert proxy.connections == 0
    assert await asyncio.to_thread(generations, http_server) == generated
    proxy.stop()


def generations(server: RunningServer) -> float:
    """Return how many generations the server has completed."""
    _, content = server.ask("GET", "/metrics")
    line = next(line for line in content.decode().splitlines() if line.startswith("codegen_generations_total "))
    return float(line.split()[1])
