"""Idle timers: the newest call counts, and a cancelled one does nothing."""

from __future__ import annotations

import asyncio

import pytest

from codegen_lsp.suggest.idle import IdleTimer
from tests.suggest.conftest import HOUR


async def end_of(timer: IdleTimer[int]) -> None:
    """Wait until the timer has fired and its action has ended."""
    while timer.active:  # noqa: ASYNC110 - a timer sets no event
        await asyncio.sleep(0)


@pytest.fixture
def calls() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def timer(calls: list[tuple[str, int]]) -> IdleTimer[int]:
    async def action(uri: str, value: int) -> None:
        calls.append((uri, value))

    return IdleTimer(action, HOUR)


async def test_the_newest_call_is_made_once(timer: IdleTimer[int], calls: list[tuple[str, int]]) -> None:
    timer.schedule("a", 1)
    timer.schedule("b", 2)
    await timer.fire()
    await timer.fire()
    assert calls == [("b", 2)]


async def test_time_fires_it(timer: IdleTimer[int], calls: list[tuple[str, int]]) -> None:
    timer.seconds = 0.0
    timer.schedule("a", 1)
    assert timer.active
    await end_of(timer)
    assert calls == [("a", 1)]
    await timer.fire()
    assert calls == [("a", 1)]


async def test_a_cancelled_call_is_not_made(timer: IdleTimer[int], calls: list[tuple[str, int]]) -> None:
    timer.schedule("a", 1)
    timer.cancel("b")
    assert timer.active
    timer.cancel("a")
    assert not timer.active
    timer.schedule("a", 2)
    timer.cancel()
    await timer.fire()
    assert calls == []


async def test_an_action_that_runs_can_be_cancelled() -> None:
    cancelled = []

    async def action(uri: str, value: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(uri)
            raise

    timer = IdleTimer(action, 0.0)
    timer.schedule("a", 1)
    for _ in range(10):
        await asyncio.sleep(0)
    timer.cancel("a")
    await asyncio.sleep(0)
    assert cancelled == ["a"]


async def test_a_failing_action_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def action(uri: str, value: int) -> None:
        raise ValueError("bug")

    timer = IdleTimer(action, 0.0)
    timer.schedule("a", 1)
    await end_of(timer)
    assert "ValueError: bug" in caplog.text
