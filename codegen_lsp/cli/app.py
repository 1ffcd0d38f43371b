"""The `codegen-lsp` command. Each command reads its arguments and calls one function of a room.

Rooms are imported inside the commands: `serve` must not wait for what only `models` needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codegen_lsp import __version__
from codegen_lsp.errors import CodegenError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.settings import ABLATIONS, current_value

if TYPE_CHECKING:
    from rich.console import Console

    from codegen_lsp.cli.eval import Measured

app = typer.Typer(
    name="codegen-lsp",
    help="Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Install, list, check and remove models.", no_args_is_help=True)
app.add_typer(models_app, name="models")
eval_app = typer.Typer(help="Measure how good a model is, with the same commands for any.", no_args_is_help=True)
app.add_typer(eval_app, name="eval")
bench_app = typer.Typer(help="Measure how fast this machine completes.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help="Name of an installed model, folder of a build, or auto.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(metavar="N", min=0, help="Threads; 0 takes the physical cores, at most 8.")]
EngineName = Annotated[str, typer.Option("--engine", metavar="NAME", help="auto, ct2 or native.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead.")]

SourcePaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATHS]...", help="Files or folders of source that the model was not trained on."),
]
Corpus = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Without PATHS: take the held-out packages of this corpus of `codegen_lsp.training`."
    ),
]
Data = Annotated[
    Path | None, typer.Option(metavar="PATH", help="The benchmark's file, or the folder it is in.", show_default=False)
]


def _known_parts(names: list[str] | None) -> list[str]:
    known = [current_value("ablate", name) for name in names or []]
    if unknown := [name for name in known if name not in ABLATIONS]:
        raise typer.BadParameter(f"there is no part {unknown[0]!r}; the parts are {', '.join(ABLATIONS)}")
    return known


Without = Annotated[
    list[str] | None,
    typer.Option(
        "--ablate",
        "--without",
        metavar="PART",
        callback=_known_parts,
        help=f"Leave out a part of what an editor shows: {', '.join(ABLATIONS)}. May be given several times.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="The same number draws the same cases.")]


def main() -> None:
    """Run the command line. Errors that a user can act on are printed without a trace."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    # Programs of the user are compiled in several threads, and `warnings.catch_warnings` is not thread-safe.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    try:
        app()
    except CodegenError as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


def fail(error: CodegenError) -> None:
    """Print what happened and what to do, and end."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]Error:[/bold red] {_escaped(error.message)}")
    if error.advice:
        console.print(f"[bold]What to do:[/bold] {_escaped(error.advice)}")
    raise SystemExit(1)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"codegen-lsp {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it."""


@app.command()
def serve(
    tcp: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen on TCP instead of stdio.")] = None,
    ws: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen for WebSocket clients instead.")] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Use stdio, the default; some editors pass this.")] = False,
) -> None:
    """Run the language server; editors start this."""
    from codegen_lsp.lsp.serve import serve_stdio, serve_tcp, serve_ws

    if sum((tcp is not None, ws is not None, stdio)) > 1:
        raise typer.BadParameter("choose one of --stdio, --tcp and --ws")
    if tcp is not None:
        raise SystemExit(serve_tcp(tcp))
    if ws is not None:
        raise SystemExit(serve_ws(ws))
    raise SystemExit(serve_stdio())


@app.command()
def complete(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE[:COL]", help="Where the cursor is, counted from 1.")],
    number: Annotated[
        int, typer.Option("-n", metavar="N", min=1, max=8, help="How many different completions to show.")
    ] = 1,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: Annotated[
        str | None, typer.Option(metavar="ID", help="LSP language identifier, if the extension misleads.")
    ] = None,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="Above 0, completions vary.")] = 0.0,
    stats: Annotated[bool, typer.Option("--stats", help="Show what it cost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Complete code at a place in a file, and print it there."""
    from codegen_lsp.cli import complete as command
    from codegen_lsp.cli.location import snapshot_at
    from codegen_lsp.settings import Settings

    snapshot = snapshot_at(place, language)
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        candidates=number,
        temperature=temperature,
        languages={snapshot.language: True},
    )
    outcome, session = asyncio.run(command.complete(snapshot, settings))
    if as_json:
        typer.echo(command.as_json(snapshot, outcome, session))
        return
    from rich.console import Console

    command.print_completion(Console(), snapshot, outcome, session, stats=stats)


@app.command()
def refactor(
    place: Annotated[
        str,
        typer.Argument(metavar="FILE:RANGE", help="LINE, LINE:COL, LINE-LINE or LINE:COL-LINE:COL, counted from 1."),
    ],
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="What to do; without it, what can be done there is listed."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show the difference; the default.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Change the file.")] = False,
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, max=8, help="How many results to show.")] = 1,
    choose: Annotated[int, typer.Option(metavar="N", min=1, max=8, help="Which result to write.")] = 1,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Run doctests and the file's tests in a sandbox; by default where the model writes code.",
        ),
    ] = None,
    limits_only: Annotated[
        bool,
        typer.Option("--limits-only", help="Run tests without namespaces: they can reach files and network."),
    ] = False,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: Annotated[
        str | None, typer.Option(metavar="ID", help="LSP language identifier, if the extension misleads.")
    ] = None,
) -> None:
    """Refactor at a place in a file: extract, inline, rename, docstring, type hints, and more."""
    import attrs
    from rich.console import Console

    from codegen_lsp.cli import refactor as command
    from codegen_lsp.refactor.refusal import RefactorError
    from codegen_lsp.refactor.registry import KINDS, kind_named
    from codegen_lsp.refactor.verification import policy_for
    from codegen_lsp.settings import Settings

    target = command.target_at(place, language)
    if kind is None:
        command.print_menu(Console(), target)
        return
    wanted = kind_named(kind)
    if wanted is None:
        raise typer.BadParameter(f"there is no kind {kind!r}; there are: {', '.join(one.name for one in KINDS)}")
    settings = Settings(model=model, device=device, threads=threads, languages={target.source.language: True})
    policy = policy_for({None: "auto", True: "on", False: "off"}[verify], wanted)
    if policy is not None and limits_only:
        policy = attrs.evolve(policy, confinement="limits")
    with _progress() as report:
        outcome = asyncio.run(command.refactor(target, wanted, settings, report, policy))
    if write and choose > len(outcome.offers):
        count = len(outcome.offers)
        raise RefactorError("no_such_result", f"There are only {count} results.", "See them with -n 8.")
    if diff or not write:
        command.print_result(Console(), target, outcome, number)
    if write:
        offer = outcome.offers[choose - 1]
        written = command.write_all(target, offer)
        typer.echo(f"Wrote {', '.join(map(str, written))}: {offer.label}")


@app.command()
def demo(
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what is shown as a picture, too.")] = None,
) -> None:
    """Complete real code with the model, show its timing, and how to set up an editor."""
    from rich.console import Console

    from codegen_lsp.cli.demo import demo as show
    from codegen_lsp.settings import Settings

    console = Console(record=True, width=100, force_terminal=True) if svg else Console()
    settings = Settings(model=model, device=device, threads=threads, candidates=1)
    shown = asyncio.run(show(console, settings, picture=svg))
    if not shown:
        raise SystemExit(1)


@app.command()
def doctor(model: Model = "auto", device: Device = "auto", threads: Threads = 0) -> None:
    """Show versions, hardware, models and measured speed, with advice."""
    from rich.console import Console

    from codegen_lsp.cli.doctor import doctor as examine
    from codegen_lsp.settings import Settings

    if not asyncio.run(examine(Console(), Settings(model=model, device=device, threads=threads))):
        raise SystemExit(1)


@app.command()
def stats(
    days: Annotated[int, typer.Option(metavar="N", min=0, help="Of the last N days; 0 takes all.")] = 30,
    reset: Annotated[bool, typer.Option("--reset", help="Delete all counts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many suggestions were shown and accepted, and how long they took, as counted on this machine."""
    from rich.console import Console

    from codegen_lsp.cli import stats as counts
    from codegen_lsp.suggest.metrics import default_path

    path = default_path()
    if reset:
        typer.echo("The counts are deleted." if counts.reset(path) else "There are no counts.")
        return
    rows = counts.load(path, days)
    if as_json:
        typer.echo(counts.as_json(rows))
        return
    counts.print_figures(Console(), rows, path)


@models_app.command("list")
def models_list(
    installed: Annotated[bool, typer.Option("--installed", help="Only what is installed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List installed models and checkpoints that can be pulled."""
    from rich.console import Console

    from codegen_lsp.cli import models

    if as_json:
        typer.echo(json.dumps(models.listing(installed_only=installed), indent=2))
        return
    models.print_listing(Console(), installed_only=installed)


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A checkpoint, such as codegen-350M-mono.")],
    yes: Annotated[
        bool, typer.Option("--accept-license", help="Agree to the checkpoint's licence without being asked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint, convert it to int8, verify it, and install it."""
    from rich.console import Console

    from codegen_lsp.cli import models

    if as_json:
        raise SystemExit(models.pull_for_a_program(name, accepted=yes))
    console = Console()
    accepted = yes or models.consent(console, name)
    with _progress() as report:
        build = models.pull(name, accepted=accepted, progress=report)
    models.print_installed(console, build)


@models_app.command("convert")
def models_convert(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a checkpoint in Hugging Face format.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; the folder's by default.")
    ] = None,
) -> None:
    """Convert a checkpoint's folder to an int8 build, verify it, and install it."""
    from rich.console import Console

    from codegen_lsp.cli import models

    console = Console()
    with _progress() as report:
        build = models.convert(source, name, progress=report)
    models.print_installed(console, build)


@models_app.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or the folder of a build.")],
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compare with this checkpoint's float weights.")
    ] = None,
) -> None:
    """Check a build's files, and its answers against the checkpoint's."""
    from rich.console import Console

    from codegen_lsp.cli import models

    with _progress() as report:
        figures = models.verify(name, against, progress=report)
    models.print_verification(Console(), name, figures)


@models_app.command("path")
def models_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or auto.")] = "auto",
) -> None:
    """Print the folder of a model."""
    from codegen_lsp.checkpoints.store import find

    typer.echo(str(find(name).path))


@models_app.command("remove")
def models_remove(name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model.")]) -> None:
    """Delete a model from the store."""
    from codegen_lsp.checkpoints.store import remove

    typer.echo(f"Removed {remove(name)}")


@eval_app.command("lines")
def eval_lines(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Cursors of each kind.")] = 100,
    shown: Annotated[bool, typer.Option("--shown", help="Measure what an editor shows, too.")] = False,
    without: Without = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Instead: precision against coverage, by the setting `threshold`.")
    ] = False,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every case and its answer as JSON.")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Complete lines of unseen source: at their starts, within them, and within words."""
    from codegen_lsp.cli import eval as evaluation

    runtime = evaluation.open_runtime(model, device, threads, engine)
    documents = evaluation.documents(paths or [], corpus)
    with _progress() as report:
        measured, answers = evaluation.measure_lines(
            runtime, documents, cases, seed, shown=shown, report=report, without=without or (), curve=curve
        )
    if save:
        evaluation.save_answers(answers, save)
    _show(measured, evaluation.print_lines, as_json)


@eval_app.command("parts")
def eval_parts(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Places of each kind.")] = 100,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            callback=_known_parts,
            help="Only this one; again for more. All by default but `infilling`, which turns it on first.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask the same places with everything and without each part: what it gives, as paired differences."""
    from codegen_lsp.cli import eval as evaluation
    from codegen_lsp.evaluation.part_figures import IN_LINES

    documents = evaluation.documents(paths or [], corpus)
    runtime = evaluation.open_runtime(model, device, threads, engine)
    with _progress() as report:
        measured, _ = evaluation.measure_parts(runtime, documents, cases, seed, part or IN_LINES, report)
    _show(measured, evaluation.print_parts, as_json)


@eval_app.command("bits-per-byte")
def eval_bits_per_byte(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    files: Annotated[int, typer.Option(metavar="N", min=1, help="How many files to predict at most.")] = 100,
    against: Annotated[
        Path | None,
        typer.Option("--float", metavar="FOLDER", help="Compare with this checkpoint's float weights."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Predict whole files of unseen source, and count the bits that takes."""
    from codegen_lsp.cli import eval as evaluation

    runtime = evaluation.open_runtime(model, device, threads, engine)
    documents = evaluation.documents(paths or [], corpus)
    with _progress() as report:
        measured = evaluation.measure_bits(runtime, documents, files, seed, checkpoint=against, report=report)
    _show(measured, evaluation.print_bits, as_json)


@eval_app.command("humaneval-infilling")
def eval_humaneval_infilling(
    model: Model = "auto",
    data: Data = None,
    cases: Annotated[int, typer.Option(metavar="N", min=0, help="How many of the problems; 0 takes all.")] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Fill in single lines of HumanEval's solutions; exact match."""
    from codegen_lsp.cli import eval as evaluation
    from codegen_lsp.evaluation.human_eval import DATA

    runtime = evaluation.open_runtime(model, device, threads, engine)
    with _progress() as report:
        measured = evaluation.measure_infilling(runtime, data or DATA, cases, seed, report)
    _show(measured, evaluation.print_shares, as_json)


@eval_app.command("humaneval")
def eval_humaneval(
    model: Model = "auto",
    data: Data = None,
    cases: Annotated[int, typer.Option(metavar="N", min=0, help="How many of the problems; 0 takes all.")] = 0,
    samples: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Attempts at each problem.")] = 1,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="0 decodes greedily.")] = 0.0,
    limits_only: Annotated[
        bool,
        typer.Option("--limits-only", help="Run the programs without namespaces: they can reach files and network."),
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Write HumanEval's functions and run their tests in a sandbox; pass@k."""
    from codegen_lsp.cli import eval as evaluation
    from codegen_lsp.evaluation.human_eval import DATA

    if samples > 1 and not temperature:
        raise typer.BadParameter("several samples need a --temperature above 0, or they are all the same")
    runtime = evaluation.open_runtime(model, device, threads, engine)
    with _progress() as report:
        measured = evaluation.measure_functions(
            runtime,
            data or DATA,
            cases,
            seed,
            samples=samples,
            temperature=temperature,
            confinement="limits" if limits_only else "namespaces",
            report=report,
        )
    _show(measured, evaluation.print_shares, as_json)


@eval_app.command("refactorings")
def eval_refactorings(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Files or folders of Python; the installed packages by default."),
    ] = None,
    functions: Annotated[int, typer.Option(metavar="N", min=1, help="Functions, one of each file.")] = 300,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="What to do; again for more. All but type-hints by default."),
    ] = None,
    verify: Annotated[
        int, typer.Option(metavar="N", min=0, help="Places of each kind whose doctests and tests are run.")
    ] = 0,
    model: Model = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: EngineName = "auto",
    as_json: AsJson = False,
) -> None:
    """Refactor functions of installed packages, and check that every result holds."""
    import sysconfig

    from codegen_lsp.cli import eval as evaluation
    from codegen_lsp.refactor.registry import KINDS

    wanted = [one for one in KINDS if one.name in kind] if kind else [one for one in KINDS if one.name != "type-hints"]
    if kind and len(wanted) != len(set(kind)):
        raise typer.BadParameter(f"the kinds are: {', '.join(one.name for one in KINDS)}")
    runtime = evaluation.open_runtime(model, device, threads, engine)
    site = Path(sysconfig.get_paths()["purelib"])
    found = evaluation.documents(paths or [one for one in site.iterdir() if one.is_dir()], None)
    with _progress() as report:
        measured = evaluation.measure_refactorings(
            runtime, found, functions, seed, kinds=wanted, verified=verify, report=report
        )
    _show(measured, evaluation.print_refactorings, as_json)


@bench_app.command("engine")
def bench_engine(
    shape: Annotated[
        str,
        typer.Option(
            metavar="SHAPE",
            help="350M, 2B or another checkpoint, whose shape is filled with random weights; or a build.",
        ),
    ] = "350M",
    context: Annotated[int, typer.Option(metavar="N", min=16, help="Tokens before the cursor.")] = 1024,
    threads: Threads = 0,
    peers: Annotated[
        bool, typer.Option("--peers", help="Time llama.cpp and transformers, too; takes some minutes.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture, .svg or .png.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time the engines side by side: four tokens are typed after a context, sixteen are wanted."""
    from rich.console import Console

    from codegen_lsp.cli.bench import measure_engines, plot_engines, print_engines

    figures = measure_engines(shape, context, threads, ["--peers"] if peers else [])
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        print_engines(figures, Console())
    if plot is not None:
        plot_engines(figures, plot)


@bench_app.command("drafts")
def bench_drafts(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    places: Annotated[int, typer.Option(metavar="N", min=1, help="Cursors at starts of lines.")] = 40,
    tokens: Annotated[int, typer.Option(metavar="N", min=2, help="Tokens to write at each.")] = 64,
    ngrams: Annotated[str, typer.Option("--ngrams", metavar="WORD", help="auto, on or off, as the setting.")] = "auto",
    seed: Seed = 0,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time writing with drafts and without, by the engine `native` on unseen source."""
    from rich.console import Console

    from codegen_lsp.benchmarks.drafts import WARM_UP
    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli import bench
    from codegen_lsp.cli import eval as evaluation

    texts = evaluation.line_starts(evaluation.documents(paths or [], corpus), places + WARM_UP, seed)
    figures = bench.measure_drafts(find(model).path, texts, tokens, threads, ngrams=ngrams)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        bench.print_drafts(figures, Console())


@bench_app.command("cancel")
def bench_cancel(
    shape: Annotated[str, typer.Option(metavar="SHAPE", help="As for `bench engine`.")] = "350M",
    context: Annotated[int, typer.Option(metavar="N", min=64, help="Tokens of a cold prompt.")] = 1024,
    rounds: Annotated[int, typer.Option(metavar="N", min=2, help="Cancellations of each kind.")] = 20,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time how long a cancelled request holds up the next one, in the engine `native`."""
    from rich.console import Console

    from codegen_lsp.cli import bench

    figures = bench.measure_cancelling(shape, context, threads, rounds)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        bench.print_cancelling(figures, Console())


@bench_app.command("memory")
def bench_memory(
    shape: Annotated[
        str,
        typer.Option(metavar="SHAPE", help="As for `bench engine`. The embedded model is measured beside it."),
    ] = "350M",
    completions: Annotated[int, typer.Option(metavar="N", min=0, help="With the embedded model; 0 for none.")] = 5_000,
    documents: Annotated[int, typer.Option(metavar="N", min=1, help="In which they are made.")] = 50,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Measure what a second editor window takes, and whether a worker grows with what it completes."""
    from rich.console import Console

    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli import bench_memory as memory

    with _progress() as report:
        measured = memory.measure(find("auto").path, shape, completions, documents, threads, report)
    if as_json:
        typer.echo(json.dumps(memory.as_dict(measured)))
    else:
        memory.print_measured(Console(), measured)


@bench_app.command("start")
def bench_start(
    model: Model = "auto",
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="How many workers to start.")] = 5,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time how soon a worker that is started answers."""
    import attrs
    from rich.console import Console

    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli import bench_memory as memory

    found = memory.measure_start(find(model).path, threads, rounds)
    if as_json:
        typer.echo(json.dumps(attrs.asdict(found)))
    else:
        memory.print_start(Console(), found)


@bench_app.command("replay")
def bench_replay(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    files: Annotated[int, typer.Option(metavar="N", min=1, help="How many files are typed into at most.")] = 20,
    characters: Annotated[
        int, typer.Option(metavar="N", min=40, help="Characters to type in each file, in two stretches.")
    ] = 300,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Take the time that a person takes, and cancel what comes too late.")
    ] = False,
    engine: Annotated[str, typer.Option(metavar="NAME", help="auto, ct2 or native.")] = "auto",
    without: Without = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report with plots, too.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Type real files into the real server as a person would: times, keystrokes saved, processor time."""
    from rich.console import Console

    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli import replay

    runtime = {"model": str(find(model).path), "engine": engine, "device": device, "threads": threads}
    settings = runtime | {"languages": {"*": True}, "ablate": without or []}
    with _progress() as report:
        measured = replay.run(
            paths or [],
            corpus,
            settings,
            files=files,
            characters=characters,
            seed=seed,
            real_time=real_time,
            report=report,
        )
    if html:
        replay.save_page(measured, html)
    if as_json:
        typer.echo(replay.as_json(measured))
        return
    replay.print_figures(Console(), measured)


@bench_app.command("menu")
def bench_menu(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A Python file; the standard library's typing by default.")
    ] = None,
    places: Annotated[int, typer.Option(metavar="N", min=20, help="Random places in the file.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Time the menu of refactorings, each time as after a change, with nothing parsed yet."""
    import statistics
    import typing

    from codegen_lsp.evaluation.refactorings import menu_seconds
    from codegen_lsp.refactor.edits import Original
    from codegen_lsp.workspace.decoding import read_source

    text = Original(read_source(file or Path(typing.__file__))).normal()
    seconds, whole = menu_seconds(text, places, seed)
    marks = statistics.quantiles(seconds, n=100)
    typer.echo(
        f"{text.count(chr(10))} lines, {places} places: median {marks[49] * 1e3:.1f} ms, p95 {marks[94] * 1e3:.1f} ms, "
        f"slowest {max(seconds) * 1e3:.1f} ms of processor time; parsing the whole file {whole * 1e3:.1f} ms"
    )


def _show(measured: Measured, show: Callable[[Console, Measured], None], as_json: bool) -> None:
    from rich.console import Console

    from codegen_lsp.cli import eval as evaluation

    if as_json:
        typer.echo(evaluation.as_json(measured))
        return
    show(Console(), measured)


@contextmanager
def _progress() -> Iterator[ProgressReport]:
    from codegen_lsp.cli.progress import progress

    with progress() as report:
        yield report


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
