"""`codegen-lsp stats`: counts of suggestions by outcome, as servers keep them on this machine."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from codegen_lsp.cli.options import AsJson
from codegen_lsp.errors import CodegenError
from codegen_lsp.suggest.metrics import CountRow, default_path, percentile, read

SOURCES = ("cache", "flight", "model")
OUTCOMES = ("accepted", "accepted in part", "typed", "typed over")


class StatsError(CodegenError):
    """Counts that can't be read or deleted."""


def stats(
    days: Annotated[int, typer.Option(metavar="N", min=0, help="Number of days, today included; 0 takes all.")] = 30,
    delete: Annotated[bool, typer.Option("--reset", help="Delete all counts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many suggestions were shown and accepted, and how long they took, as counted on this machine."""
    path = default_path()
    if delete:
        typer.echo("The counts are deleted." if reset(path) else "There are no counts.")
        return
    rows = load(path, days)
    if as_json:
        typer.echo(figures_as_json(rows))
    else:
        print_figures(Console(), rows, path)


def load(path: Path, days: int) -> list[CountRow]:
    """Return the counts of the last `days` days, today included; 0 takes all. Raises: StatsError."""
    import sqlite3

    first = datetime.date.today() - datetime.timedelta(days=days - 1) if days else None
    try:
        return read(path, first.isoformat() if first else "")
    except sqlite3.Error as error:
        raise StatsError(f"{path} can't be read: {error}.", "Delete it with `codegen-lsp stats --reset`.") from error


def reset(path: Path) -> bool:
    """Delete the counts; return whether there were any. Raises: StatsError."""
    try:
        existed = path.is_file()
        for part in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + part).unlink(missing_ok=True)
    except OSError as error:
        raise StatsError(f"{path} can't be deleted: {error.strerror or error}.", "Check its permissions.") from error
    return existed


def figures_of(rows: Sequence[CountRow]) -> list[dict[str, Any]]:
    """Return figures by language and model: counts, the share accepted, percentiles of the times in milliseconds."""
    groups: dict[tuple[str, str], list[CountRow]] = defaultdict(list)
    for row in rows:
        groups[row.language, row.model].append(row)
    return [_figures(language, model, group) for (language, model), group in sorted(groups.items())]


def figures_as_json(rows: Sequence[CountRow]) -> str:
    """Return the figures as JSON."""
    days = sorted({row.day for row in rows})
    span = {"first_day": days[0], "last_day": days[-1]} if days else {"first_day": None, "last_day": None}
    return json.dumps(span | {"figures": figures_of(rows)}, indent=2)


def print_figures(console: Console, rows: Sequence[CountRow], path: Path) -> None:
    """Print the figures as two tables."""
    if not rows:
        console.print("Nothing was counted yet. Servers count unless the setting `metrics` is off.")
        return
    days = sorted({row.day for row in rows})
    console.print(f"{days[0]} to {days[-1]}, {len(days)} days with suggestions", style="bold", highlight=False)
    figures = figures_of(rows)
    counts = _table("language", "model", "shown", "accepted", "in part", "typed", "typed over", "share", "characters")
    for figure in figures:
        share = "" if figure["acceptance"] is None else f"{figure['acceptance']:.0%}"
        counts.add_row(
            figure["language"],
            figure["model"],
            str(figure["shown"]),
            *(str(figure[outcome.replace(" ", "_")]) for outcome in OUTCOMES),
            share,
            str(figure["accepted_characters"]),
        )
    console.print(counts, highlight=False)
    console.print()
    times = _table("language", "model", "answer from", "answers", "p50", "p95", "p99")
    for figure in figures:
        for source in SOURCES:
            if found := figure["times"].get(source):
                cells = (f"{found[name]:.0f} ms" if found[name] >= 1 else "<1 ms" for name in ("p50", "p95", "p99"))
                times.add_row(figure["language"], figure["model"], source, str(found["answers"]), *cells)
    console.print(times, highlight=False)
    console.print(f"Kept in {path}, on this machine alone: numbers, no text.", style="dim", highlight=False)


def _figures(language: str, model: str, rows: Sequence[CountRow]) -> dict[str, Any]:
    def total(what: str) -> int:
        return sum(row.count for row in rows if row.what == what)

    shown = total("shown")
    taken = total("accepted") + total("accepted in part")
    times = {}
    for source in SOURCES:
        steps = [(row.step, row.count) for row in rows if row.what == f"time {source}"]
        if steps:
            shares = {name: percentile(steps, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
            times[source] = {"answers": sum(count for _, count in steps)} | shares
    return {
        "language": language,
        "model": model,
        "requests": total("requests"),
        "shown": shown,
        **{outcome.replace(" ", "_"): total(outcome) for outcome in OUTCOMES},
        "accepted_characters": total("accepted characters"),
        "acceptance": taken / shown if shown else None,
        "times": times,
    }


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < 2 or name == "answer from" else "right", no_wrap=True)
    return table
