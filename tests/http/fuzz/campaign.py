"""Many attacks on one server, right requests in between, and what the server's processes and log are like after."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import Factory, define

from codegen_lsp.benchmarks.soak.connection import new_environment
from codegen_lsp.benchmarks.soak.levels import Levels, ProcessLevel, growth, level_of, marked_processes
from codegen_lsp.http.completion import CACHED_PROMPTS
from tests.http.conftest import RunningServer, running_server
from tests.http.fuzz.attacks import SECRET, Targets, attack, targets_of
from tests.http.fuzz.client import answers_to

AT_ONCE = 32
RIGHT_EVERY = 100
"""Attacks between two right requests."""
WARM_UP = 0.25
"""Share of the attacks after which the first level is read: what is allocated once has been by then."""
STEADY_FROM = 10_000
"""Attacks from which on growth counts."""
FILL_PROMPTS = CACHED_PROMPTS
"""Prompts of the full context that fill the worker's KV cache before each reading. The attacks leave any number of
sequences of any length in it, so its size would differ by tens of MiB from one reading to the next."""
READINGS = 3
"""Readings of a level, of which the lowest counts: the heap gives memory that was freed back to the system late."""


@define
class Report:
    """The counts of a campaign."""

    sent: Counter[str] = Factory(Counter)
    answers: Counter[str] = Factory(Counter)
    right: int = 0
    """Right requests that were answered rightly."""
    expected: str = ""
    """The answer to the right request, which was the first one."""
    levels: list[Levels] = Factory(list)
    problems: Counter[str] = Factory(Counter)


@contextmanager
def marked_server() -> Iterator[tuple[RunningServer, Path, str]]:
    """Yield a server with files of its own, its log, and the mark of its processes."""
    former = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-fuzz-") as folder:
        mark = secrets.token_hex(8)
        for name in ("tmp", "run", "state", "cache", "config", "data"):
            (Path(folder) / name).mkdir(mode=0o700)
        os.environ.update(new_environment(folder, mark))
        try:
            with running_server(Path(folder)) as server:
                server.wait_until_ready()
                yield server, Path(folder) / "server.log", mark
        finally:
            os.environ.clear()
            os.environ.update(former)


async def campaign(server: RunningServer, log: Path, mark: str, count: int, seed: int) -> Report:
    """Send `count` attacks, and return the report."""
    report, choose, begun = Report(), random.Random(seed), time.monotonic()
    targets = targets_of(json.loads((await asyncio.to_thread(server.ask, "GET", "/openapi.json"))[1]))
    await _right(server, report)
    for at, number in (("start", int(count * WARM_UP)), ("middle", count // 2), ("end", count)):
        await _attacks(server, targets, choose, report, number)
        await _right(server, report)
        report.levels.append(await _levels(at, mark, begun, server, READINGS if count >= STEADY_FROM else 0))
    for sentence in growth(report.levels[0], report.levels[-1]) if count >= STEADY_FROM else ():
        report.problems[sentence] += 1
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if any(SECRET in line for line in lines):
        report.problems["The log has text of a request."] += 1
    for line in lines:
        if "Traceback" in line or " ERROR " in line:
            report.problems[f"The log has: {line[:200]}"] += 1
    return report


async def _attacks(server: RunningServer, targets: Targets, choose: random.Random, report: Report, until: int) -> None:
    """Send attacks until there were so many in all."""

    async def attacker() -> None:
        while (number := report.sent.total()) < until:
            one = attack(targets, choose)
            report.sent[one.kind] += one.at_once
            for answers in await asyncio.gather(
                *(answers_to(one, server.host, server.port) for _ in range(one.at_once))
            ):
                if answers.problem:
                    sent = b"".join(one.parts)
                    shown = sent[:150] + sent.partition(b"\r\n\r\n")[2][:250]
                    report.problems[f"{one.kind}: {answers.problem}"] += 1
                    if report.problems[f"{one.kind}: {answers.problem}"] == 1:
                        print(f"{one.kind}: {answers.problem}\n    {shown!r}", flush=True)
                for status in answers.statuses or ("closed" if one.leave == "never" else "client left",):
                    report.answers[str(status)] += 1
            if number % RIGHT_EVERY == 0:
                await _right(server, report)

    await asyncio.gather(*(attacker() for _ in range(AT_ONCE)))


async def _fill_cache(server: RunningServer) -> None:
    """Ask for the continuation of different long texts, as many at once as users that the cache is made for."""
    choose = random.Random()  # other texts at each reading, or their sequences would be used again
    limit = asyncio.Semaphore(CACHED_PROMPTS)

    async def fill() -> None:
        words = (f"name_{choose.randrange(10**9)} = {choose.randrange(10**6)}\n" for _ in range(2_000))
        body = {"prompt": "".join(words), "n_predict": 1, "temperature": 0}
        async with limit:
            status, content = await asyncio.to_thread(server.ask, "POST", "/completion", body)
        assert status == 200, content

    await asyncio.gather(*(fill() for _ in range(FILL_PROMPTS)))


async def _right(server: RunningServer, report: Report) -> None:
    """Ask a right request until it is admitted, and check its answer."""
    body = {"prompt": "import ", "n_predict": 2, "temperature": 0}
    while True:
        assert server.process.poll() is None, "the server has ended"
        status, content = await asyncio.to_thread(server.ask, "POST", "/completion", body)
        if status not in (429, 503):
            break
        await asyncio.sleep(0.1)
    text = json.loads(content)["content"] if status == 200 else ""
    if text and text == (report.expected or text):
        report.expected = text
        report.right += 1
    else:
        report.problems[f"A right request was answered by {status}: {content[:200]!r}"] += 1


async def _levels(at: str, mark: str, begun: float, server: RunningServer, readings: int) -> Levels:
    """Return the lowest of so many readings, before each of which the cache is filled; 0 is one without that."""
    found: dict[str, ProcessLevel] = {}
    for _ in range(readings or 1):
        if readings:
            await _fill_cache(server)
        for process in marked_processes(mark):
            name = "server" if process.pid == server.process.pid else f"worker {process.pid}"
            level, before = level_of(process.pid), found.get(name)
            if before is not None:
                lowest = min(level.memory_mb, before.memory_mb), min(level.descriptors, before.descriptors)
                level = ProcessLevel(*lowest, level.threads)
            found[name] = level
    return Levels(at, time.monotonic() - begun, found)
