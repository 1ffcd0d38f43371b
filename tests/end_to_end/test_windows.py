"""Two editor windows on one machine: two servers, one worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import Client
from tests.end_to_end.test_server import BEGINNING, URI, alive


async def works(client: Client) -> bool:
    await client.complete(URI, 2, 8, invoked=True)
    return (await client.explain(URI))["source"] in ("model", "cache")


async def ready(client: Client, after: int = 0) -> int:
    number: int = (await client.status("ready", after=after))["workerPid"]
    return number


async def both(client: Client, window: Client, build: Path) -> int:
    """Start two servers with the same settings; return their worker's pid."""
    for one in (client, window):
        await one.start(build)
        one.open(URI, BEGINNING)
    assert await ready(client) == await ready(window)
    return await ready(client)


async def test_one_worker_serves_both_and_exits_with_the_last(
    client: Client, window: Client, embedded_build: Path
) -> None:
    worker = await both(client, window, embedded_build)
    servers = [psutil.Process(one.pid) for one in (client, window)]
    workers = [child.pid for server in servers for child in server.children(recursive=True)]
    assert workers == [worker]
    assert await works(client)
    await client.shutdown_session()
    assert alive(worker)
    assert await works(window)
    await window.shutdown_session()
    await window.until(lambda: not alive(worker))


@pytest.mark.parametrize("killed", [0, 1], ids=["the first", "the second"])
async def test_a_killed_server_does_not_affect_the_other(
    client: Client, window: Client, embedded_build: Path, killed: int
) -> None:
    worker = await both(client, window, embedded_build)
    windows = [client, window]
    victim = windows.pop(killed)
    (other,) = windows
    os.kill(victim.pid, signal.SIGKILL)
    assert victim._server is not None
    await victim._server.wait()
    assert await works(other)
    assert (await other.explain(URI))["status"]["workerPid"] == worker
    await other.shutdown_session()
    await other.until(lambda: not alive(worker))


async def test_a_killed_worker_is_replaced_by_one_for_both(
    client: Client, window: Client, embedded_build: Path
) -> None:
    worker = await both(client, window, embedded_build)
    seen = [len(one.statuses) for one in (client, window)]
    os.kill(worker, signal.SIGKILL)
    numbers = set()
    for one, before in zip((client, window), seen, strict=True):
        status = await one.status("starting", after=before)
        assert status["advice"]
        numbers.add(await ready(one, after=before))
        assert await works(one)
        assert one.shown == []
    assert len(numbers) == 1
    assert worker not in numbers


async def test_turned_off_each_has_its_own(client: Client, window: Client, embedded_build: Path) -> None:
    await client.start(embedded_build)
    await window.start(embedded_build, options={"worker": {"shared": False}})
    assert await ready(client) != await ready(window)
