"""Programs that a model wrote for the problems of a benchmark, each judged in the sandbox: sampling, the log, pass@k.

A run is written to a log as it goes on, so that it can be interrupted and taken up again.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs
import numpy as np
from attrs import field, frozen

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.figures import Figure, mean, share
from codegen_lsp.sandbox.sandbox import Verdict

Write = Callable[[str, int], Awaitable["WrittenProgram"]]
"""From the identifier of a problem and the number of the sample to a program."""
Judge = Callable[[str, "WrittenProgram"], Verdict]
"""From the identifier of a problem and a program to a verdict, in a thread."""
SampleOne = Callable[[str, int], Awaitable["ProgramSample"]]
"""From the identifier of a problem and the number of the sample to a judged program."""


@frozen
class WrittenProgram:
    """A program that a model wrote."""

    program: str
    """The whole program, without the tests."""
    completion: str
    """The part that the model wrote, after the prompt of the problem."""
    tokens: int = 0
    """Generated tokens."""


@frozen
class ProgramSample:
    """A judged program."""

    task: str
    """Identifier of the problem."""
    number: int
    """Of the sample, from 0."""
    program: str
    completion: str
    passed: bool
    detail: str = ""
    """Reason of a failure."""
    tokens: int = 0


@frozen
class SamplingSetup:
    """Everything that decides which programs a run gets."""

    benchmark: str
    model: str
    weights: str
    """SHA-256 of the build's weights."""
    temperature: float
    top_p: float
    seed: int
    format: str = ""
    """Variant of the benchmark, such as `multi-turn`."""


class SampleLog:
    """A file with one sample in each line, after a first line with the setup. Without a path nothing is kept."""

    def __init__(self, path: Path | None, setup: SamplingSetup) -> None:
        """Read the samples of an earlier run.

        Raises: EvaluationError when the file can't be read or written, or is of another setup.
        """
        self._path = path
        self.samples: dict[tuple[str, int], ProgramSample] = {}
        if path is None:
            return
        try:
            if path.exists() and (content := path.read_bytes()):
                self._read(content.decode("utf-8"), setup)
                # A line that was cut off by a kill is completed by its break, and skipped from then on.
                if not content.endswith(b"\n"):
                    self._write("\n")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(json.dumps(attrs.asdict(setup)) + "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError(f"{path} can't be used: {error}.", "Give another --out.") from error

    def add(self, sample: ProgramSample) -> None:
        """Append a sample. Raises: EvaluationError when it can't be written."""
        self.samples[sample.task, sample.number] = sample
        try:
            self._write(json.dumps(attrs.asdict(sample)) + "\n")
        except OSError as error:
            raise EvaluationError(f"{self._path} can't be written: {error}.", "Free some space, and go on.") from error

    def _read(self, text: str, setup: SamplingSetup) -> None:
        first, *rows = text.split("\n")
        earlier = _parsed(first)
        ours = attrs.asdict(setup)
        if earlier is None or earlier.keys() != ours.keys():
            raise EvaluationError(f"{self._path} is no log of an evaluation.", "Give another --out.")
        if different := [name for name in ours if earlier[name] != ours[name]]:
            name = different[0]
            raise EvaluationError(
                f"{self._path} is of another run: its {name} is {earlier[name]!r}, now it is {ours[name]!r}.",
                "Give another --out, or the same options as before.",
            )
        for row in rows:
            try:
                sample = cattrs.structure(_parsed(row), ProgramSample)
            except Exception:  # noqa: S112 - a line that was cut off by a kill is sampled again
                continue
            self.samples[sample.task, sample.number] = sample

    def _write(self, text: str) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)


def _parsed(row: str) -> dict[str, Any] | None:
    try:
        found = json.loads(row)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def judging(write: Write, judge: Judge, judged_at_once: int = 1) -> SampleOne:
    """Return a function that has a program written, and judges it in a thread, with a limit on these threads."""
    free = asyncio.Semaphore(judged_at_once)

    async def sample_one(task: str, number: int) -> ProgramSample:
        draft = await write(task, number)
        async with free:
            verdict = await asyncio.to_thread(judge, task, draft)
        passed = verdict.kind == "passed"
        return ProgramSample(task, number, draft.program, draft.completion, passed, verdict.detail, draft.tokens)

    return sample_one


@frozen
class Sampler:
    """Has programs written and judged, `at_once` of them at the same time, and logs them."""

    sample_one: SampleOne
    log: SampleLog
    at_once: int = 1

    async def sample(self, tasks: Sequence[str], samples: int) -> AsyncIterator[ProgramSample]:
        """Yield `samples` programs of each task as they are done, those of the log first.

        The first sample of all tasks comes before the second of any, so that an interrupted run has figures of all.
        Raises: what `sample_one` raises, and EvaluationError.
        """
        wanted = [(task, number) for number in range(samples) for task in tasks]
        open_ones = [one for one in wanted if one not in self.log.samples]
        for one in wanted:
            if one in self.log.samples:
                yield self.log.samples[one]
        running: set[asyncio.Task[ProgramSample]] = set()
        try:
            for task, number in open_ones:
                running.add(asyncio.ensure_future(self._one(task, number)))
                if len(running) >= self.at_once:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for one_done in done:
                        yield one_done.result()
            for following in asyncio.as_completed(running):
                yield await following
        finally:
            for left in running:
                left.cancel()

    async def _one(self, task: str, number: int) -> ProgramSample:
        sample = await self.sample_one(task, number)
        self.log.add(sample)
        return sample


@frozen
class PassRates:
    """The share of programs that are right."""

    samples: int
    """Number of judged programs."""
    at: dict[int, Figure] = field(factory=dict)
    """pass@k by k, over the problems of which there are that many samples."""

    @property
    def first(self) -> Figure | None:
        """pass@1."""
        return self.at.get(1)


KS = (1, 10, 100)
"""The k of pass@k that are given, where there are as many samples."""


def pass_rates(samples: Iterable[ProgramSample]) -> PassRates:
    """Return pass@k for each of `KS` of which every problem has as many samples."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        outcomes[sample.task].append(sample.passed)
    if not outcomes:
        return PassRates(0)
    fewest = min(map(len, outcomes.values()))
    rates = {}
    for k in KS:
        if k > fewest:
            break
        figure = mean_rate([pass_at_k(len(passed), sum(passed), k) for passed in outcomes.values()])
        assert figure is not None
        rates[k] = figure
    return PassRates(sum(map(len, outcomes.values())), rates)


def mean_rate(rates: Sequence[float]) -> Figure | None:
    """Return the mean of the pass rates of problems, with its interval; None without problems.

    Where all are 0 or 1, it is a share: resampling equal values would give an interval of no width.
    """
    if set(rates) <= {0.0, 1.0}:
        return share([rate == 1.0 for rate in rates])
    return mean(rates)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return an estimate of the chance that one of k samples is right, from n samples of which c are.

    1 - C(n-c, k) / C(n, k) (Chen et al., 2021), for 1 <= k <= n.
    """
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def seed_of(*parts: int) -> int:
    """Return a seed that depends on all parts, each not negative."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
