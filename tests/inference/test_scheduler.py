"""One at a time, newest first, background last."""

from __future__ import annotations

import asyncio
import threading

import pytest

from codegen_lsp.errors import SupersededError
from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.worker.scheduler import Scheduler


class Gate:
    """Work that signals its start, and runs until it is released or cancelled."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self, cancellation: CancellationToken, waited: float) -> str:
        self.log.append(self.name)
        self.started.set()
        while not self.release.wait(0.002):
            if cancellation.cancelled:
                self.log.append(f"{self.name} cancelled")
            cancellation.check()
        return self.name

    async def begun(self) -> None:
        await asyncio.to_thread(self.started.wait, 10)


@pytest.fixture
async def scheduler():  # type: ignore[no-untyped-def]
    made = Scheduler()
    yield made
    made.close()


def released(name: str, log: list[str]) -> Gate:
    gate = Gate(name, log)
    gate.release.set()
    return gate


async def test_newest_first_among_waiting(scheduler: Scheduler) -> None:
    log: list[str] = []
    first = Gate("first", log)
    tasks = [asyncio.create_task(scheduler.run("a", first))]
    await first.begun()
    for name in ("b", "c", "d"):
        tasks.append(asyncio.create_task(scheduler.run(name, released(name, log))))
        await asyncio.sleep(0)
    first.release.set()
    assert await asyncio.gather(*tasks) == ["first", "b", "c", "d"]
    assert log == ["first", "d", "c", "b"]


async def test_a_newer_request_supersedes_a_waiting_and_a_running_one(scheduler: Scheduler) -> None:
    log: list[str] = []
    running = Gate("running", log)
    tasks = [asyncio.create_task(scheduler.run("a", running))]
    await running.begun()
    tasks.append(asyncio.create_task(scheduler.run("a", released("waiting", log))))
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(scheduler.run("a", released("newest", log))))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], SupersededError)
    assert results[2] == "newest"
    assert "running cancelled" in log
    # The second one is superseded while it waits, or ran and returned at once.
    assert isinstance(results[1], SupersededError) or results[1] == "waiting"


async def test_background_work_waits_for_all_and_is_superseded_at_once(scheduler: Scheduler) -> None:
    log: list[str] = []
    warm = Gate("warm", log)
    background = asyncio.create_task(scheduler.run("warm", warm, background=True))
    await warm.begun()
    assert not scheduler.busy
    assert await scheduler.run("a", released("a", log)) == "a"
    with pytest.raises(SupersededError):
        await background
    assert log == ["warm", "warm cancelled", "a"]


async def test_foreground_work_supersedes_background_work_of_the_same_key(scheduler: Scheduler) -> None:
    """And background work does not supersede foreground work."""
    log: list[str] = []
    running = Gate("running", log)
    tasks = [asyncio.create_task(scheduler.run("b", running))]
    await running.begun()
    for name, background in (("foreground", False), ("ahead", True), ("newer", False)):
        tasks.append(asyncio.create_task(scheduler.run("a", released(name, log), background=background)))
        await asyncio.sleep(0)
    running.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, SupersededError, SupersededError, str]
    assert log == ["running", "newer"]


async def test_cancelling_the_task_cancels_the_work(scheduler: Scheduler) -> None:
    log: list[str] = []
    gate = Gate("a", log)
    task = asyncio.create_task(scheduler.run("a", gate))
    await gate.begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await scheduler.run("b", released("b", log)) == "b"
    assert log == ["a", "a cancelled", "b"]


async def test_cancelling_before_it_runs_removes_it(scheduler: Scheduler) -> None:
    log: list[str] = []
    gate = Gate("a", log)
    first = asyncio.create_task(scheduler.run("a", gate))
    await gate.begun()
    second = asyncio.create_task(scheduler.run("b", released("b", log)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    gate.release.set()
    await first
    assert await scheduler.run("c", released("c", log)) == "c"
    assert log == ["a", "c"]


async def test_an_error_reaches_its_caller_alone(scheduler: Scheduler) -> None:
    def broken(cancellation: CancellationToken, waited: float) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await scheduler.run("a", broken)
    assert await scheduler.run("a", released("a", [])) == "a"


async def test_closing_ends_running_work() -> None:
    scheduler = Scheduler()
    gate = Gate("a", [])
    task = asyncio.create_task(scheduler.run("a", gate))
    await gate.begun()
    await asyncio.to_thread(scheduler.close)
    with pytest.raises(SupersededError):
        await task


async def test_owners_take_turns(scheduler: Scheduler) -> None:
    """An owner waits for at most one request of another, however many that has."""
    log: list[str] = []
    first = Gate("first", log)
    tasks = [asyncio.create_task(scheduler.run("k", first, owner="a"))]
    await first.begun()
    for name in ("b1", "b2", "a1", "a2", "a3"):
        tasks.append(asyncio.create_task(scheduler.run(name, released(name, log), owner=name[0])))
        await asyncio.sleep(0)
    first.release.set()
    await asyncio.gather(*tasks)
    assert log == ["first", "b2", "a3", "b1", "a2", "a1"]


async def test_the_same_key_of_another_owner_is_another(scheduler: Scheduler) -> None:
    log: list[str] = []
    running = Gate("running", log)
    task = asyncio.create_task(scheduler.run("k", running, owner="a"))
    await running.begun()
    waiting = asyncio.create_task(scheduler.run("k", released("waiting", log), owner="b"))
    await asyncio.sleep(0)
    newer = asyncio.create_task(scheduler.run("k", released("newer", log), owner="c"))
    await asyncio.sleep(0)
    running.release.set()
    assert await asyncio.gather(task, waiting, newer) == ["running", "waiting", "newer"]


async def test_background_work_yields_to_another_owner(scheduler: Scheduler) -> None:
    log: list[str] = []
    background = Gate("background", log)
    task = asyncio.create_task(scheduler.run("k", background, background=True, owner="a"))
    await background.begun()
    assert await scheduler.run("k", released("foreground", log), owner="b") == "foreground"
    with pytest.raises(SupersededError):
        await task
