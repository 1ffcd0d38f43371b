"""What `codegen-lsp bench` runs and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.engines import default_threads
from codegen_lsp.inference.process import worker_environment

Figures = dict[str, Any]
"""`evaluation.engines.Benchmark`, as plain values."""

COLUMNS = {
    "cold_prefill_ms": "cold prompt",
    "first_token_ms": "first token",
    "suggestion_ms": "suggestion",
    "decode_step_ms": "decode step",
}


def measure_engines(shape: str, context: int, threads: int) -> Figures:
    """Time the engines in a process of its own, in a worker's environment. Raises ModelError."""
    command = [sys.executable, "-X", "utf8", "-m", "codegen_lsp.evaluation.engines"]
    result = subprocess.run(
        [*command, shape, str(context), str(threads or default_threads())],
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
    table = Table(title=f"{figures['build']}, {figures['context']} tokens of context, {figures['threads']} threads")
    table.add_column("engine")
    for heading in COLUMNS.values():
        table.add_column(f"{heading} (ms)", justify="right")
    for name, timings in figures["engines"].items():
        table.add_row(name, *(f"{timings[column]:.1f}" for column in COLUMNS))
    table.add_section()
    floor = figures["floor"]
    table.add_row(f"floor at {floor['bandwidth_gb_s']:.0f} GB/s", "", "", "", f"{floor['decode_step_ms']:.1f}")
    console.print(table)
