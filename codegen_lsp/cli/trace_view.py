"""A trace on the terminal: the text around the cursor by probability, and tables of the tokens of a suggestion."""

from __future__ import annotations

import base64
import math
import unicodedata
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from codegen_lsp.inference.rpc.attribution import AttentionRecord, TokenAttribution
from codegen_lsp.inference.rpc.messages import TextOrigin
from codegen_lsp.trace.tracing import Trace, name_of

LINES_BEFORE = 12
LEAST_CERTAIN = 6
"""Tokens of the prompt that are listed."""
LOOKED_AT = 3
"""Tokens that are named of those that a token attends to."""
LEVELS = ((0.7, "green"), (0.3, "yellow"), (0.0, "red"))
"""Least probability of each colour."""
SOURCES = {"model": "blue", "document": "green", "workspace": "magenta"}


def print_trace(console: Console, trace: Trace) -> None:
    """Print a trace."""
    model, tokens, prompt = trace.model, trace.attribution.tokens, trace.attribution.prompt
    console.print(
        f"{name_of(trace)}:{trace.line}:{trace.column}, {model.name} ({model.engine}): {len(prompt)} tokens of prompt, "
        f"{len(tokens)} of the {'suggestion' if trace.shown else 'answer'}",
        style="bold",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if trace.reason:
        console.print(f"Not shown: {trace.reason}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    legend = Text("Probability: ", style="dim")
    for words, (_, colour) in zip(("70 % and more", "30 % and more", "less"), LEVELS, strict=True):
        legend.append(f"{words}  ", style=colour)
    console.print(Padding(legend, (0, 0, 1, 0)))
    console.print(_code(trace), soft_wrap=True)
    if tokens:
        console.print()
        console.print(_suggestion_table(trace))
    unlikely = sorted((one for one in prompt[1:] if one.line), key=lambda one: one.token.probability)
    if unlikely:
        console.print()
        table = _table("Least likely of the prompt", "line", "token", "", "most likely there")
        for one in unlikely[:LEAST_CERTAIN]:
            table.add_row(str(one.line), _piece(one.token.text), _percent(one.token), _runners_up(one.token))
        console.print(table)


def _code(trace: Trace) -> Text:
    """Return the last lines of the prompt before the cursor, and the suggestion, each token in its colour."""
    shown = Text()
    for one in trace.attribution.prompt:
        if one.region == "before" and one.line > trace.line - LINES_BEFORE:
            shown.append(_safe(one.token.text), style=_colour(one.token))
    for token in trace.attribution.tokens:
        shown.append(_safe(token.text), style=f"bold underline {_colour(token)}")
    lines = shown.split("\n", allow_blank=True)[-LINES_BEFORE - trace.suggestion.count("\n") :]
    first = trace.line + trace.suggestion.count("\n") - len(lines) + 1
    numbered = Text()
    for number, line in enumerate(lines, start=first):
        numbered.append(f"{number:>5}  ", style="dim")
        numbered.append_text(line)
        numbered.append("\n")
    numbered.rstrip()
    return numbered


def _suggestion_table(trace: Trace) -> Table:
    attribution = trace.attribution
    texts = [*(one.token.text for one in attribution.prompt), *(token.text for token in attribution.tokens)]
    table = _table("Tokens of the suggestion", "token", "", "mostly from", "runners-up", "looks at")
    for number, token in enumerate(attribution.tokens):
        looked_at = Text()
        if attribution.attention is not None:
            for at, weight in most_attended(attribution.attention, len(attribution.prompt), number)[:LOOKED_AT]:
                looked_at.append(_visible(texts[at]), style="cyan")
                looked_at.append(f" {weight:.0%}  ", style="dim")
        table.add_row(_piece(token.text), _percent(token), source_of(token), _runners_up(token), looked_at)
    return table


def most_attended(record: AttentionRecord, prompt: int, number: int) -> list[tuple[int, float]]:
    """Return the tokens that one of the suggestion attends to, the mean over all heads, most first.

    The first token of all is left out: heads that look for nothing look at it. Empty where nothing was recorded.
    """
    if number >= len(record.suggestion):
        return []
    data, length = base64.b64decode(record.suggestion[number]), prompt + number
    maps = record.layers * record.heads
    squares = [(byte / 255) ** 2 / maps for byte in range(256)]
    sums = [sum(squares[byte] for byte in data[at::length]) for at in range(length)]
    return sorted(((at, sums[at]) for at in range(1, length)), key=lambda one: -one[1])


def sources_table(tokens: Sequence[TokenAttribution]) -> Table:
    """Return the text of a suggestion by its sources: a row for each run of tokens from the same place."""
    table = _table("Where its tokens come from", "text", "", "mostly from")
    for _, run in groupby(tokens, lambda one: source_of(one).plain):
        some = list(run)
        probability = math.prod(one.probability for one in some)
        colour = next(colour for least, colour in LEVELS if probability >= least)
        table.add_row(
            _piece("".join(one.text for one in some)), Text(f"{probability:.0%}", style=colour), source_of(some[0])
        )
    return table


def source_of(token: TokenAttribution) -> Text:
    """Return the source with the largest share in a token, with the place in it that agrees."""
    shares = {"model": token.from_model, "document": token.from_document, "workspace": token.from_workspace}
    source = max(shares, key=lambda one: shares[one])
    found: TextOrigin | None = {"document": token.document, "workspace": token.workspace}.get(source)
    shown = Text(source, style=SOURCES[source])
    if found is not None:
        shown.append(f" {_visible(found.path)}:{found.line}" if found.path else f" line {found.line}", style="default")
    return shown


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column else "right", overflow="fold")
    return table


def _runners_up(token: TokenAttribution) -> Text:
    shown = Text()
    others: Sequence[tuple[str, float]] = [(one.text, one.probability) for one in token.alternatives]
    for text, probability in [one for one in others if one[0] != token.text][:3]:
        shown.append(_visible(text))
        shown.append(f" {probability:.0%}  ", style="dim")
    return shown


def _percent(token: TokenAttribution) -> Text:
    return Text(f"{token.probability:.0%}", style=_colour(token))


def _piece(text: str) -> Text:
    return Text(_visible(text), style="bold")


def _colour(token: TokenAttribution) -> str:
    return next(colour for least, colour in LEVELS if token.probability >= least)


def _visible(text: str) -> str:
    """Return a token's text in one line, with blanks that can be seen."""
    return _safe(text.replace("\n", "↵").replace("\t", "→").replace(" ", "·"))


def _safe(text: str) -> str:
    """Return text without characters that could control a terminal or turn the direction of text."""
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else f"⟨{ord(char):04x}⟩"
        for char in text
    )
