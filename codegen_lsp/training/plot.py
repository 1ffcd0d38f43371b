"""Plot of a training run's losses, and of a sweep over sizes if there is one.

`python -m codegen_lsp.training.plot FOLDER OUT.svg`; needs `pip install "codegen-lsp[train,plot]"`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_lsp import extras
from codegen_lsp.errors import CodegenError

if TYPE_CHECKING:
    from codegen_lsp.training.sweep import SweepResult

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "codegen-lsp",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
SMOOTHING = 10
"""Logged losses averaged into one point of the training curve."""


def draw(log: list[dict[str, Any]], results: list[SweepResult], out: Path) -> None:
    """Write the plot of a training's log and of a sweep's results, if any; the suffix of `out` chooses the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(9.6, 3.4), layout="constrained", facecolor="white")
        places = figure.subplots(1, 2, width_ratios=(3, 2)) if results else [figure.subplots()]
        _training(places[0], log)
        if results:
            _sweep(places[1], results)
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def _training(axes: Any, log: list[dict[str, Any]]) -> None:
    losses = [entry for entry in log if entry["kind"] == "train"]
    groups = [losses[i : i + SMOOTHING] for i in range(0, len(losses) - SMOOTHING + 1, SMOOTHING)]
    axes.plot(
        [group[-1]["tokens"] / 1e6 for group in groups],
        [sum(entry["nats_per_token"] for entry in group) / len(group) for group in groups],
        color="0.7", linewidth=1, label="training",
    )  # fmt: skip
    held_out = [entry for entry in log if entry["kind"] == "validation"]
    tokens = [entry["tokens"] / 1e6 for entry in held_out]
    axes.plot(tokens, [e["infill_nats_per_token"] for e in held_out], "o-", markersize=3, color="#d95f02",
              label="held out, infilling")  # fmt: skip
    axes.plot(tokens, [e["nats_per_token"] for e in held_out], "o-", markersize=3, color="#1b6ca8",
              label="held out, plain")  # fmt: skip
    rates = axes.twinx()
    rates.fill_between([e["tokens"] / 1e6 for e in losses[::10]], [e["rate"] for e in losses[::10]],
                       color="0.93", linewidth=0)  # fmt: skip
    rates.set(ylim=(0, 4 * max(e["rate"] for e in losses)), yticks=[])
    rates.set_zorder(-1)
    axes.patch.set_visible(False)
    axes.set(xlabel="million tokens seen (grey area: learning rate)", ylabel="nats per token", ylim=_limits(held_out))
    axes.legend(frameon=False)


def _limits(held_out: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the range of losses shown: from 0.4 nats below the best held-out loss to 1.6 above it."""
    best = min(min(entry["nats_per_token"], entry["infill_nats_per_token"]) for entry in held_out)
    return best - 0.4, best + 1.6


def _sweep(axes: Any, results: list[SweepResult]) -> None:
    by_budget = defaultdict(list)
    for trial in results:
        by_budget[trial.minutes].append(trial)
    for minutes, group in sorted(by_budget.items()):
        group.sort(key=lambda trial: trial.parameters)
        axes.plot([t.parameters / 1e6 for t in group], [t.bits_per_byte for t in group], "o-", markersize=4,
                  label=f"{minutes:g} thread-minutes")  # fmt: skip
    axes.set(xlabel="million parameters", ylabel="bits per byte, held out", xscale="log")
    sizes = sorted({trial.parameters / 1e6 for trial in results})
    axes.set_xticks(sizes, [f"{size:.1f}" for size in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False)


def size_results(folder: Path) -> list[SweepResult]:
    """Return the results of the sweep over sizes in a training's folder."""
    from codegen_lsp.training.sweep import SWEEPS, SweepResult

    names = {candidate.name for candidate in SWEEPS["sizes"]}
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("sweep/*/result.json"))]
    return [SweepResult(**values) for values in found if values["candidate"] in names]


def main(arguments: list[str] | None = None) -> int:
    """Draw the plot and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training.plot", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder made by codegen_lsp.training")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    try:
        for extra in ("train", "plot"):
            extras.require(extra, "python -m codegen_lsp.training.plot")
    except CodegenError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    from codegen_lsp.training import pipeline

    draw(pipeline.training_log(options.folder), size_results(options.folder), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
