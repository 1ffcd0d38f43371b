"""What `codegen-lsp bench replay` runs and prints."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cattrs
from rich.console import Console
from rich.table import Table

from codegen_lsp.benchmarks.replay import Replay, ReplayError, replay
from codegen_lsp.benchmarks.replay_figures import ReplayFigures, Times, figures_of
from codegen_lsp.cli.eval import documents
from codegen_lsp.cli.replay_report import page
from codegen_lsp.evaluation.documents import in_turn
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.progress import ProgressReport


def run(
    paths: Sequence[Path],
    corpus: Path | None,
    settings: dict[str, Any],
    *,
    files: int,
    characters: int,
    seed: int,
    real_time: bool,
    report: ProgressReport,
) -> Replay:
    """Type into the files, packages in turn. Raises EvaluationError and ReplayError."""
    found = list(in_turn(documents(paths, corpus), random.Random(seed)))  # noqa: S311 - a sample, not a secret
    return asyncio.run(
        replay(
            found,
            files=files,
            characters=characters,
            seed=seed,
            settings=settings,
            real_time=real_time,
            report=report,
        )
    )


def as_json(measured: Replay) -> str:
    """The figures, and those of each file, for a program."""
    body: dict[str, Any] = cattrs.unstructure(figures_of(measured))
    body |= {"build": measured.model, "real_time": measured.real_time}
    kept = ("package", "path", "characters", "keys", "keys_without", "seconds", "accepted", "gained")
    body["by_file"] = [{name: getattr(file, name) for name in kept} for file in measured.typed]
    return json.dumps(body, indent=2)


def save_page(measured: Replay, path: Path) -> None:
    """Write the report. Raises ReplayError."""
    try:
        path.write_text(page(measured), encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{path} can't be written: {error.strerror or error}.", "Give another path.") from error


def print_figures(console: Console, measured: Replay) -> None:
    """The figures for a person."""
    figures = figures_of(measured)
    model = measured.model
    pace = "real time" if measured.real_time else "brisk"
    console.print(
        f"{model['name']} ({model['engine']}, {model['threads']} threads): {figures.files} files, "
        f"{figures.characters} characters, {figures.minutes:.1f} minutes of typing, {pace}",
        style="bold",
        highlight=False,
    )
    times = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("from request to answer (ms)", "p50", "p95", "p99", "requests"):
        times.add_column(name, justify="left" if " " in name else "right")
    for name, of in (("model", figures.model), ("cache", figures.cache), ("all answered", figures.answered)):
        if of:
            times.add_row(name, *time_cells(of))
    console.print(times, highlight=False)
    console.print()
    rows = Table(box=None, pad_edge=False, show_header=False)
    for label, value in figure_rows(figures):
        rows.add_row(label, value)
    console.print(rows, highlight=False)
    console.print("Shares come with their 95 % interval. What each means: docs/evaluation.md.", style="dim")


def time_cells(times: Times) -> tuple[str, str, str, str]:
    """Milliseconds and the number of requests."""
    return f"{times.p50:.1f}", f"{times.p95:.1f}", f"{times.p99:.1f}", str(times.requests)


def figure_rows(figures: ReplayFigures) -> list[tuple[str, str]]:
    """Each figure but the times, in words and as it is shown."""
    wasted = "" if figures.wasted_tokens is None else f"{figures.wasted_tokens:.1%}"
    refusals = ", ".join(f"{rule} {count}" for rule, count in figures.refusals.items())
    return [
        ("requests overtaken by a key", percent(figures.overtaken)),
        ("answered from the cache", percent(figures.from_cache)),
        ("the same, while typing through a right suggestion", percent(figures.through_from_cache)),
        ("the same, right after accepting", percent(figures.next_from_cache)),
        ("p50 right after accepting", "" if figures.next_p50 is None else f"{figures.next_p50:.1f} ms"),
        ("requests with a suggestion", percent(figures.shown)),
        ("suggestions right when they came", percent(figures.right)),
        ("suggestions accepted, whole or in part", percent(figures.accepted)),
        ("characters that came from suggestions", percent(figures.accepted_characters)),
        ("keystrokes saved", percent(figures.keystrokes_saved)),
        ("tokens read anew by a request to the model", _number(figures.read_tokens)),
        ("generated tokens never shown", wasted),
        ("generated tokens for each character", f"{figures.tokens_per_character:.2f}"),
        ("CPU seconds for a minute of typing", f"{figures.cpu_seconds_per_minute:.1f}"),
        ("CPU at 200 characters a minute, of one core", f"{figures.cpu_share:.0%}"),
        ("memory of server and worker", f"{figures.server_mb:.0f} + {figures.worker_mb:.0f} MiB"),
        ("without a suggestion, by rule", refusals),
    ]


def _number(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def percent(figure: Figure | None) -> str:
    """A share with its interval."""
    if figure is None:
        return ""
    return f"{figure.value * 100:.1f} % ({figure.low * 100:.0f} to {figure.high * 100:.0f})"
