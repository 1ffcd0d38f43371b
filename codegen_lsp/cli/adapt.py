"""`codegen-lsp adapt`: train a model further on the user's own code."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.console import Console
from rich.table import Table

from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.options import AsJson, RayAddress, Threads

if TYPE_CHECKING:
    from codegen_lsp.checkpoints.adaptation_record import Change
    from codegen_lsp.training.adaptation.job import AdaptationJob, Outcome


def adapt(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Folders of your source code; the current one by default."),
    ] = None,
    base: Annotated[
        str, typer.Option(metavar="NAME", help="Model to start from, or the folder of a float checkpoint.")
    ] = "auto",
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Float checkpoint of the model to start from, if that is a larger one."),
    ] = None,
    minutes: Annotated[float, typer.Option(metavar="M", min=0.1, help="Time to train, the estimate included.")] = 30.0,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the new model.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Go on from the adapted model with the files that have changed.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Go on where the estimate shows no gain, and install the result.")
    ] = False,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate", help="Train on the code as it was, measure on the lines added since; install nothing."
        ),
    ] = False,
    days: Annotated[float, typer.Option(metavar="N", min=0.1, help="Age of the code for --evaluate.")] = 90.0,
    commits: Annotated[int, typer.Option(metavar="N", min=2, help="Later commits for --evaluate.")] = 60,
    polite: Annotated[bool, typer.Option("--polite", help="Pause while an editor asks for suggestions.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Files not to read, as in the setting `exclude`.")
    ] = None,
    ray: RayAddress = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Workers on the Ray cluster.")] = 2,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="Where the cluster keeps checkpoints: a folder that all nodes share, or s3://…"
        ),
    ] = None,
    threads: Threads = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda.")] = "auto",
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Train a model further on your own code, on this machine. Nothing leaves it.

    First it is tried in a tenth of the time whether that pays beside the n-grams of your workspace. Ctrl-C ends the
    training and keeps the best weights; after a second one, or a crash, the same command goes on.
    """
    if ray is None and storage is not None:
        raise typer.BadParameter("it is for a cluster.", param_hint="--storage")
    if ray is not None and polite:
        raise typer.BadParameter("a cluster does not know who types here.", param_hint="--polite")
    ensure("train", "adapt", install=install)
    if ray is not None:
        ensure("ray-train", "adapt --ray", install=install)
        from codegen_lsp.deploy.environment import prepare

        prepare(None if ray == "local" else ray)
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.inference.engines.factory import default_threads
    from codegen_lsp.training.adaptation.base import is_checkpoint, name_of
    from codegen_lsp.training.adaptation.job import AdaptationJob, ClusterOptions, default_name
    from codegen_lsp.training.adaptation.resources import yield_to_others
    from codegen_lsp.training.adaptation.stages import adapt as run

    if checkpoint is not None or is_checkpoint(base):
        ensure("adapters", "adapt with the float checkpoint of a larger model", install=install)
    yield_to_others()

    folders = tuple(paths or [Path()])
    job = AdaptationJob(
        paths=folders,
        name=name or default_name(folders, name_of(base)),
        base=base,
        minutes=minutes,
        refresh=refresh,
        anyway=anyway,
        polite=polite,
        threads=threads or default_threads(),
        device=device,
        exclude=tuple(exclude or ()),
        checkpoint=checkpoint,
        cluster=None if ray is None else ClusterOptions(ray, workers, storage),
    )
    console = Console(stderr=as_json)
    if evaluate:
        _evaluate(job, days, commits, console, as_json=as_json)
        return
    with _interruptible(console) as stopped, progress_bar() as report:
        outcome = run(job, report, lambda line: console.print(line, highlight=False, soft_wrap=True), stopped.is_set)
    if as_json:
        typer.echo(json.dumps(_as_values(outcome), indent=1))
    else:
        _print(console, job.name, outcome)
    if outcome.interrupted and outcome.build is None:
        raise SystemExit(130)


def _evaluate(job: AdaptationJob, days: float, commits: int, console: Console, *, as_json: bool) -> None:
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.evaluation.adaptation_trial import run_trial

    with _interruptible(console) as stopped, progress_bar() as report:
        trial = run_trial(
            job,
            days,
            commits=commits,
            per_commit=4,
            seed=0,
            report=report,
            say=lambda line: console.print(line, highlight=False, soft_wrap=True),
            stop=stopped.is_set,
        )
    if as_json:
        values = attrs.asdict(trial)
        values["record"] = {"figures": values["record"]["figures"]} if values["record"] else None
        typer.echo(json.dumps(values, indent=1))
        return
    if trial.record is None or trial.added is None:
        console.print("Interrupted before there was anything to measure.")
        return
    console.print(_table(trial.record.figures), highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (f"on lines of {trial.added.commits} later commits", "before", "after", "difference", "of"):
        table.add_column(column, justify="left" if column.startswith("on") else "right")
    for name, one in trial.added.figures.items():
        interval = f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        table.add_row(name, f"{one.before:.4f}", f"{one.after:.4f}", interval, f"{one.cases:.0f}")
    console.print(table, highlight=False)


@contextmanager
def _interruptible(console: Console) -> Iterator[threading.Event]:
    """Set an event at the first Ctrl-C, and interrupt at the second."""
    stopped = threading.Event()
    former = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        console.print("Ending when this step is done. Ctrl-C again ends at once; the same command goes on from there.")

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, former)


def _print(console: Console, name: str, outcome: Outcome) -> None:
    if outcome.record is not None:
        console.print(_table(outcome.record.figures), highlight=False)
    if outcome.build is not None:
        text = (
            f"[green]{name}[/green] is installed in {outcome.build.path}\n"
            "Your editor offers it when you open one of these folders; or set "
            f'"codegen-lsp.model" to "{name}" there.\nRemove it, and all that was kept for it, with '
            f"`codegen-lsp models remove {name}`."
        )
    elif outcome.interrupted:
        text = f"Interrupted. The same command goes on from here; `codegen-lsp models remove {name}` deletes its files."
    elif outcome.record is not None:
        text = "It is no better on your held-out files than before, so nothing was installed. Try more --minutes."
    else:
        text = (
            "Nothing was installed: the n-grams of the workspace give most of it already, at no training. "
            "Try more --minutes or more folders, or --anyway."
        )
    console.print(text, highlight=False, soft_wrap=True)


def _table(figures: dict[str, Change]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("bits per byte", "before", "after", "change", "files"):
        table.add_column(column, justify="left" if column == "bits per byte" else "right")
    for name, change in figures.items():
        interval = f"{100 * change.change:+.1f} % ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        table.add_row(name, f"{change.before:.3f}", f"{change.after:.3f}", interval, str(change.files))
    return table


def _as_values(outcome: Outcome) -> dict[str, object]:
    return {
        "estimate": attrs.asdict(outcome.estimate) if outcome.estimate else None,
        "figures": {name: attrs.asdict(one) for name, one in outcome.record.figures.items()}
        if outcome.record
        else None,
        "build": str(outcome.build.path) if outcome.build else None,
        "interrupted": outcome.interrupted,
    }
