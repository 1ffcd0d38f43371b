"""A progress bar on the standard error stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codegen_lsp.progress import ProgressReport

LINE_SECONDS = 30.0
"""Time between two lines of progress where standard error is not a terminal."""


@contextmanager
def progress_bar() -> Iterator[ProgressReport]:
    """Show a bar until the block ends; yields the function that moves it.

    In a file or a pipe, where a bar can't move, a line is written at times instead.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def report(message: str, fraction: float) -> None:
            bar.update(task, description=message, completed=min(1.0, fraction))

        yield report


def _lines(console: Console) -> ProgressReport:
    """Return a report that writes a line, if the last one is old enough."""
    written = time.monotonic()

    def report(message: str, fraction: float) -> None:
        nonlocal written
        if time.monotonic() - written >= LINE_SECONDS:
            written = time.monotonic()
            console.print(f"{min(1.0, fraction):.0%} {message}", markup=False, highlight=False, soft_wrap=True)

    return report
