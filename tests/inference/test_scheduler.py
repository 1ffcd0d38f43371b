"""One at a time, newest first, background last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from codegen_lsp.errors import SupersededError
from codegen_lsp.inference.engines.base import CancellationToken, Settle, Steps
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
        assert await asyncio.to_thread(self.started.wait, 60)


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


class RoundRobin:
    """A batch that runs one step of each computation in turn."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Steps[Any], CancellationToken, Settle]] = []

    def __len__(self) -> int:
        return len(self.tasks)

    def add(self, steps: Steps[Any], cancellation: CancellationToken, settle: Settle) -> None:
        self.tasks.append((steps, cancellation, settle))

    def step(self) -> None:
        for task in list(self.tasks):
            steps, cancellation, settle = task
            try:
                cancellation.check()
                next(steps)
            except StopIteration as end:
                self.tasks.remove(task)
                settle(None, end.value)
            except BaseException as error:
                self.tasks.remove(task)
                settle(error, None)


def stepping(gate: Gate) -> Callable[[CancellationToken, float], Steps[str]]:
    """Return work in steps that runs until the gate is released."""

    def work(cancellation: CancellationToken, waited: float) -> Steps[str]:
        gate.log.append(gate.name)
        gate.started.set()
        while not gate.release.wait(0.002):
            yield None
        return gate.name

    return work


@pytest.fixture
async def batching(scheduler: Scheduler) -> Scheduler:
    await scheduler.run("load", lambda *_: scheduler.use(RoundRobin(), 2), alone=True)
    return scheduler


async def test_computations_run_together_up_to_the_slots(batching: Scheduler) -> None:
    log: list[str] = []
    gates = [Gate(name, log) for name in "abc"]
    tasks = [asyncio.create_task(batching.run(gate.name, stepping(gate))) for gate in gates[:2]]
    for gate in gates[:2]:
        await gate.begun()
    tasks.append(asyncio.create_task(batching.run("c", stepping(gates[2]))))
    await asyncio.sleep(0)
    assert not gates[2].started.is_set()
    gates[1].release.set()
    assert await tasks[1] == "b"
    await gates[2].begun()
    tasks[0].cancel()
    gates[2].release.set()
    assert await tasks[2] == "c"
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_the_requests_of_a_user_are_answered_in_order_and_users_take_turns(batching: Scheduler) -> None:
    log: list[str] = []
    first = [Gate("x", log), Gate("y", log)]
    tasks = [asyncio.create_task(batching.run(gate.name, stepping(gate), owner="other")) for gate in first]
    for gate in first:
        await gate.begun()
    for name in ("a1", "a2", "a3", "b1"):
        gate = released(name, log)
        tasks.append(asyncio.create_task(batching.run(name, stepping(gate), owner="server", user=name[0])))
        await asyncio.sleep(0)
    for gate in first:
        gate.release.set()
    await asyncio.gather(*tasks)
    assert log[2:] == ["a1", "b1", "a2", "a3"]


async def test_work_that_runs_alone_waits_for_all_and_holds_back_later_work(batching: Scheduler) -> None:
    log: list[str] = []
    running = Gate("running", log)
    tasks = [asyncio.create_task(batching.run("a", stepping(running)))]
    await running.begun()
    tasks.append(asyncio.create_task(batching.run("load", released("load", log), alone=True)))
    await asyncio.sleep(0)
    assert log == ["running"]
    running.release.set()
    await asyncio.gather(*tasks)
    assert log == ["running", "load"]
