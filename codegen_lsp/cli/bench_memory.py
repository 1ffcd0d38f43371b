"""What `codegen-lsp bench memory` and `bench start` run and print."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import attrs
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp.benchmarks import memory
from codegen_lsp.benchmarks.memory import Level, Start, Windows
from codegen_lsp.progress import ProgressReport

LONG = 20_000
"""Characters of a document: more than a window's prompt is cut from."""


@frozen
class Measured:
    """One run."""

    shared: list[Windows]
    private: list[Windows]
    """The same builds, each window with its own worker."""
    levels: list[Level]


def measure(
    embedded: Path, shape: str, completions: int, documents: int, threads: int, report: ProgressReport
) -> Measured:
    """Open windows on the shape and on the embedded model, then complete with the latter.

    Raises ModelError, WorkerError and ReplayError.
    """
    texts = memory.sources(LONG, max(documents, memory.FIRST + memory.SECOND))
    found = Measured([], [], [])
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-") as folder:
        report(f"Writing a build of the shape {shape}", 0.0)
        builds = [memory.write_shape(shape, embedded, Path(folder)), embedded]
        for number, build in enumerate(builds):
            for place, (shared, kept) in enumerate(((True, found.shared), (False, found.private))):
                report(f"Two windows, {'one worker' if shared else 'two workers'}", 0.1 + 0.2 * number + 0.1 * place)
                opened = texts[: memory.FIRST + memory.SECOND]
                kept.append(asyncio.run(memory.windows(build, opened, threads, shared=shared)))
    if completions:
        report(f"{completions} completions", 0.5)
        found.levels.extend(asyncio.run(memory.levels(embedded, texts[:documents], completions, threads)))
    return found


def measure_start(build: Path, threads: int, rounds: int) -> Start:
    """Start workers. Raises ModelError and WorkerError."""
    return asyncio.run(memory.start(build, memory.sources(memory.PREFIX, 1)[0], threads, rounds))


def as_dict(measured: Measured) -> dict[str, object]:
    """For a program: what the second window adds as a share of the weights, too."""

    def values(found: Windows) -> dict[str, object]:
        return attrs.asdict(found) | {"added": found.added, "added_share": found.added / found.weights}

    return {
        "shared": [values(found) for found in measured.shared],
        "private": [values(found) for found in measured.private],
        "completions": [attrs.asdict(level) for level in measured.levels],
    }


def print_measured(console: Console, measured: Measured) -> None:
    """Tables of MiB."""
    table = Table(title="Proportional set size in MiB, all processes together")
    for heading in ("build", "worker", "weights", "one window", "two windows", "the second adds", "of the weights"):
        table.add_column(heading, justify="left" if heading in ("build", "worker") else "right")
    for shared, private in zip(measured.shared, measured.private, strict=True):
        for name, found in (("shared", shared), ("one each", private)):
            table.add_row(
                found.build,
                name,
                *(f"{value:.0f}" for value in (found.weights, found.one, found.two, found.added)),
                f"{found.added / found.weights:.0%}",
            )
    console.print(table)
    if measured.levels:
        levels = Table(title="A worker's, after so many completions", show_header=False)
        for level in measured.levels:
            levels.add_row(str(level.completions), f"{level.mb:.0f} MiB")
        console.print(levels)


def print_start(console: Console, found: Start) -> None:
    """A line."""
    console.print(
        f"From starting a worker, {found.rounds} times, median: ready after {found.ready:.2f} s, first answer after "
        f"{found.answered:.2f} s; slowest {found.slowest:.2f} s",
        highlight=False,
    )
