"""The report of HumanEval or MTPB: one HTML file with its plots, which loads nothing from a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.evaluation.page_style import STYLE
from codegen_lsp.evaluation.program_measurements import Benchmark, ProgramFigures
from codegen_lsp.evaluation.programs import ProgramSample
from codegen_lsp.evaluation.turn_comparison import TurnRates

ROW, LEFT, WIDTH = 24, 190, 640
"""Height of a row, width of its label, and width of a plot, in pixels."""
SHOWN = 30
"""Programs that are printed, those that pass and those that fail each."""
TITLES = {"humaneval": "HumanEval", "mtpb": "Multi-Turn Programming Benchmark"}


def save_page(
    path: Path, benchmark: Benchmark, model: str, figures: ProgramFigures, samples: Sequence[ProgramSample]
) -> None:
    """Write the report. Raises: EvaluationError when it can't be written."""
    try:
        path.write_text(page(benchmark, model, figures, samples), encoding="utf-8", errors="replace")
    except OSError as error:
        raise EvaluationError(f"{path} can't be written: {error.strerror}.", "Give another --html.") from error


def page(benchmark: Benchmark, model: str, figures: ProgramFigures, samples: Sequence[ProgramSample]) -> str:
    """Return the report as HTML."""
    title = " ".join(filter(None, (TITLES[benchmark.name], benchmark.form)))
    tasks = {sample.task for sample in samples}
    heading = f"{model}: {programs_for(len(samples), len(tasks), benchmark.unit)}"
    heading += f", {figures.tokens:,} generated tokens." if figures.tokens else "."
    published = "".join(f"<p>{escape(one.sentence)}</p>" for one in figures.published)
    published = published or "<p>No published figures of this model are known.</p>"
    marks = {one.name: one.published for one in figures.published}
    rates = {name: figure for name, figure in figures.rates.items() if figure}
    kinds = f"<section><h2>Kinds of problems</h2>{bars(figures.groups, {})}</section>" if figures.groups else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1><p>{escape(heading)}</p>
<section><h2>Programs that pass</h2><p>Percent, with the 95 % interval over problems; a dashed line is a published
figure.</p>{bars(rates, marks)}{published}</section>{turns(figures.turns)}{kinds}
<section><h2>{benchmark.unit.capitalize()} by {benchmark.unit}</h2>
<p>Share of the programs that pass; each square is a {benchmark.unit}.</p>
{squares(samples)}</section>
<section><h2>Programs</h2>{programs(samples)}</section>
</body></html>
"""


def programs_for(programs: int, problems: int, unit: str) -> str:
    """Return how many programs there are for how many problems."""
    counted = [
        f"{number} {word}{'' if number == 1 else 's'}" for number, word in ((programs, "program"), (problems, unit))
    ]
    return " for ".join(counted)


def bars(figures: dict[str, Figure], published: dict[str, float], *, alternate: bool = False) -> str:
    """Return a bar for each figure, with its interval, and a mark where one was published.

    Bars that `alternate` have two colours in turn.
    """
    height = ROW * len(figures) + 20
    colours = ("var(--model)", "var(--late)" if alternate else "var(--model)")
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for at, (name, figure) in enumerate(figures.items()):
        y = at * ROW + 4
        low, high, end = (_x(value) for value in (figure.low, figure.high, figure.value))
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="14" fill="{colours[at % 2]}"/>'
            f'<path d="M{low:.1f} {y + 7}H{high:.1f}" stroke="var(--ink)"/>'
            f'<text class="ink" x="{high + 6:.1f}" y="{y + 12}">{figure.value:.1%}</text>'
        )
    for share in set(published.values()):
        parts.append(
            f'<path class="aim" d="M{_x(share):.1f} 0V{height - 18}" stroke-dasharray="4 3"/>'
            f'<text x="{_x(share):.1f}" y="{height - 4}" text-anchor="middle">{share:.1%}</text>'
        )
    return "".join([*parts, "</svg>"])


def turns(rates: Sequence[TurnRates]) -> str:
    """Return the pass rates in several turns and all at once, as a plot and a table; empty if not both are known."""
    if not rates:
        return ""
    pairs = {}
    for one in rates:
        pairs[f"{one.name}, several turns"] = one.multi
        pairs[f"{one.name}, all at once"] = one.single
    rows = "".join(
        f"<tr><th>{escape(one.name)}</th><td>{one.multi.cases}</td><td>{one.multi.value:.1%}</td>"
        f"<td>{one.single.value:.1%}</td><td>{one.gain.value * 100:+.1f} ({one.gain.low * 100:+.1f} to "
        f"{one.gain.high * 100:+.1f})</td></tr>"
        for one in rates
    )
    return (
        "<section><h2>In several turns, and all prompts at once</h2><p>The same problems, by their number of turns. "
        f"The gain is in percentage points, with its interval over problems.</p>{bars(pairs, {}, alternate=True)}"
        "<table><tr><th>turns</th><td>problems</td><td>several turns</td><td>all at once</td><td>gain</td></tr>"
        f"{rows}</table></section>"
    )


def squares(samples: Sequence[ProgramSample]) -> str:
    """Return a square for each problem, the fuller the more of its programs pass."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        outcomes[sample.task].append(sample.passed)
    side, across = 16, WIDTH // 18
    height = (len(outcomes) // across + 1) * 18
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for at, (task, passed) in enumerate(outcomes.items()):
        share = sum(passed) / len(passed)
        x, y = at % across * 18, at // across * 18
        parts.append(
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="var(--none)" fill-opacity=".35"/>'
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="var(--cache)" '
            f'fill-opacity="{share:.3f}"><title>{escape(task)}: {sum(passed)} of {len(passed)}</title></rect>'
        )
    return "".join([*parts, "</svg>"])


def programs(samples: Sequence[ProgramSample]) -> str:
    """Return the first programs that pass and the first that fail, folded."""
    parts = []
    for word, passed in (("pass", True), ("fail", False)):
        some = [sample for sample in samples if sample.passed is passed]
        shown = f", of which the first {SHOWN} are shown" if len(some) > SHOWN else ""
        parts.append(f"<h2>{len(some)} {word}{shown}</h2>")
        for sample in some[:SHOWN]:
            why = f": {escape(sample.detail)}" if sample.detail else ""
            parts.append(
                f"<details><summary>{escape(sample.task)}{why}</summary><pre>{escape(sample.program)}</pre></details>"
            )
    return "".join(parts)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - 60)
