"""Measure a build, or judge anybody's programs, on HumanEval and MTPB.

Each function raises EvaluationError and SandboxError, and those that run a build ModelError and WorkerError. An
interrupted run keeps the figures of the programs that were done.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from codegen_lsp.evaluation import human_eval, mtpb
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.evaluation.programs import (
    ProgramSample,
    SampleLog,
    Sampler,
    SamplingSetup,
    Write,
    WrittenProgram,
    judging,
    mean_rate,
    pass_rates,
)
from codegen_lsp.evaluation.published import PublishedFigure, of_humaneval, of_mtpb
from codegen_lsp.evaluation.runtime import Measurement, Runtime, gather, running
from codegen_lsp.evaluation.sample_files import Problem
from codegen_lsp.evaluation.turn_comparison import TurnRates
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.progress import ProgressReport
from codegen_lsp.sandbox.sandbox import Confinement, Verdict
from codegen_lsp.suggest.request import CompletionModel


@frozen
class ProgramFigures:
    """The figures of a benchmark of programs."""

    rates: dict[str, Figure | None]
    """By name: pass@k, or the pass rate."""
    groups: dict[str, Figure] = field(factory=dict)
    """Pass rates of kinds of problems."""
    published: list[PublishedFigure] = field(factory=list)
    tokens: int = 0
    """Generated tokens."""
    turns: list[TurnRates] = field(factory=list)
    """In several turns and all at once, where both were measured."""


class Benchmark(Protocol):
    """A benchmark whose answers are programs."""

    name: str
    unit: str
    """Word for one of its problems: MTPB's are conversations with one of five inputs, called tests."""
    form: str
    """Variant, such as `multi-turn`."""

    def problems(self) -> list[Problem]:
        """Return the problems in their order."""
        ...

    async def write(self, id: str, number: int, model: CompletionModel, setup: SamplingSetup) -> WrittenProgram:
        """Have the model write a program."""
        ...

    def judge(self, id: str, draft: WrittenProgram) -> Verdict:
        """Run the tests of a problem."""
        ...

    def figures(self, samples: Sequence[ProgramSample], model: str) -> ProgramFigures:
        """Return the figures of judged programs; `model` is the name of the build, empty for nobody knows which."""
        ...


class HumanEval:
    """HumanEval's functions."""

    name = "humaneval"
    unit = "problem"

    def __init__(
        self,
        functions: Sequence[human_eval.Function],
        confinement: Confinement = "namespaces",
        hidden: Sequence[Path] = (),
    ) -> None:
        """`hidden` are the folders of the benchmark's files, which its programs must not see."""
        self.form = ""
        self._functions = {function.task_id: function for function in functions}
        self._confinement: Confinement = confinement
        self._hidden = hidden

    def problems(self) -> list[Problem]:
        """See `Benchmark.problems`."""
        return [Problem(function.task_id, function.prompt) for function in self._functions.values()]

    async def write(self, id: str, number: int, model: CompletionModel, setup: SamplingSetup) -> WrittenProgram:
        """See `Benchmark.write`."""
        return await human_eval.write_function(
            self._functions[id],
            model,
            temperature=setup.temperature,
            top_p=setup.top_p,
            seed=setup.seed,
            number=number,
        )

    def judge(self, id: str, draft: WrittenProgram) -> Verdict:
        """See `Benchmark.judge`."""
        return human_eval.judge(self._functions[id], draft.program, self._confinement, self._hidden)

    def figures(self, samples: Sequence[ProgramSample], model: str) -> ProgramFigures:
        """See `Benchmark.figures`."""
        rates = pass_rates(samples)
        return ProgramFigures(
            {f"pass@{k}": figure for k, figure in rates.at.items()},
            published=of_humaneval(model, rates.at),
            tokens=sum(sample.tokens for sample in samples),
        )


class Mtpb:
    """The Multi-Turn Programming Benchmark."""

    name = "mtpb"
    unit = "test"

    def __init__(
        self,
        conversations: Sequence[mtpb.Conversation],
        confinement: Confinement = "namespaces",
        hidden: Sequence[Path] = (),
    ) -> None:
        """`hidden` are the folders of the benchmark's files, which its programs must not see."""
        self.form = "single-turn" if any(one.single_turn for one in conversations) else "multi-turn"
        self._conversations = {one.id: one for one in conversations}
        self._confinement: Confinement = confinement
        self._hidden = hidden

    def problems(self) -> list[Problem]:
        """See `Benchmark.problems`."""
        return [Problem(id, mtpb.START) for id in self._conversations]

    def turns_of(self, id: str) -> int:
        """Return the number of turns of a test."""
        return len(self._conversations[id].prompts)

    async def write(self, id: str, number: int, model: CompletionModel, setup: SamplingSetup) -> WrittenProgram:
        """See `Benchmark.write`."""
        return await mtpb.converse(
            self._conversations[id],
            model,
            temperature=setup.temperature,
            top_p=setup.top_p,
            seed=setup.seed,
            number=number,
        )

    def judge(self, id: str, draft: WrittenProgram) -> Verdict:
        """See `Benchmark.judge`."""
        return mtpb.judge(self._conversations[id], draft.program, self._confinement, self._hidden)

    def figures(self, samples: Sequence[ProgramSample], model: str) -> ProgramFigures:
        """See `Benchmark.figures`."""
        rate = self._rate(samples)
        kinds: dict[str, list[ProgramSample]] = defaultdict(list)
        for sample in samples:
            conversation = self._conversations[sample.task]
            kinds[conversation.category].append(sample)
            kinds[f"{len(conversation.prompts)} turns"].append(sample)
        by_judge = self._rate(
            samples, passed=lambda sample: sample.passed and self._conversations[sample.task].published
        )
        return ProgramFigures(
            {"pass rate": rate, "pass rate, published judge": by_judge},
            {kind: figure for kind in sorted(kinds) if (figure := self._rate(kinds[kind]))},
            of_mtpb(model, self.form, by_judge),
            sum(sample.tokens for sample in samples),
        )

    @staticmethod
    def _rate(
        samples: Iterable[ProgramSample], passed: Callable[[ProgramSample], bool] = lambda sample: sample.passed
    ) -> Figure | None:
        """Return the share of programs that pass, with the interval over problems: their inputs are alike."""
        outcomes: dict[str, list[bool]] = defaultdict(list)
        for sample in samples:
            outcomes[sample.task.partition("/")[0]].append(passed(sample))
        return mean_rate([sum(passes) / len(passes) for passes in outcomes.values()])


PROMPTS_AT_ONCE = 8
"""Prompts and answers of the full context for which there is memory, if the machine has it; shorter ones are more."""


def judges() -> int:
    """Return how many programs are judged at once: more would exceed their time limit by waiting for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setup_of(runtime: Runtime, benchmark: Benchmark, temperature: float, top_p: float, seed: int) -> SamplingSetup:
    """Return everything that decides which programs a run gets."""
    return SamplingSetup(benchmark.name, runtime.build.name, runtime.weights, temperature, top_p, seed, benchmark.form)


def writing(benchmark: Benchmark, model: CompletionModel, setup: SamplingSetup) -> Write:
    """Return the function that has a model write the programs of a benchmark."""

    async def write(id: str, number: int) -> WrittenProgram:
        return await benchmark.write(id, number, model, setup)

    return write


def measurement_of(
    runtime: Runtime, benchmark: Benchmark, samples: int, model: ModelDescription, found: Sequence[ProgramSample]
) -> Measurement:
    """Return the figures of the programs of a run that was to get `samples` for each problem."""
    interrupted = len(found) < len(benchmark.problems()) * samples
    return Measurement(model, runtime.weights, interrupted, benchmark.figures(found, runtime.build.name))


def measure_programs(
    runtime: Runtime,
    benchmark: Benchmark,
    samples: int,
    *,
    temperature: float,
    top_p: float,
    seed: int,
    log: Path | None,
    report: ProgressReport,
) -> tuple[Measurement, list[ProgramSample]]:
    """Have a build write `samples` programs for each problem, and judge them: a ProgramFigures.

    A log of an earlier, interrupted run is taken up again.
    """
    setup = setup_of(runtime, benchmark, temperature, top_p, seed)
    tasks = [problem.id for problem in benchmark.problems()]
    record = SampleLog(log, setup)

    async def run() -> tuple[ModelDescription, list[ProgramSample]]:
        async with running(runtime, cache_memory_mb=None, at_once=PROMPTS_AT_ONCE) as (client, model):
            sample_one = judging(writing(benchmark, client, setup), benchmark.judge, judges())
            sampler = Sampler(sample_one, record, model.slots + judges())
            return model, await gather(sampler.sample(tasks, samples), report, total=len(tasks) * samples)

    model, found = asyncio.run(run())
    return measurement_of(runtime, benchmark, samples, model, found), found


def judge_programs(
    benchmark: Benchmark, drafts: dict[str, list[WrittenProgram]], report: ProgressReport
) -> tuple[ProgramFigures, list[ProgramSample]]:
    """Judge programs that somebody wrote, by problem."""
    wanted = [(id, number) for id in drafts for number in range(len(drafts[id]))]
    most = max(map(len, drafts.values()))
    setup = SamplingSetup(benchmark.name, "", "", 0.0, 0.0, 0, benchmark.form)

    async def run() -> list[ProgramSample]:
        found: list[ProgramSample] = []
        for number in range(most):
            tasks = [id for id, other in wanted if other == number]

            async def write(id: str, _: int, number: int = number) -> WrittenProgram:
                return drafts[id][number]

            sampler = Sampler(judging(write, benchmark.judge, judges()), SampleLog(None, setup), judges())
            done = await gather(sampler.sample(tasks, 1), report, total=len(wanted), before=len(found))
            found += done
            if len(done) < len(tasks):
                break
        return found

    judged = asyncio.run(run())
    return benchmark.figures(judged, ""), judged
