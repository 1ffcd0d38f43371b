"""Newer work supersedes older, and cancelling the caller is something else."""

from __future__ import annotations

import asyncio

import pytest

from codegen_lsp.lsp.latest import LatestTask, SupersededRequest


async def never() -> None:
    await asyncio.Event().wait()


async def value() -> int:
    return 1


async def begun(latest: LatestTask) -> asyncio.Task[None]:
    """A caller that waits for work that does not end."""
    caller = asyncio.create_task(latest.run(never()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return caller


async def test_newer_work_supersedes_older() -> None:
    latest = LatestTask()
    older = await begun(latest)
    assert await latest.run(value()) == 1
    with pytest.raises(SupersededRequest):
        await older
    assert not latest.running


async def test_cancelling_the_work_supersedes_it() -> None:
    latest = LatestTask()
    caller = await begun(latest)
    assert latest.running
    latest.cancel()
    with pytest.raises(SupersededRequest):
        await caller
    assert not latest.running


async def test_cancelling_the_caller_cancels_the_work() -> None:
    latest = LatestTask()
    caller = await begun(latest)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not latest.running


async def test_errors_of_the_work_are_the_callers() -> None:
    async def broken() -> None:
        raise ValueError("bug")

    latest = LatestTask()
    with pytest.raises(ValueError, match="bug"):
        await latest.run(broken())
    assert not latest.running
