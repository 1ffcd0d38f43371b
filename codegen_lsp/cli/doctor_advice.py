"""The part of `doctor` that advises a model: measuring the machine, and the table of models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from codegen_lsp.advice.advising import MachineAdvice, ModelAdvice, advise
from codegen_lsp.advice.measurement import MachineMeasurement, MeasurementParams, kept
from codegen_lsp.checkpoints.catalogue import checkpoints
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.settings import Settings

MARKS = {"within": "[green]yes[/green]", "slow": "no", "memory": "memory", "unknown": ""}
SLOW_SHOWN = 4
"""Models that are not within the aims in the table."""
Measure = Callable[[MeasurementParams], MachineMeasurement]


def measured(params: MeasurementParams) -> MachineMeasurement:
    """Measure this machine, with a bar of progress on a terminal. Raises: ModelError."""
    from codegen_lsp.advice.measuring_process import measure_machine
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        return asyncio.run(measure_machine(params, report))


def advice_for(
    settings: Settings, builds: list[InstalledBuild], free_bytes: int, *, quick: bool, measure: Measure = measured
) -> MachineAdvice:
    """Return the advice: from the measurement that is kept if `quick` is true, else from a new one.

    Raises: ModelError when the machine can't be measured.
    """
    params = MeasurementParams(settings.engine, settings.device, settings.compute_type, settings.threads)
    measurement = kept(params) if quick else measure(params)
    return advise(measurement, builds, checkpoints(), free_bytes / 2**20)


def print_advice(console: Console, advice: MachineAdvice) -> None:
    """Print the models with their latencies, the recommendation, and what makes the figures inexact."""
    aims = advice.aims
    console.print(
        f"\n[bold]Models on this machine[/bold], for a prompt of {aims.context_tokens} tokens. The aims: the first "
        f"token within {aims.first_token_ms:.0f} ms of a key, {aims.suggestion_tokens} tokens within "
        f"{aims.suggestion_ms:.0f} ms.",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    names = ("model", "first", f"{aims.suggestion_tokens} tokens", "prompt", "memory", "download", "aims", "licence")
    for name in names:
        justify: JustifyMethod = "left" if name in ("model", "licence") else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "licence")
    shown = _shown(advice.models)
    for row in shown:
        style = "bold" if row.name == advice.recommended else "" if row.verdict == "within" or row.state else "dim"
        table.add_row(
            row.name,
            _milliseconds(row.first_token_ms, row),
            _milliseconds(row.suggestion_ms, row),
            _milliseconds(row.prompt_ms, row),
            f"{row.memory_mb / 1024:.1f} GiB",
            row.state if row.download_mb is None else f"{row.download_mb / 1000:.1f} GB",
            MARKS[row.verdict],
            f"{row.license}{', asks first' if row.needs_consent else ''}",
            style=style,
        )
    console.print(table, highlight=False)
    if more := len(advice.models) - len(shown):
        console.print(f"[dim]{more} more are larger; --json lists them.[/dim]", highlight=False)
    if advice.machine is not None:
        console.print(
            f"[dim]In ms; * measured with the model itself, the others predicted from small models of random weights, "
            f"measured with {advice.machine.threads} threads ({advice.machine.engine} on {advice.machine.device}) at "
            f"{advice.machine.finished}.[/dim]",
            highlight=False,
        )
    if advice.note:
        console.print(advice.note, highlight=False)
    console.print(f"\n[bold]{advice.recommendation}[/bold]", highlight=False)


def _shown(models: Sequence[ModelAdvice]) -> list[ModelAdvice]:
    """Return the models that are installed or within the aims, and the `SLOW_SHOWN` smallest of the others."""
    good = [row for row in models if row.state or row.verdict == "within"]
    others = [row for row in models if row not in good][:SLOW_SHOWN]
    return [row for row in models if row in good or row in others]


def _milliseconds(value: float | None, row: ModelAdvice) -> str:
    if value is None:
        return ""
    return f"{value:.0f}{'*' if row.measured else ''}"
