"""What `codegen-lsp bench` runs and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.client.launch import worker_environment
from codegen_lsp.inference.engines.factory import default_threads

Figures = dict[str, Any]
"""`benchmarks.engines.Benchmark`, as plain values."""

COLUMNS = {
    "cold_prefill_ms": "cold prompt",
    "first_token_ms": "first token",
    "suggestion_ms": "suggestion",
    "decode_step_ms": "decode step",
}


def measure_engines(shape: str, context: int, threads: int, peers: Sequence[str] = ()) -> Figures:
    """Time the engines in processes of their own, in a worker's environment. Raises ModelError.

    `peers` is `--peers` or nothing.
    """
    return _measured("engines", shape, str(context), str(threads or default_threads()), *peers)


def measure_drafts(build: Path, texts: Sequence[tuple[str, str]], tokens: int, threads: int, *, ngrams: str) -> Figures:
    """Time decoding with and without drafts (`benchmarks.drafts.Drafting`, as plain values). Raises ModelError."""
    arguments = (str(build), str(tokens), str(threads or default_threads()), ngrams)
    return _measured("drafts", *arguments, given=json.dumps(texts))


def measure_cancelling(shape: str, context: int, threads: int, rounds: int) -> Figures:
    """Time cancellations (`benchmarks.cancel.Cancelling`, as plain values). Raises ModelError."""
    return _measured("cancel", shape, str(context), str(threads or default_threads()), str(rounds))


def _measured(program: str, *arguments: str, given: str = "") -> Figures:
    """Run one of the programs in `benchmarks/` that measure apart. Raises ModelError."""
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", f"codegen_lsp.benchmarks.{program}", *arguments],
        input=given,
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        figures: Figures = json.loads(result.stdout)
        return figures
    last = result.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
    try:
        message, advice = json.loads(last[0])
    except ValueError:
        raise ModelError(f"The benchmark ended: {last[0]}.", "Free some memory, or choose a smaller shape.") from None
    raise ModelError(message, advice)


def print_engines(figures: Figures, console: Console) -> None:
    """A table of medians in milliseconds, the floor in its last row."""
    table = Table(
        title=f"{figures['build']}, {figures['context']} tokens of context, {figures['threads']} threads, times in ms"
    )
    table.add_column("engine", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("memory", justify="right")
    for name, timings in figures["engines"].items():
        table.add_row(name, *(f"{timings[column]:.1f}" for column in COLUMNS), f"{figures['memory_mb'][name]:.0f} MB")
    table.add_section()
    floor = figures["floor"]
    table.add_row(f"floor at {floor['bandwidth_gb_s']:.0f} GB/s", "", "", "", f"{floor['decode_step_ms']:.1f}")
    console.print(table)


def plot_engines(figures: Figures, file: Path) -> None:
    """Write a picture of the table: a panel for each column, the floor as a dashed line.

    Raises ModelError when matplotlib is missing, the ending is none of its formats', or the file can't be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModelError(f"There is nothing to draw with: {error}.", 'pip install "codegen-lsp[plot]"') from error
    names = list(figures["engines"])
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    for panel, (column, heading) in zip(panels, COLUMNS.items(), strict=True):
        values = [figures["engines"][name][column] for name in names]
        bars = panel.barh(names, values, color=["tab:blue" if name == "native" else "0.7" for name in names])
        panel.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        panel.set_title(f"{heading} (ms)", fontsize=10)
        panel.set_xlim(0, max(values) * 1.25)
        panel.set_xticks([])
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    panels[-1].axvline(figures["floor"]["decode_step_ms"], color="black", linestyle="--", linewidth=1)
    panels[0].invert_yaxis()
    figure.suptitle(
        f"{figures['build']}, {figures['context']} tokens of context, {figures['threads']} threads", fontsize=11
    )
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} can't be written: {error}.", "Name an .svg or .png in a folder of yours.") from error


def print_drafts(figures: Figures, console: Console) -> None:
    """What drafts give."""
    table = Table(title=f"{figures['build']}, {figures['places']} places", show_header=False)
    table.add_row("n-gram mixing", "mixed in" if figures["ngrams"] else "off")
    table.add_row("tokens per second, without drafts", f"{figures['tokens_per_second']:.0f}")
    table.add_row("tokens per second, with drafts", f"{figures['drafted_tokens_per_second']:.0f}")
    for name, label in (
        ("gain", "the latter over the former"),
        ("guessed_per_token", "guesses per token"),
        ("accepted", "share of them that were right"),
        ("same", "share of tokens alike"),
    ):
        figure = figures[name]
        table.add_row(label, f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" if figure else "")
    console.print(table)


def print_cancelling(figures: Figures, console: Console) -> None:
    """A table of milliseconds from a cancellation to the engine being idle."""
    table = Table(
        title=f"{figures['build']}, {figures['context']} tokens, {figures['threads']} threads, "
        f"chunks of {figures['chunk_tokens']} tokens"
    )
    for heading in ("cancelled while", "median (ms)", "p95 (ms)", "longest (ms)", "times"):
        table.add_column(heading, justify="left" if heading == "cancelled while" else "right")
    for name in ("reading", "writing"):
        times = figures[name]
        table.add_row(
            name,
            *(f"{times[column]:.1f}" for column in ("median_ms", "p95_ms", "longest_ms")),
            str(times["rounds"]),
        )
    console.print(table)
