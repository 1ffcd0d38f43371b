"""`codegen-lsp bench …`: measure how fast this machine completes, and what that costs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.bench_http import http
from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.options import (
    Ablate,
    AsJson,
    Corpus,
    Device,
    Engine,
    Model,
    Seed,
    Shape,
    SourcePaths,
    Threads,
)
from codegen_lsp.errors import ModelError
from codegen_lsp.temporary_folder import TemporaryFolder


class TimedBits(StrEnum):
    """Bits of the weights that are timed."""

    eight = "8"
    four = "4"


class TimedGroup(StrEnum):
    """Columns of 4-bit weights with a common scale."""

    small = "32"
    large = "64"


app = typer.Typer(help="Measure how fast this machine completes.", no_args_is_help=True, add_completion=False)
app.command("http")(http)


@app.command("engine")
def engine(
    shape: Annotated[
        str,
        typer.Option(
            metavar="SHAPE",
            help="350M, 2B or another checkpoint, whose shape gets random weights; or the folder of a build.",
        ),
    ] = "350M",
    context: Annotated[int, typer.Option(metavar="N", min=16, help="Tokens before the cursor.")] = 1024,
    threads: Threads = 0,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also time llama.cpp and transformers, which takes some minutes.")
    ] = False,
    bits: Annotated[
        TimedBits,
        typer.Option(help="4: also time 4-bit weights of the shape, with --peers beside llama.cpp's Q4_K_M."),
    ] = TimedBits.eight,
    group: Annotated[TimedGroup, typer.Option(help="With 4 bits, weights that share a scale.")] = TimedGroup.small,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture, .svg or .png.", show_default=False)
    ] = None,
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Time the engines side by side: four tokens are typed after a context, sixteen are wanted."""
    if peers:
        ensure("peers", "bench engine --peers", install=install)
    if plot is not None:
        ensure("plot", "bench engine --plot", install=install)
    from codegen_lsp.benchmarks.isolated import time_engines
    from codegen_lsp.cli.bench_plot import plot_engines
    from codegen_lsp.cli.bench_tables import print_engines

    in_groups = int(group) if bits is TimedBits.four else 0
    figures = time_engines(shape, context, threads, peers=peers, group=in_groups)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        print_engines(Console(), figures)
    if plot is not None:
        plot_engines(figures, plot)


@app.command("drafts")
def drafts(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    places: Annotated[int, typer.Option(metavar="N", min=1, help="Number of cursors, at starts of lines.")] = 40,
    tokens: Annotated[int, typer.Option(metavar="N", min=2, help="Tokens to generate at each.")] = 64,
    ngrams: Annotated[
        str,
        typer.Option("--ngrams", "--document-cache", metavar="WORD", help="auto, on or off, as the setting `ngrams`."),
    ] = "auto",
    workspace: Annotated[
        bool, typer.Option("--workspace", help="With the n-gram index of the other files of each package or path.")
    ] = False,
    seed: Seed = 0,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time the engine `native` with and without speculative drafts, on unseen source."""
    from codegen_lsp.benchmarks.drafts import WARM_UP
    from codegen_lsp.benchmarks.isolated import time_drafts
    from codegen_lsp.cli.bench_tables import print_drafts
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.evaluation.lines import draw_line_starts, packages_of

    documents = find_documents(paths or [], corpus)
    starts = draw_line_starts(documents, places + WARM_UP, seed)
    packages = packages_of(documents) if workspace else {}
    figures = time_drafts(find(model).path, starts, packages, tokens, threads, ngrams)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        print_drafts(Console(), figures)


@app.command("cancel")
def cancel(
    shape: Shape = "350M",
    context: Annotated[int, typer.Option(metavar="N", min=64, help="Tokens of a cold prompt.")] = 1024,
    rounds: Annotated[int, typer.Option(metavar="N", min=2, help="Number of cancellations of each kind.")] = 20,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time how long a cancelled request delays the next one, in the engine `native`."""
    from codegen_lsp.benchmarks.isolated import time_cancellations
    from codegen_lsp.cli.bench_tables import print_cancelling

    figures = time_cancellations(shape, context, threads, rounds)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        print_cancelling(Console(), figures)


@app.command("batching")
def batching(
    shape: Shape = "350M",
    context: Annotated[int, typer.Option(metavar="N", min=64, help="Tokens before the cursor of each request.")] = 256,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Number of rounds; the figures are medians.")] = 5,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time several requests at once: tokens per second, and the first token of one that joins others."""
    from codegen_lsp.benchmarks.isolated import time_batching
    from codegen_lsp.cli.bench_tables import print_batching

    figures = time_batching(shape, context, threads, rounds)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        print_batching(Console(), figures)


@app.command("memory")
def memory(
    shape: Annotated[
        str,
        typer.Option(metavar="SHAPE", help="As for `bench engine`. The embedded model is measured as well."),
    ] = "350M",
    completions: Annotated[
        int, typer.Option(metavar="N", min=0, help="Completions with the embedded model; 0 for none.")
    ] = 5_000,
    documents: Annotated[int, typer.Option(metavar="N", min=1, help="Documents in which they are made.")] = 50,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the memory that a second editor window adds, and that of a worker over many completions."""
    from codegen_lsp.benchmarks.memory import measure_memory, plain_values
    from codegen_lsp.cli.bench_tables import print_memory
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        use = measure_memory(find("auto").path, shape, completions, documents, threads, report)
    if as_json:
        typer.echo(json.dumps(plain_values(use)))
    else:
        print_memory(Console(), use)


@app.command("start")
def start(
    model: Model = "auto",
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Number of servers, and of workers, to start.")] = 5,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Time the parts of the start of a server and of a worker, and measure their memory."""
    from codegen_lsp.benchmarks.start import measure_start
    from codegen_lsp.cli.bench_tables import print_start

    times = measure_start(find(model).path, threads, rounds)
    if as_json:
        typer.echo(json.dumps(attrs.asdict(times)))
    else:
        print_start(Console(), times)


@app.command("replay")
def replay(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    files: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of files.")] = 20,
    characters: Annotated[
        int, typer.Option(metavar="N", min=40, help="Characters to type in each file, in two stretches.")
    ] = 300,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Type at the speed of a person, and cancel requests that are late.")
    ] = False,
    workspace_files: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Put the files into one workspace of so many more, which is indexed meanwhile."
        ),
    ] = 0,
    engine: Engine = "auto",
    ablate: Ablate = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a report with plots.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Type real files into the real server as a person does: times, keystrokes saved, processor time."""
    from codegen_lsp.benchmarks.replay import replay_files
    from codegen_lsp.benchmarks.replay_figures import as_json as json_of
    from codegen_lsp.benchmarks.replay_page import save_page
    from codegen_lsp.cli.bench_tables import print_replay
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.evaluation.documents import find_documents

    settings = {
        "model": str(find(model).path),
        "engine": engine,
        "device": device,
        "threads": threads,
        "languages": {"*": True},
        "ablate": ablate or [],
    }
    documents = find_documents(paths or [], corpus)
    with progress_bar() as report:
        measured = replay_files(
            documents,
            files=files,
            characters=characters,
            seed=seed,
            settings=settings,
            real_time=real_time,
            report=report,
            workspace_files=workspace_files,
        )
    if html:
        save_page(measured, html)
    if as_json:
        typer.echo(json_of(measured))
    else:
        print_replay(Console(), measured)


@app.command("menu")
def menu(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A Python file; the standard library's typing by default.")
    ] = None,
    places: Annotated[int, typer.Option(metavar="N", min=20, help="Number of random places in the file.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Time the menu of refactorings as after a change of the text, with nothing parsed yet."""
    import statistics
    import typing

    from codegen_lsp.benchmarks.refactoring_menu import menu_seconds
    from codegen_lsp.refactor.edits import Original
    from codegen_lsp.workspace.decoding import read_source

    text = Original(read_source(file or Path(typing.__file__))).normal()
    seconds, whole = menu_seconds(text, places, seed)
    percentiles = statistics.quantiles(seconds, n=100)
    typer.echo(
        f"{text.count(chr(10))} lines, {places} places: "
        f"median {percentiles[49] * 1e3:.1f} ms, p95 {percentiles[94] * 1e3:.1f} ms, "
        f"slowest {max(seconds) * 1e3:.1f} ms of processor time; parsing the whole file {whole * 1e3:.1f} ms"
    )


@app.command("index")
def index(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    files: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="Number of files. May be repeated; 10, 100, 1000, 10000 by default."),
    ] = None,
    tokens: Annotated[
        int, typer.Option(metavar="N", min=1_000, help="Tokens to index at most, as the setting `index.max_tokens`.")
    ] = 5_000_000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Time the n-gram index of workspaces by size: building, updating and asking it, and its memory."""
    from codegen_lsp.benchmarks.index import SIZES, time_index
    from codegen_lsp.cli.bench_tables import print_index
    from codegen_lsp.evaluation.documents import find_documents

    documents = find_documents(paths or [], corpus)
    with TemporaryFolder() as folder:
        times = time_index(model, documents, tokens, folder, seed, files or SIZES)
    if as_json:
        typer.echo(json.dumps([attrs.asdict(one) for one in times]))
    else:
        print_index(Console(), times)


@app.command("soak")
def soak(
    minutes: Annotated[
        float, typer.Option(metavar="M", min=0, help="Repeat the rounds for so long; 0 for the counts below.")
    ] = 0,
    edits: Annotated[int, typer.Option(metavar="N", min=2, help="Edits of documents.")] = 10_000,
    cancels: Annotated[int, typer.Option(metavar="N", min=0, help="Completion requests that are cancelled.")] = 1_000,
    kills: Annotated[int, typer.Option(metavar="N", min=0, help="Times that the worker is killed.")] = 10,
    malformed: Annotated[int, typer.Option(metavar="N", min=0, help="Malformed messages.")] = 100_000,
    stops: Annotated[
        int, typer.Option(metavar="N", min=0, help="Times that the worker is stopped for good, and for a while.")
    ] = 2,
    disks: Annotated[int, typer.Option(metavar="N", min=0, help="Times that the disk is full.")] = 5,
    vanishing: Annotated[
        int, typer.Option(metavar="N", min=0, help="Clients on sockets that are gone in the middle of a message.")
    ] = 100,
    windows: Annotated[int, typer.Option(metavar="N", min=0, help="Servers whose editor is gone at once.")] = 5,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for all files of the servers. On a file system of up to 256 MiB, the disk is really filled; "
            "elsewhere, writing files is forbidden by a limit.",
            show_default=False,
        ),
    ] = None,
    model: Model = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Treat the real server and worker badly; exit with 1 if anything is unanswered, left behind, or grows."""
    import asyncio
    import sys

    from codegen_lsp.cli.progress_bar import progress_bar

    if sys.platform != "linux":
        raise ModelError("The soak test runs on Linux only.", "It stops processes, and limits what they may write.")
    from codegen_lsp.benchmarks.soak.run import soak as run_soak
    from codegen_lsp.benchmarks.soak.schedule import Counts
    from codegen_lsp.cli.bench_tables import print_soak

    counts = Counts(edits, cancels, kills, malformed, stops, disks, vanishing, windows)
    settings = {"model": str(find(model).path)}
    with progress_bar() as report:
        found = asyncio.run(run_soak(counts, seed, settings, folder, minutes, report))
    if as_json:
        typer.echo(json.dumps(attrs.asdict(found)))
    else:
        print_soak(Console(), found)
    if found.faults:
        raise typer.Exit(1)
