"""Figures of `codegen-lsp bench http` as tables on the terminal."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.table import Table

from codegen_lsp.benchmarks.http.throughput import PROMPT_TOKENS, WANTED, Throughput, ThroughputFigures
from codegen_lsp.benchmarks.http.typing_load import TypingFigures

RATIOS = {
    "alone": "one request",
    "at_once": "all at once",
    "decode_alone": "one request, prompt cached",
    "decode_at_once": "all at once, prompts cached",
    "prompt_alone": "one prompt",
    "prompt_at_once": "all prompts at once",
}


def print_typing(console: Console, figures: TypingFigures) -> None:
    """Print the times of suggestions, and what became of the requests."""
    table = Table(title=f"{figures.clients} users typing for {figures.seconds:.0f} s", show_header=False)
    table.add_row("p50, p95 of a suggestion", f"{_time(figures.p50_ms)}, {_time(figures.p95_ms)}")
    table.add_row(
        f"the same, of {figures.answered_by_model} answered requests alone",
        f"{_time(figures.answered_p50_ms)}, {_time(figures.answered_p95_ms)}",
    )
    table.add_row("requests", f"{figures.requests} ({figures.requests / figures.seconds:.1f} a second)")
    table.add_row("ended by the next key", f"{figures.cancelled:.1%}")
    table.add_row("errors", ", ".join(f"{name}: {count}" for name, count in figures.errors.items()) or "none")
    table.add_row("answers with a suggestion", f"{figures.shown:.1%}")
    table.add_row("tokens of a prompt read anew", f"{figures.computed_tokens:.1f}")
    table.add_row("tokens of answers", f"{figures.tokens_per_second:.1f} a second")
    table.add_row("memory of server and worker", f"{figures.memory_mb:.0f} MiB")
    console.print(table)


def print_throughput(console: Console, figures: ThroughputFigures) -> None:
    """Print tokens a second, and their ratios."""
    count = figures.requests
    table = Table(
        title=f"{figures.build}, {figures.threads} threads, prompts of {PROMPT_TOKENS} tokens, {WANTED} wanted; "
        f"tokens a second, medians of {figures.rounds} rounds"
    )
    table.add_column("server", no_wrap=True)
    for heading in ("", "1", str(count), f"{count} by 1"):
        table.add_column(heading, justify="right")
    for name, one in figures.servers.items():
        _add_rows(table, name, one)
        table.add_section()
    console.print(table)
    for kind, ratio in figures.ratios.items():
        ours, theirs = list(figures.servers)[:2]
        console.print(f"{ours} by {theirs}, {RATIOS[kind]}: {ratio:.2f}", highlight=False)
    for one in figures.servers.values():
        console.print(shlex.join(one.command), highlight=False, soft_wrap=True)


def _add_rows(table: Table, name: str, one: Throughput) -> None:
    table.add_row(name, "in all", f"{one.alone:.1f}", f"{one.at_once:.1f}", f"{one.gain:.2f}")
    decoding = f"{one.decode_alone:.1f}", f"{one.decode_at_once:.1f}", f"{one.decode_gain:.2f}"
    table.add_row("", "prompts cached", *decoding)
    prompts = f"{one.prompt_alone:.0f}", f"{one.prompt_at_once:.0f}", f"{one.prompt_gain:.2f}"
    table.add_row("", "prompt tokens", *prompts)
    table.add_row("", f"from drafts {one.accepted:.1%}", "", f"{one.memory_mb:.0f} MiB", "")


def _time(milliseconds: float | None) -> str:
    return "unknown" if milliseconds is None else f"{milliseconds:.0f} ms"
