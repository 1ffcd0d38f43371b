"""Interrupting an evaluation."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from codegen_lsp.evaluation.runtime import gather


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as at a terminal; a process that a shell began in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_keeps_what_it_has() -> None:
    async def answers() -> AsyncIterator[int]:
        for number in range(100):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            yield number

    async def run_them() -> list[int]:
        found = await gather(answers(), lambda message, fraction: None, total=100)
        await asyncio.sleep(0)
        return found

    assert len(asyncio.run(run_them())) in (3, 4)
