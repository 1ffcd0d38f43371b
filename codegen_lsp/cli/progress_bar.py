"""A progress bar on the standard error stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codegen_lsp.progress import ProgressReport


@contextmanager
def progress_bar() -> Iterator[ProgressReport]:
    """Show a bar until the block ends; yields the function that moves it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def report(message: str, fraction: float) -> None:
            bar.update(task, description=message, completed=min(1.0, fraction))

        yield report
