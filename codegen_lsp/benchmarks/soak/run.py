"""One soak test: rounds of actions, readings of the levels, and the checks at the end."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.benchmarks.soak.connection import new_mark
from codegen_lsp.benchmarks.soak.faults import FullDisk
from codegen_lsp.benchmarks.soak.levels import Levels, growth
from codegen_lsp.benchmarks.soak.perform import SETTINGS, ServersUnderTest
from codegen_lsp.benchmarks.soak.schedule import Action, Counts, actions, rounds_of, share
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

BATCH = 500
"""Malformed messages that are sent at once."""


@frozen
class SoakReport:
    """What happened in a run."""

    seed: int
    seconds: float
    sent: dict[str, int]
    """Messages and other actions by kind."""
    answered: dict[str, int]
    """Answers by kind of the request and outcome."""
    levels: list[Levels]
    """At the start, in the middle and at the end."""
    faults: list[str]
    """What is wrong, as sentences: unanswered requests, growth, and what is left behind. Empty if nothing is."""


async def soak(
    counts: Counts, seed: int, settings: dict[str, Any], folder: Path | None, minutes: float, report: ProgressReport
) -> SoakReport:
    """Run a soak test with these counts of actions, or for some minutes, in a new folder below the given one.

    Raises: ReplayError when the servers don't start; ModelError.
    """
    with TemporaryFolder("soak-", folder) as own:
        run = ServersUnderTest(own, new_mark(), SETTINGS | settings, random.Random(seed))  # noqa: S311 - not for secrets
        levels: list[Levels] = []
        try:
            await run.start()
            measuring = asyncio.create_task(_measured(run, counts, minutes, levels, report))

            def interrupt() -> None:
                run.interrupted = True
                measuring.cancel()

            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, interrupt)
            try:
                await measuring
            except asyncio.CancelledError:
                if not run.interrupted:
                    raise
            except ReplayError as error:
                if not levels:
                    raise
                run.faults.append(str(error))
        finally:
            FullDisk(run.folder, run.mark).free()
            await run.end()
    if run.interrupted:
        run.faults.append("The run was interrupted before its end.")
    if len(levels) == len(("start", "middle", "end")):
        run.faults += growth(levels[1], levels[2])
    return SoakReport(
        seed,
        time.monotonic() - run.started,
        dict(sorted((run.server.sent + run.done).items())),
        dict(sorted(run.server.answered.items())),
        levels,
        run.faults,
    )


async def _measured(
    run: ServersUnderTest, counts: Counts, minutes: float, levels: list[Levels], report: ProgressReport
) -> None:
    """Perform all rounds and read the levels before, in between and after. Raises: ReplayError."""
    levels.append(await run.reading("start"))
    await _rounds(run, counts, minutes, levels, report)
    levels.append(await run.reading("end"))
    if run.tcp.connections:
        run.faults.append(f"The server on TCP has {run.tcp.connections} connections to clients that left.")


async def _rounds(
    run: ServersUnderTest, counts: Counts, minutes: float, levels: list[Levels], report: ProgressReport
) -> None:
    """Perform all rounds, or rounds for some minutes; read the levels in the middle."""
    rounds = rounds_of(counts)
    number = 0
    while True:
        passed = (time.monotonic() - run.started) / 60 / minutes if minutes else number / rounds
        if len(levels) == 1 and passed >= 0.5:
            levels.append(await run.reading("middle"))
        if passed >= 1:
            return
        report(f"{number} rounds, {run.server.sent['edit']} edits", passed)
        of_round = share(counts, number % rounds, rounds)
        left = of_round.malformed
        for action in actions(of_round, BATCH, run.choose):
            if action is Action.MALFORMED:
                await run.malformed(min(BATCH, left))
                left -= min(BATCH, left)
            else:
                await run.perform(action)
        await run.compare()
        number += 1
