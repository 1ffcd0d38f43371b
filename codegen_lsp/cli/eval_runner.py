"""Run one evaluation of `codegen-lsp eval`, and print its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from codegen_lsp.progress import ProgressReport

if TYPE_CHECKING:
    from codegen_lsp.evaluation.runtime import Measurement, Runtime


def run_eval(
    runtime: Runtime,
    measure: Callable[[Runtime, ProgressReport], Measurement],
    print_figures: Callable[[Console, Measurement], None],
    *,
    as_json: bool,
) -> None:
    """Measure a build under a progress bar, and print the figures as tables or as JSON."""
    from codegen_lsp.cli.progress_bar import progress_bar
    from codegen_lsp.evaluation.runtime import as_json as json_of

    with progress_bar() as report:
        measurement = measure(runtime, report)
    if as_json:
        typer.echo(json_of(measurement))
    else:
        print_figures(Console(), measurement)
