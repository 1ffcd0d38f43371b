"""`codegen-lsp eval …`: measure how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codegen_lsp.cli.eval_programs import humaneval, mtpb, run
from codegen_lsp.cli.eval_runner import run_eval
from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.options import (
    Ablate,
    AsJson,
    BenchmarkData,
    Corpus,
    Device,
    Engine,
    Model,
    Problems,
    Seed,
    SourcePaths,
    Threads,
    known_parts,
)
from codegen_lsp.progress import ProgressReport

if TYPE_CHECKING:
    from codegen_lsp.evaluation.runtime import Measurement, Runtime

app = typer.Typer(help="Measure the quality of a model.", no_args_is_help=True, add_completion=False)


@app.command("lines")
def lines(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Number of cursors of each kind.")] = 100,
    shown: Annotated[bool, typer.Option("--shown", help="Also measure what an editor shows.")] = False,
    workspace: Annotated[
        bool,
        typer.Option("--workspace", help="Also measure what an editor shows with the rest of the package indexed."),
    ] = False,
    ablate: Ablate = None,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve", help="Instead, print precision against coverage for values of the setting `threshold`."
        ),
    ] = False,
    seed: Seed = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every case and its answer to a file, as lines of JSON.")
    ] = None,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Complete lines of unseen source: at their starts, within them, and within words."""
    from codegen_lsp.cli.eval_tables import print_curve, print_lines
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.evaluation.measurements import measure_curve, measure_lines, save_answers
    from codegen_lsp.evaluation.runtime import open_runtime

    runtime = open_runtime(model, device, threads, engine)
    documents = find_documents(paths or [], corpus)

    def measure(runtime: Runtime, report: ProgressReport) -> Measurement:
        if curve:
            return measure_curve(runtime, documents, cases, seed, ablate=ablate or (), report=report)
        measurement, answers = measure_lines(
            runtime,
            documents,
            cases,
            seed,
            shown=shown or workspace,
            indexed=workspace,
            ablate=ablate or (),
            report=report,
        )
        if save:
            save_answers(answers, save)
        return measurement

    run_eval(runtime, measure, print_curve if curve else print_lines, as_json=as_json)


@app.command("parts")
def parts(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Number of places of each kind.")] = 100,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            callback=known_parts,
            help="Only this part; may be repeated. By default all but `infilling`, which is turned on if named.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure the effect of each part of a completion, by asking the same places with and without it."""
    from codegen_lsp.cli.eval_tables import print_parts
    from codegen_lsp.evaluation.ablation_study import IN_LINES
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.evaluation.measurements import measure_parts
    from codegen_lsp.evaluation.runtime import open_runtime

    documents = find_documents(paths or [], corpus)
    run_eval(
        open_runtime(model, device, threads, engine),
        lambda runtime, report: measure_parts(runtime, documents, cases, seed, parts=part or IN_LINES, report=report),
        print_parts,
        as_json=as_json,
    )


@app.command("bits-per-byte")
def bits_per_byte(
    paths: SourcePaths = None,
    model: Model = "auto",
    corpus: Corpus = None,
    files: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of files.")] = 100,
    against: Annotated[
        Path | None,
        typer.Option("--float", metavar="FOLDER", help="Compare with this checkpoint's float weights."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Measure the bits per byte that it takes to predict files of unseen source."""
    if against is not None:
        ensure("convert", "eval bits-per-byte --float", install=install)
    from codegen_lsp.cli.eval_tables import print_bits
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.evaluation.measurements import measure_bits
    from codegen_lsp.evaluation.runtime import open_runtime

    runtime = open_runtime(model, device, threads, engine)
    documents = find_documents(paths or [], corpus)
    run_eval(
        runtime,
        lambda runtime, report: measure_bits(runtime, documents, files, seed, checkpoint=against, report=report),
        print_bits,
        as_json=as_json,
    )


@app.command("humaneval-infilling")
def humaneval_infilling(
    model: Model = "auto",
    data: BenchmarkData = None,
    cases: Problems = 0,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Fill in single lines of HumanEval's solutions, judged by exact match."""
    from codegen_lsp.cli.eval_tables import print_shares
    from codegen_lsp.evaluation.human_eval import DATA
    from codegen_lsp.evaluation.measurements import measure_infilling
    from codegen_lsp.evaluation.runtime import open_runtime

    run_eval(
        open_runtime(model, device, threads, engine),
        lambda runtime, report: measure_infilling(runtime, data or DATA, cases, seed, report),
        print_shares,
        as_json=as_json,
    )


@app.command("refactorings")
def refactorings(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Files or folders of Python; the installed packages by default."),
    ] = None,
    functions: Annotated[int, typer.Option(metavar="N", min=1, help="Number of functions, one from each file.")] = 300,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Kind of refactoring; may be repeated. All except type-hints by default."),
    ] = None,
    verify: Annotated[
        int, typer.Option(metavar="N", min=0, help="Number of places of each kind whose doctests and tests are run.")
    ] = 0,
    model: Model = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Refactor functions of installed packages, and check every result."""
    import sysconfig

    from codegen_lsp.cli.eval_tables import print_refactorings
    from codegen_lsp.evaluation.documents import find_documents
    from codegen_lsp.evaluation.measurements import measure_refactorings
    from codegen_lsp.evaluation.runtime import open_runtime
    from codegen_lsp.refactor.registry import KINDS

    kinds = [one for one in KINDS if one.name in kind] if kind else [one for one in KINDS if one.name != "type-hints"]
    if kind and len(kinds) != len(set(kind)):
        raise typer.BadParameter(f"the kinds are: {', '.join(one.name for one in KINDS)}")
    runtime = open_runtime(model, device, threads, engine)
    packages = Path(sysconfig.get_paths()["purelib"])
    documents = find_documents(paths or [one for one in packages.iterdir() if one.is_dir()], None)
    run_eval(
        runtime,
        lambda runtime, report: measure_refactorings(
            runtime, documents, functions, seed, kinds=kinds, verified=verify, report=report
        ),
        print_refactorings,
        as_json=as_json,
    )


app.command("humaneval")(humaneval)
app.command("mtpb")(mtpb)
app.command("run")(run)
