"""Figures of `codegen-lsp eval` as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from codegen_lsp.evaluation.ablation_study import AblationFigures
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.evaluation.lines import LineFigures
from codegen_lsp.evaluation.precision_curve import CurvePoint
from codegen_lsp.evaluation.program_measurements import ProgramFigures
from codegen_lsp.evaluation.runtime import Measurement


def print_lines(console: Console, measurement: Measurement) -> None:
    """Print the figures of `measure_lines`."""
    _print_heading(console, measurement)
    alone: list[LineFigures] = measurement.figures["alone"]
    _print_table(
        console,
        ("alone", "below"),
        ("exact", "similarity", "word", "saved"),
        [((f.kind, _below(f)), (f.exact, f.similarity, f.word, f.keystrokes)) for f in alone],
    )
    if "shown" in measurement.figures:
        shown: list[LineFigures] = measurement.figures["shown"]
        console.print()
        _print_table(
            console,
            ("shown", "below"),
            ("shown", "fits", "right", "saved", "parses", "undefined"),
            [
                ((f.kind, _below(f)), (f.shown, f.fits_of_shown, f.right_of_shown, f.keystrokes, f.parses, f.undefined))
                for f in shown
            ],
        )
    console.print("Percent, with the 95 % interval. What each means: docs/evaluation.md.", style="dim", highlight=False)


def print_curve(console: Console, measurement: Measurement) -> None:
    """Print the figures of `measure_curve`."""
    _print_heading(console, measurement)
    curve: list[CurvePoint] = measurement.figures["curve"]
    _print_table(
        console,
        ("threshold",),
        ("shown", "fits of shown", "right of shown", "saved"),
        [((f"{at.threshold:g}",), (at.shown, at.fits_of_shown, at.right_of_shown, at.keystrokes)) for at in curve],
    )


def print_parts(console: Console, measurement: Measurement) -> None:
    """Print the figures of `measure_parts`."""
    _print_heading(console, measurement)
    parts: list[AblationFigures] = measurement.figures["parts"]
    table = _table(("part",), ("cases", "changed", "saves", "shows wrong ones"))
    for part in parts:
        table.add_row(part.part, str(part.cases), str(part.changed), _points(part.gain), _points(part.wrong))
    console.print(table, highlight=False)
    console.print()
    table = _table(("with it, without",), ("shown", "fits", "parses", "undefined", "saved"))
    for part in parts:
        pairs = (part.shown, part.fits, part.parses, part.undefined, part.saved)
        table.add_row(part.part, *(_pair(*pair) for pair in pairs))
    console.print(table, highlight=False)
    console.print(
        "Above, points of a percent that having the part adds, with the 95 % interval over files; below, percent. "
        "What each means: docs/evaluation.md.",
        style="dim",
        highlight=False,
    )


def print_bits(console: Console, measurement: Measurement) -> None:
    """Print the figures of `measure_bits`."""
    _print_heading(console, measurement)
    names = {"bits_per_byte": "build", "float": "float weights"}
    rows = [(name, measurement.figures[key]) for key, name in names.items() if measurement.figures.get(key)]
    table = _table(("",), ("bits per byte", "95 % interval", "files"))
    for name, figure in rows:
        table.add_row(name, f"{figure.value:.4f}", f"{figure.low:.4f} to {figure.high:.4f}", str(figure.cases))
    console.print(table, highlight=False)
    if loss := measurement.figures.get("loss"):
        console.print(
            f"Bits of the build against those of the float weights: {loss.value:+.3%} "
            f"({loss.low:+.3%} to {loss.high:+.3%})",
            highlight=False,
        )


def print_shares(console: Console, measurement: Measurement) -> None:
    """Print shares, one in each row."""
    _print_heading(console, measurement)
    rows = [((name.replace("_", " "),), (figure,)) for name, figure in measurement.figures.items()]
    _print_table(console, ("",), ("percent, 95 % interval",), rows)


def print_measured_programs(console: Console, measurement: Measurement) -> None:
    """Print the figures of `measure_programs`."""
    _print_heading(console, measurement)
    print_programs(console, measurement.figures, named=True)


def print_programs(console: Console, figures: ProgramFigures, *, named: bool = False) -> None:
    """Print the figures of a benchmark of programs, with the published ones beside them.

    Where the model that wrote them is `named`, say if there are none.
    """
    rows = [((name,), (figure,)) for name, figure in figures.rates.items()]
    rows += [((f"  {name}",), (figure,)) for name, figure in figures.groups.items()]
    _print_table(console, ("",), ("percent, 95 % interval",), rows)
    if figures.turns:
        console.print()
        table = _table(("turns",), ("several", "all at once", "gain", "problems"))
        for rates in figures.turns:
            gain = f"{rates.gain.value * 100:+.1f} ({rates.gain.low * 100:+.0f} to {rates.gain.high * 100:+.0f})"
            table.add_row(rates.name, _percent(rates.multi), _percent(rates.single), gain, str(rates.multi.cases))
        console.print(table, highlight=False)
    if not figures.published and named:
        console.print("No published figures of this model are known.", style="dim", highlight=False)
    for one in figures.published:
        console.print(one.sentence, style="green" if one.agrees else "yellow", highlight=False)


def print_refactorings(console: Console, measurement: Measurement) -> None:
    """Print the counts of each kind, and every result that was offered and does not hold."""
    _print_heading(console, measurement)
    table = _table(
        ("kind",), ("tried", "done", "results", "broken", "withheld by tests", "tests passed", "tests failed")
    )
    for one in measurement.figures["kinds"]:
        cells = (one.tried, one.done, one.results, one.broken, one.withheld, one.passed, one.failed)
        table.add_row(one.kind, *(str(cell) for cell in cells))
    console.print(table, highlight=False)
    for attempt in [*measurement.figures["broken"], *measurement.figures["failed"]]:
        why = attempt.broken or [attempt.refused or attempt.verified.detail]
        console.print(f"{attempt.kind} at {attempt.place}: {why[0]}", style="red", highlight=False, markup=False)


def _below(figures: LineFigures) -> str:
    return "yes" if figures.below else "no"


def _print_heading(console: Console, measurement: Measurement) -> None:
    model = measurement.model
    console.print(f"{model.name} ({model.compute_type}, {measurement.weights[:12]})", style="bold", highlight=False)
    if measurement.interrupted:
        console.print("Interrupted: these are the figures of the cases done so far.", style="yellow")


def _print_table(
    console: Console,
    names: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[Figure | None]]],
) -> None:
    table = _table(names, (*columns, "cases"))
    for name, figures in rows:
        cases = next((figure.cases for figure in figures if figure), 0)
        table.add_row(*name, *map(_percent, figures), str(cases))
    console.print(table, highlight=False)


def _table(names: Sequence[str], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return ""
    value = "100" if figure.value == 1 else f"{figure.value * 100:.1f}"
    return f"{value} ({figure.low * 100:.0f}-{figure.high * 100:.0f})"


def _pair(one: Figure | None, other: Figure | None) -> str:
    return "" if one is None or other is None else f"{one.value * 100:.1f}, {other.value * 100:.1f}"


def _points(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value * 100:+.2f} ({figure.low * 100:+.2f} to {figure.high * 100:+.2f})"
