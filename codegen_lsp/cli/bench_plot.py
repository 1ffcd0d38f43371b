"""A picture of the figures of `codegen-lsp bench engine`."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.benchmarks.isolated import PlainFigures
from codegen_lsp.cli.bench_tables import ENGINE_COLUMNS
from codegen_lsp.errors import ModelError


def plot_engines(figures: PlainFigures, file: Path) -> None:
    """Write a picture with a panel for each column, the floor as a dashed line.

    Raises: ModelError when matplotlib does not know the file's format or can't write the file.
    """
    from matplotlib.figure import Figure

    names = list(figures["engines"])
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(ENGINE_COLUMNS), sharey=True)
    for panel, (column, heading) in zip(panels, ENGINE_COLUMNS.items(), strict=True):
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
