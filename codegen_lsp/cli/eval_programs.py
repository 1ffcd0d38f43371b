"""`codegen-lsp eval humaneval`, `mtpb` and `run`: programs that a model wrote, judged by their tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from attrs import evolve
from rich.console import Console

from codegen_lsp.cli.eval_runner import run_eval
from codegen_lsp.cli.options import AsJson, BenchmarkData, Device, Engine, Model, Problems, RayAddress, Seed, Threads
from codegen_lsp.progress import ProgressReport

if TYPE_CHECKING:
    from codegen_lsp.evaluation.program_measurements import Benchmark, Mtpb
    from codegen_lsp.evaluation.programs import ProgramSample
    from codegen_lsp.evaluation.runtime import Measurement, Runtime

    MeasurePrograms = Callable[..., tuple[Measurement, list[ProgramSample]]]

LimitsOnly = Annotated[
    bool,
    typer.Option("--limits-only", help="Run the programs without namespaces: they can reach files and network."),
]
Samples = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Programs for each problem or test.")]
TopP = Annotated[float, typer.Option(metavar="P", min=0.01, max=1.0, help="Probability mass of nucleus sampling.")]
Ngrams = Annotated[
    Literal["off", "auto", "on"],
    typer.Option(metavar="off|auto|on", help="Mixing of n-grams into the model; published figures have none."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Log of the programs, from which an interrupted run goes on.", dir_okay=False),
]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the programs: to a .json as BigCode's generations.json, else as EvalPlus' samples.jsonl.",
        dir_okay=False,
    ),
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report with plots.", dir_okay=False)]


def humaneval(
    model: Model = "auto",
    data: BenchmarkData = None,
    cases: Problems = 0,
    samples: Samples = 1,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="0 decodes greedily.")] = 0.0,
    top_p: TopP = 0.95,
    ngrams: Ngrams = "off",
    limits_only: LimitsOnly = False,
    seed: Seed = 0,
    out: Out = None,
    save: Save = None,
    html: Html = None,
    ray: RayAddress = None,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Write HumanEval's functions and run their tests in a sandbox, for pass@k."""
    from codegen_lsp.evaluation.human_eval import DATA, folders_of, read_functions, some
    from codegen_lsp.evaluation.program_measurements import HumanEval
    from codegen_lsp.evaluation.runtime import open_runtime

    _check_samples(samples, temperature)
    source = data or DATA
    functions = some(read_functions(source), cases, seed)
    _measure(
        evolve(open_runtime(model, device, threads, engine), ngrams=ngrams),
        HumanEval(functions, "limits" if limits_only else "namespaces", folders_of(source)),
        samples,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        out=out,
        save=save,
        html=html,
        ray=ray,
        as_json=as_json,
    )


def mtpb(
    model: Model = "auto",
    data: BenchmarkData = None,
    problems: Annotated[int, typer.Option(metavar="K", min=0, help="The first K problems; 0 takes all.")] = 0,
    samples: Samples = 1,
    single_turn: Annotated[
        bool, typer.Option("--single-turn", help="Give all prompts at once, for comparison.")
    ] = False,
    both: Annotated[
        bool, typer.Option("--both", help="Measure several turns and all prompts at once, and compare them.")
    ] = False,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="0 decodes greedily.")] = 0.2,
    top_p: TopP = 0.95,
    ngrams: Ngrams = "off",
    limits_only: LimitsOnly = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of sampling.")] = 16,
    out: Out = None,
    save: Save = None,
    html: Html = None,
    ray: RayAddress = None,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Write the programs of the Multi-Turn Programming Benchmark turn by turn, and judge what they print."""
    from codegen_lsp.evaluation.human_eval import DATA, folders_of
    from codegen_lsp.evaluation.mtpb import first_problems, read_conversations
    from codegen_lsp.evaluation.program_measurements import Mtpb
    from codegen_lsp.evaluation.runtime import open_runtime

    _check_samples(samples, temperature)
    source = data or DATA
    if both and single_turn:
        raise typer.BadParameter("--both measures a single turn, too")

    def benchmark(*, single_turn: bool) -> Mtpb:
        conversations = first_problems(read_conversations(source, single_turn=single_turn), problems)
        return Mtpb(conversations, "limits" if limits_only else "namespaces", folders_of(source))

    _measure(
        evolve(open_runtime(model, device, threads, engine), ngrams=ngrams),
        benchmark(single_turn=single_turn),
        samples,
        single=benchmark(single_turn=True) if both else None,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        out=out,
        save=save,
        html=html,
        ray=ray,
        as_json=as_json,
    )


def run(
    samples: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="samples.jsonl, generations.json, a folder TASK_ID/0.py, or a log of --out.",
            exists=True,
        ),
    ],
    benchmark: Annotated[
        Literal["humaneval", "mtpb"], typer.Option(metavar="humaneval|mtpb", help="What the programs are for.")
    ] = "humaneval",
    data: BenchmarkData = None,
    limits_only: LimitsOnly = False,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Judge programs that any model wrote, in the sandbox."""
    import json

    import cattrs

    from codegen_lsp.cli.eval_tables import print_programs
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.evaluation.program_measurements import judge_programs
    from codegen_lsp.evaluation.program_page import programs_for, save_page
    from codegen_lsp.evaluation.sample_files import read_samples

    judged_by = _benchmark(benchmark, data, limits_only=limits_only)
    drafts = read_samples(samples, judged_by.problems())
    with progress_bar() as report:
        figures, judged = judge_programs(judged_by, drafts, report)
    if html is not None:
        save_page(html, judged_by, samples.name, figures, judged)
    if as_json:
        typer.echo(json.dumps({"figures": cattrs.unstructure(figures)}, indent=2))
    else:
        console = Console()
        console.print(programs_for(len(judged), len(drafts), judged_by.unit), style="bold", highlight=False)
        print_programs(console, figures)


def _benchmark(name: str, data: Path | None, *, limits_only: bool) -> Benchmark:
    from codegen_lsp.evaluation.human_eval import DATA, folders_of, read_functions
    from codegen_lsp.evaluation.mtpb import read_conversations
    from codegen_lsp.evaluation.program_measurements import HumanEval, Mtpb

    confinement: Literal["limits", "namespaces"] = "limits" if limits_only else "namespaces"
    source = data or DATA
    if name == "mtpb":
        return Mtpb(read_conversations(source), confinement, folders_of(source))
    return HumanEval(read_functions(source), confinement, folders_of(source))


def _check_samples(samples: int, temperature: float) -> None:
    """Raise BadParameter when all samples of a problem would be the same."""
    if samples > 1 and not temperature:
        raise typer.BadParameter("several samples need a --temperature above 0, or they are all the same")


def _measure(
    runtime: Runtime,
    benchmark: Benchmark,
    samples: int,
    *,
    single: Mtpb | None = None,
    temperature: float,
    top_p: float,
    seed: int,
    out: Path | None,
    save: Path | None,
    html: Path | None,
    ray: str | None,
    as_json: bool,
) -> None:
    """Measure a build, print the figures, and write the files that were asked for.

    With the benchmark in a `single` turn, that is measured and compared as well.
    """
    from codegen_lsp.cli.eval_tables import print_measured_programs
    from codegen_lsp.evaluation.program_page import save_page
    from codegen_lsp.evaluation.sample_files import write_samples

    found: list[ProgramSample] = []
    measure_programs = _measure_function(ray)

    def measure_single(runtime: Runtime, report: ProgressReport) -> tuple[Measurement, list[ProgramSample]]:
        beside = out.with_name(f"{out.name}.single-turn") if out is not None else None
        return measure_programs(
            runtime, single, samples, temperature=temperature, top_p=top_p, seed=seed, log=beside, report=report
        )

    def measure(runtime: Runtime, report: ProgressReport) -> Measurement:
        measurement, done = measure_programs(
            runtime, benchmark, samples, temperature=temperature, top_p=top_p, seed=seed, log=out, report=report
        )
        found.extend(done)
        if single is not None and not measurement.interrupted:
            measurement = _compared(measurement, done, *measure_single(runtime, report), single)
        if save is not None:
            write_samples(save, found, [problem.id for problem in benchmark.problems()])
        if html is not None:
            save_page(html, benchmark, measurement.model.name, measurement.figures, found)
        return measurement

    run_eval(runtime, measure, print_measured_programs, as_json=as_json)


def _compared(
    multi: Measurement,
    multi_samples: list[ProgramSample],
    single: Measurement,
    single_samples: list[ProgramSample],
    benchmark: Mtpb,
) -> Measurement:
    """Return the figures in several turns with the comparison, and the published figures of both."""
    from codegen_lsp.evaluation.turn_comparison import compare_turns

    figures = evolve(
        multi.figures,
        turns=compare_turns(multi_samples, single_samples, benchmark.turns_of),
        published=[*multi.figures.published, *single.figures.published],
    )
    return evolve(multi, figures=figures, interrupted=single.interrupted)


def _measure_function(ray: str | None) -> MeasurePrograms:
    """Return what measures a build, here or on a Ray cluster. Raises: CodegenError."""
    from functools import partial

    from codegen_lsp.evaluation.program_measurements import measure_programs

    if ray is None:
        return measure_programs
    from codegen_lsp import extras

    extras.require("ray", "codegen-lsp eval --ray")
    from codegen_lsp.deploy.environment import prepare

    prepare(None if ray == "local" else ray)
    from codegen_lsp.evaluation.ray_sampling import measure_programs_on_cluster

    return partial(measure_programs_on_cluster, ray)
