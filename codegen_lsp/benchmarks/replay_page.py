"""The report of a typing replay: one HTML file with its plots, which loads nothing from a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.benchmarks.replay_figures import ReplayFigures, figure_rows, figures_of, time_cells
from codegen_lsp.benchmarks.replay_records import Replay, ReplayRequest, TypedFile, TypedSpan
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.evaluation.page_style import STYLE

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 40
SHOWN_FILES = 6
"""Files whose text is shown."""


def save_page(replay: Replay, path: Path) -> None:
    """Write the report to a file. Raises: ReplayError when it can't be written."""
    try:
        path.write_text(page(replay), encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{path} can't be written: {error.strerror or error}.", "Give another path.") from error


def page(replay: Replay) -> str:
    """Return the report as HTML."""
    figures = figures_of(replay)
    model = replay.model
    pace = "in real time" if replay.real_time else "at brisk pace: waits cut short, nothing cancelled"
    heading = (
        f"{figures.files} files, {figures.characters:,} characters, {figures.minutes:.0f} minutes of typing, {pace}. "
        f"Model {model['name']}, engine {model['engine']}, {model['threads']} threads."
    )
    requests = [request for file in replay.typed for request in file.requests]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Typing replay</title><style>{STYLE}</style></head><body>
<h1>Typing replay</h1><p>{escape(heading)}</p>
<div class="cards">{"".join(cards(figures))}</div>
<div class="plots">
<section><h2>How long a request takes</h2>
<p>Share of the requests answered within a time. Dashed: 5, 60 and 250 ms.</p>{times_plot(requests)}</section>
<section><h2>What became of the requests</h2><p>One for each change that was followed by 50 ms of silence.</p>
{outcomes_plot(requests)}</section>
<section><h2>Keystrokes saved, file by file</h2><p>Against typing the same text by hand.</p>{saved_plot(replay.typed)}
</section>
<section><h2>Reading costs time</h2><p>Requests to the model, by the tokens that it had to read anew.</p>
{reading_plot(requests)}</section>
</div>
<h2>All figures</h2>{table(figures)}
<h2>What was written, and how</h2>
<p><i class="key" style="background:var(--whole)"></i>accepted whole
<i class="key" style="background:var(--part)"></i>accepted by line or word; the rest was typed.</p>
{"".join(written(file) for file in replay.typed[:SHOWN_FILES])}
</body></html>
"""


def cards(figures: ReplayFigures) -> list[str]:
    """Return the most important figures."""
    model, cache = figures.model, figures.cache
    return [
        _card("model, p50 and p95", f"{model.p50:.0f} / {model.p95:.0f} ms" if model else "none"),
        _card("cache, p50 and p95", f"{cache.p50:.1f} / {cache.p95:.1f} ms" if cache else "none"),
        _card("from the cache while typing through", _percent(figures.through_from_cache)),
        _card("keystrokes saved", _percent(figures.keystrokes_saved)),
        _card("suggestions right", _percent(figures.right)),
        _card("of one core at 200 characters a minute", f"{figures.cpu_share:.0%}"),
    ]


def times_plot(requests: Sequence[ReplayRequest]) -> str:
    """Plot the cumulative share of answers over time, on a logarithmic axis."""
    groups = {
        name: sorted(
            max(request.milliseconds, 0.2)
            for request in requests
            if request.milliseconds is not None and (request.source == "cache") == (name == "cache")
        )
        for name in ("cache", "model")
    }
    slowest = max((times[-1] for times in groups.values() if times), default=1.0)
    low, high = math.log10(0.2), math.log10(max(400.0, slowest))

    def x(milliseconds: float) -> float:
        return LEFT + (math.log10(milliseconds) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [_y_axis([0, 0.25, 0.5, 0.75, 1.0], 1.0, "{:.0%}")]
    ticks = [tick for tick in (0.2, 1, 10, 100, 1000, 10_000) if math.log10(tick) <= high + 1e-9]
    parts += [_label(x(tick), HEIGHT - BOTTOM + 18, f"{tick:g} ms", "middle") for tick in ticks]
    parts += [
        f'<line class="aim" stroke-dasharray="2 4" x1="{x(aim):.1f}" x2="{x(aim):.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}"/>'
        for aim in (5, 60, 250)
    ]
    for number, (name, times) in enumerate(groups.items()):
        if not times:
            continue
        points = [(x(at), _y((rank + 1) / len(times), 1.0)) for rank, at in enumerate(times)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in [(points[0][0], HEIGHT - BOTTOM), *points])
        parts.append(f'<polyline fill="none" stroke="var(--{name})" stroke-width="2.5" points="{path}"/>')
        parts.append(
            f'<rect x="{WIDTH - 180}" y="{HEIGHT - 90 + 18 * number}" width="10" height="10" fill="var(--{name})"/>'
            + _label(WIDTH - 164, HEIGHT - 81 + 18 * number, f"{name}, {len(times)} requests", "start")
        )
    return _svg(parts)


def outcomes_plot(requests: Sequence[ReplayRequest]) -> str:
    """Plot the outcomes of requests as bars."""
    counts: Counter[tuple[str, str]] = Counter()
    for request in requests:
        if request.milliseconds is None:
            counts["overtaken by the next key", "late"] += 1
        elif request.shown:
            counts[f"shown, from the {request.source}", request.source] += 1
        else:
            counts[f"nothing: {request.rule or 'no reason given'}", "none"] += 1
    rows = counts.most_common(9)
    most = max((count for _, count in rows), default=1)
    step = (HEIGHT - 20) / max(len(rows), 5)
    parts = []
    for number, ((name, color), count) in enumerate(rows):
        y = 10 + number * step
        width = max(1.0, count / most * (WIDTH - 330))
        parts.append(
            f'<rect x="230" y="{y:.1f}" width="{width:.1f}" height="{step * 0.7:.1f}" rx="2" fill="var(--{color})"/>'
        )
        parts.append(_label(222, y + step * 0.5, name, "end"))
        parts.append(_label(238 + width, y + step * 0.5, f"{count} ({count / len(requests):.0%})", "start"))
    return _svg(parts)


def saved_plot(typed: Sequence[TypedFile]) -> str:
    """Plot the share of keys saved in each file, sorted."""
    shares = sorted(((1 - file.keys / max(1, file.keys_without), file) for file in typed), key=lambda pair: -pair[0])
    high = max(0.1, math.ceil(max(share for share, _ in shares) * 10) / 10)
    low = min(0.0, math.floor(min(share for share, _ in shares) * 10) / 10)
    width = (WIDTH - LEFT - RIGHT) / len(shares)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in sorted({low, 0.0, high / 2, high}):
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_label(LEFT - 8, y(tick) + 4, f"{tick:.0%}", "end"))
    for number, (share, file) in enumerate(shares):
        x, top = LEFT + number * width, min(y(share), y(0.0))
        parts.append(
            f'<rect x="{x + width * 0.1:.1f}" y="{top:.1f}" width="{width * 0.8:.1f}" '
            f'height="{max(1.0, abs(y(share) - y(0.0))):.1f}" rx="2" fill="var(--model)">'
            f"<title>{escape(file.package)}, {escape(file.path)}: {share:.1%}</title></rect>"
        )
    parts.append(_label(WIDTH / 2, HEIGHT - 12, "files, best first", "middle"))
    return _svg(parts)


def reading_plot(requests: Sequence[ReplayRequest]) -> str:
    """Plot time against prefilled tokens, one dot for each request to the model."""
    dots = [
        (request.prompt_tokens - request.cached_tokens, request.milliseconds)
        for request in requests
        if request.source == "model" and request.milliseconds is not None
    ]
    most = max((read for read, _ in dots), default=1) or 1
    longest = max((milliseconds for _, milliseconds in dots), default=1.0)
    parts = [_y_axis([0, longest / 2, longest], longest, "{:.0f} ms")]
    for tick in (0, most // 2, most):
        x = LEFT + tick / most * (WIDTH - LEFT - RIGHT)
        anchor = "start" if tick == 0 else "end" if tick == most else "middle"
        parts.append(_label(x, HEIGHT - BOTTOM + 18, f"{tick} tokens", anchor))
    for read, milliseconds in dots:
        x = LEFT + read / most * (WIDTH - LEFT - RIGHT)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{_y(milliseconds, longest):.1f}" r="3" fill="var(--model)" opacity=".35"/>'
        )
    return _svg(parts)


def table(figures: ReplayFigures) -> str:
    """Return a table of all figures."""
    times = [
        (f"{name}: p50, p95, p99 in ms ({cells[3]} requests)", ", ".join(cells[:3]))
        for name, of in (("model", figures.model), ("cache", figures.cache), ("all answered", figures.answered))
        if of and (cells := time_cells(of))
    ]
    rows = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in [*times, *figure_rows(figures)])
    return f"<table>{rows}</table>"


def written(file: TypedFile) -> str:
    """Return the text of a file's stretches, with accepted text marked."""
    pieces = []
    for stretch in sorted({span.stretch for span in file.written}):
        pieces.append("".join(_span(span) for span in file.written if span.stretch == stretch))
    saved = 1 - file.keys / max(1, file.keys_without)
    heading = f"{escape(file.package)}, {escape(file.path)}: {file.keys} keys for {file.characters} characters"
    text = "\n\n".join(pieces)
    return f"<p>{heading} ({saved:.0%} saved)</p><pre>{text}</pre>"


def _span(span: TypedSpan) -> str:
    text = escape(span.text)
    if span.kind == "accept":
        return f"<mark>{text}</mark>"
    return f'<mark class="part">{text}</mark>' if span.kind in ("accept line", "accept word") else text


def _card(label: str, value: str) -> str:
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _percent(figure: Figure | None) -> str:
    return "none" if figure is None else f"{figure.value:.0%}" if figure.value >= 0.1 else f"{figure.value:.1%}"


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM)


def _y_axis(ticks: Sequence[float], most: float, form: str) -> str:
    return "".join(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(tick, most):.1f}" y2="{_y(tick, most):.1f}"/>'
        + _label(LEFT - 8, _y(tick, most) + 4, form.format(tick), "end")
        for tick in ticks
    )
