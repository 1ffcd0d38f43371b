"""Leading white space: how wide it is, how the file at hand writes it, and how to write it that way.

Models often answer with four spaces in a file of tabs or of two spaces; an editor shows that as a broken block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

TAB_WIDTH = 8
"""Columns to the next tab stop, as Python's tokenizer and `StopRules` count them."""


def margin(line: str) -> str:
    """The line's leading white space."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def columns(line: str) -> int:
    """Width of the line's leading white space; tabs reach to the next multiple of 8."""
    return len(margin(line).expandtabs(TAB_WIDTH))


def indent_unit(lines: Iterable[str], default: str) -> str:
    """One level of indentation as these lines have it: a tab, or the commonest step of spaces; else `default`."""
    tabs = 0
    steps: Counter[int] = Counter()
    last = 0
    for line in lines:
        if not line.strip():
            continue
        lead = margin(line)
        if lead.startswith("\t"):
            tabs += 1
            continue
        if len(lead) - last in (2, 4, 8):
            steps[len(lead) - last] += 1
        last = len(lead)
    if tabs > sum(steps.values()):
        return "\t"
    return " " * steps.most_common(1)[0][0] if steps else default


def written_with(unit: str, line: str, *, step: int) -> str:
    """The line, its leading white space written in `unit`s; `step` is the width in spaces of a level as it stands.

    What is left over below one level (alignment) stays as spaces. Lines that mix both already are left alone.
    """
    lead = margin(line)
    if unit == "\t" and lead and "\t" not in lead:
        return "\t" * (len(lead) // step) + " " * (len(lead) % step) + line[len(lead) :]
    if unit != "\t" and lead and " " not in lead:
        return unit * len(lead) + line[len(lead) :]
    return line


def step_of(lines: Iterable[str]) -> int:
    """Width of a level of indentation in lines that are indented by spaces: 2 or 4."""
    widths = [len(margin(line)) for line in lines if line.strip() and line.startswith(" ")]
    return 4 if all(width % 4 == 0 for width in widths) else 2
