"""Figures of `codegen-lsp bench` as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from codegen_lsp.benchmarks.index import IndexTimes
from codegen_lsp.benchmarks.isolated import PlainFigures
from codegen_lsp.benchmarks.memory import MemoryUse
from codegen_lsp.benchmarks.replay_figures import figure_rows, figures_of, time_cells
from codegen_lsp.benchmarks.replay_records import Replay
from codegen_lsp.benchmarks.soak.run import SoakReport
from codegen_lsp.benchmarks.start import StartTimes

PACKAGES_SHOWN = 8
"""Packages whose share of the imports is printed."""

ENGINE_COLUMNS = {
    "cold_prefill_ms": "cold prompt",
    "first_token_ms": "first token",
    "suggestion_ms": "suggestion",
    "decode_step_ms": "decode step",
}


def print_engines(console: Console, figures: PlainFigures) -> None:
    """Print medians in milliseconds, the floor in the last row."""
    table = Table(
        title=f"{figures['build']}, {figures['context']} tokens of context, {figures['threads']} threads, times in ms"
    )
    table.add_column("engine", no_wrap=True)
    for heading in ENGINE_COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("memory", justify="right")
    for name, timings in figures["engines"].items():
        table.add_row(
            name, *(f"{timings[column]:.1f}" for column in ENGINE_COLUMNS), f"{figures['memory_mb'][name]:.0f} MB"
        )
    table.add_section()
    floor = figures["floor"]
    table.add_row(f"floor at {floor['bandwidth_gb_s']:.0f} GB/s", "", "", "", f"{floor['decode_step_ms']:.1f}")
    if figures["int4_floor"]:
        table.add_row("floor of 4-bit weights", "", "", "", f"{figures['int4_floor']['decode_step_ms']:.1f}")
    console.print(table)
    if figures["note"]:
        console.print(figures["note"], highlight=False)


def print_drafts(console: Console, figures: PlainFigures) -> None:
    """Print the gain from speculative drafts."""
    table = Table(title=f"{figures['build']}, {figures['places']} places", show_header=False)
    table.add_row("n-gram mixing", "mixed in" if figures["ngrams"] else "off")
    table.add_row("workspace", "indexed" if figures["workspace"] else "none")
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


def print_cancelling(console: Console, figures: PlainFigures) -> None:
    """Print the milliseconds from a cancellation until the engine is idle."""
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


def print_batching(console: Console, figures: PlainFigures) -> None:
    """Print the tokens per second of several requests at once, and how long one that joins others waits."""
    table = Table(title=f"{figures['build']}, {figures['context']} tokens of context, {figures['threads']} threads")
    for heading in ("requests at once", "tokens per second", "of one alone"):
        table.add_column(heading, justify="right")
    rates = figures["tokens_per_second"]
    for count, rate in rates.items():
        table.add_row(count, f"{rate:.0f}", f"{rate / rates['1']:.2f}")
    console.print(table)
    alone, joining = figures["alone_ms"], figures["joining_ms"]
    console.print(
        f"First token of a request that is not cached: {alone:.1f} ms alone, {joining:.1f} ms while "
        f"{figures['company']} others decode, {joining / alone:.2f} times as long."
    )


def print_memory(console: Console, use: MemoryUse) -> None:
    """Print memory in MiB."""
    table = Table(title="Proportional set size in MiB, all processes together")
    for heading in ("build", "worker", "weights", "one window", "two windows", "the second adds", "of the weights"):
        table.add_column(heading, justify="left" if heading in ("build", "worker") else "right")
    for shared, private in zip(use.shared, use.private, strict=True):
        for name, found in (("shared", shared), ("one each", private)):
            table.add_row(
                found.build,
                name,
                *(f"{value:.0f}" for value in (found.weights, found.one, found.two, found.added)),
                f"{found.added / found.weights:.0%}",
            )
    console.print(table)
    if use.levels:
        levels = Table(title="Memory of one worker, by number of completions", show_header=False)
        for level in use.levels:
            levels.add_row(str(level.completions), f"{level.mb:.0f} MiB")
        console.print(levels)


def print_start(console: Console, start: StartTimes) -> None:
    """Print the parts of the starts of server and worker, and their memory."""
    for name, process in (("language server", start.server), ("worker, started by itself", start.worker)):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(name, min_width=26)
        for heading in ("takes (ms)", "ends at (ms)"):
            table.add_column(heading, justify="right")
        end = 0.0
        for part, seconds in process.parts.items():
            end += seconds
            table.add_row(part, f"{seconds * 1e3:.0f}", f"{end * 1e3:.0f}")
        console.print(table)
        most = [f"{package} {seconds * 1e3:.0f}" for package, seconds in list(process.imports.items())[:PACKAGES_SHOWN]]
        console.print(f"  imports: {', '.join(most)} ms, …", highlight=False, soft_wrap=True)
        console.print(f"  slowest {process.slowest:.2f} s; {process.memory_mb:.0f} MiB\n", highlight=False)
    console.print(f"Medians of {start.rounds}. A server with its worker: {start.pair_mb:.0f} MiB.", highlight=False)


def print_replay(console: Console, replay: Replay) -> None:
    """Print the figures of a replay."""
    figures = figures_of(replay)
    model = replay.model
    pace = "real time" if replay.real_time else "brisk"
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


def print_index(console: Console, times: Sequence[IndexTimes]) -> None:
    """Print a row for each size of an index."""
    table = Table(title="n-gram index of a workspace, processor time", box=None, header_style="bold")
    headings = ("files", "tokens", "encoded", "sorted", "read", "memory", "of a token", "update (p99)", "query (p99)")
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in times:
        table.add_row(
            f"{one.files:,}",
            f"{one.tokens:,}",
            f"{one.encode_seconds:.2f} s",
            f"{one.sort_seconds:.2f} s",
            f"{one.read_ms:.0f} ms",
            f"{one.memory_mb:.1f} MiB",
            f"{one.bytes_per_token:.1f} bytes",
            f"{one.update_ms:.1f} ({one.update_p99_ms:.1f}) ms",
            f"{one.token_us:.0f} ({one.token_p99_us:.0f}) µs",
        )
    console.print(table)


def print_soak(console: Console, found: SoakReport) -> None:
    """Print what was sent and answered, the levels of the processes, and what is wrong."""
    for title, counted in (("sent or done", found.sent), ("answered", found.answered)):
        table = Table(title=title, show_header=False)
        for kind, number in counted.items():
            table.add_row(kind, f"{number:,}")
        table.add_section()
        table.add_row("all", f"{sum(counted.values()):,}")
        console.print(table)
    table = Table(title=f"seed {found.seed}, {found.seconds:.0f} s")
    for heading in ("process", "at", "PSS (MiB)", "descriptors", "threads"):
        table.add_column(heading, justify="left" if heading in ("process", "at") else "right")
    for name in found.levels[0].processes if found.levels else []:
        for levels in found.levels:
            level = levels.processes[name]
            table.add_row(name, levels.at, f"{level.memory_mb:.0f}", str(level.descriptors), str(level.threads))
        table.add_section()
    console.print(table)
    for fault in found.faults:
        console.print(fault, style="red", markup=False)
    if not found.faults:
        console.print("Everything was answered, nothing was left behind, and no process grew.")
