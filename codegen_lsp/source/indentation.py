"""Indentation: its width, its unit in a file, and text re-indented in that unit.

Models often answer with four spaces in a file of tabs or of two spaces; an editor shows that as a broken block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

TAB_WIDTH = 8
"""Columns to the next tab stop, as in Python's tokenizer and `StopRules`."""


def margin(line: str) -> str:
    """Return the line's leading white space."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def columns(line: str) -> int:
    """Return the width of the line's leading white space; tabs reach to the next multiple of 8."""
    return len(margin(line).expandtabs(TAB_WIDTH))


def indent_unit(lines: Iterable[str]) -> str | None:
    """Return one level of indentation as in these lines: a tab, or the most frequent step of spaces.

    None when no line is indented, or when lines with tabs and lines with spaces are mixed.
    """
    tabs = spaces = 0
    steps: Counter[int] = Counter()
    last = 0
    for line in lines:
        if not line.strip():
            continue
        lead = margin(line)
        if lead.startswith("\t"):
            tabs += 1
            continue
        spaces += len(lead) > 1
        if len(lead) - last in (2, 3, 4, 8):
            steps[len(lead) - last] += 1
        last = len(lead)
    if min(tabs, spaces) > (tabs + spaces) // 5:
        return None
    if tabs > spaces:
        return "\t"
    return " " * steps.most_common(1)[0][0] if steps else None


def reindented(lines: Sequence[str], unit: str, base: str) -> list[str]:
    """Return the lines indented in `unit`s; `base` is the indentation of the line to which they belong.

    Spaces become tabs and tabs spaces; a step other than the file's is replaced by the file's if all lines agree on it.
    Lines whose white space mixes tabs and spaces are kept.
    """
    if unit == "\t":
        return [_with_tabs(line, _step(lines, base)) for line in lines]
    spaced = [_with_spaces(line, unit) for line in lines]
    depths = [len(margin(line)) - len(base) for line in spaced if line.strip()]
    step = next((depth for depth in depths if depth > 0), 0)
    if not depths or depths[0] != step or {step, len(unit)} != {2, 4} or any(depth % step for depth in depths):
        return spaced
    if any("\t" in margin(line) for line in spaced):
        return spaced
    return [
        base + unit * ((len(margin(line)) - len(base)) // step) + line.lstrip(" ") if line.strip() else line
        for line in spaced
    ]


def _step(lines: Sequence[str], base: str) -> int:
    """Return the width of a level in lines indented by spaces under a line indented by tabs."""
    widths = [len(margin(line)) for line in lines if line.strip() and line.startswith(" ")]
    if widths and base and widths[0] % (len(base) + 1) == 0 and widths[0] // (len(base) + 1) in (2, 4, 8):
        return widths[0] // (len(base) + 1)
    return 4 if all(width % 4 == 0 for width in widths) else 2


def _with_tabs(line: str, step: int) -> str:
    lead = margin(line)
    if not lead or "\t" in lead:
        return line
    return "\t" * (len(lead) // step) + " " * (len(lead) % step) + line[len(lead) :]


def _with_spaces(line: str, unit: str) -> str:
    lead = margin(line)
    return unit * len(lead) + line[len(lead) :] if lead and " " not in lead else line
