"""Examples in what a person asks: `x = [1, 2]` → `3`, `double(4)` -> `8`, or lines of a doctest.

The left side is either an expression, which must have the value on the right after the turn has run, or assignments:
then the turn, run after them, must give that value.
"""

from __future__ import annotations

import ast
import re

from attrs import frozen

ARROW = re.compile(r"\s*(?:→|⇒|=>|-+>|==>)\s*")
QUOTED_END, QUOTED_START = re.compile(r"`([^`\n]+)`$"), re.compile(r"`([^`\n]+)`")
SIGNATURE = re.compile(r"\bdef\s+\w+\s*\(.*\)$")
"""The head of a function, whose arrow stands before a type."""
STARTS = re.compile(r"^|(?<=[:;,.(])\s+|(?<=example )|(?<=if )|(?<=for )|(?<=with )|\s")
"""Places at which the left side may begin."""
MOST_ARROWS, LONGEST_SIDE = 20, 300
"""Limits of what is tried in a request, and of the characters on each side: the work grows with their product."""

SENTENCE_END, STRING = re.compile(r"\w\.\s"), re.compile(r"""(['"]).*?\1""")
"""A period that ends a sentence; in `number. f(10)`, Python would read an attribute."""


@frozen
class Example:
    """A value that a turn must give: `expression` after it, or, without one, the turn itself, run after `setup`."""

    setup: str
    """Assignments that are made before the turn runs; may be empty."""
    expression: str
    """Evaluated after the turn; may be empty."""
    expected: str
    """An expression."""

    @property
    def text(self) -> str:
        """The example in one line."""
        return f"{self.setup or self.expression or 'this step'} → {self.expected}"


def examples_in(request: str) -> list[Example]:
    """Return the examples in what is asked, in their order. What can't be read as one is no example."""
    found = []
    arrows = 0
    lines = request.split("\n")
    for number, line in enumerate(lines):
        if line.lstrip().startswith(">>> "):
            below = lines[number + 1].strip() if number + 1 < len(lines) else ""
            found += _example(line.lstrip().removeprefix(">>> "), below)
            continue
        start = 0
        for arrow in ARROW.finditer(line):
            arrows += 1
            if arrows > MOST_ARROWS:
                return found
            left = _left(line[max(start, arrow.start() - LONGEST_SIDE) : arrow.start()])
            right = _right(line[arrow.end() : arrow.end() + LONGEST_SIDE])
            if left and right and (example := _example(left, right)):
                found += example
                start = arrow.end() + len(right)
    return found


def _example(left: str, right: str) -> list[Example]:
    expected = _expression(right)
    if expected is None or not left.strip():
        return []
    if (expression := _expression(left)) is not None:
        return [Example("", expression, expected)]
    return [Example(left.strip(), "", expected)] if _assigns(left) else []


def _left(text: str) -> str:
    """Return the longest end of a text that is an expression or assigns something."""
    text = text.rstrip()
    if SIGNATURE.search(text):
        return ""
    if quoted := QUOTED_END.search(text):
        return quoted[1]
    for start in sorted({found.end() for found in STARTS.finditer(text)}):
        part = text[start:]
        if SENTENCE_END.search(STRING.sub("''", part)):
            continue
        if _assigns(part) or (_expression(part) is not None and not part.strip().isidentifier()):
            return part
    return ""


def _right(text: str) -> str:
    """Return the longest beginning of a text that is an expression."""
    if quoted := QUOTED_START.match(text):
        return quoted[1]
    ends = [len(text), *(found.start() for found in re.finditer(r"[\s.,;]", text))]
    for end in sorted(set(ends), reverse=True):
        if _expression(part := text[:end].rstrip(" .,;")) is not None:
            return part
    return ""


def _expression(text: str) -> str | None:
    try:
        ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return text.strip()


def _assigns(text: str) -> bool:
    """Return whether a text assigns values to names, and does nothing else."""
    try:
        body = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    targets = [target for one in body if isinstance(one, ast.Assign) for target in one.targets]
    names = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return (
        bool(body)
        and all(isinstance(one, ast.Assign) for one in body)
        and all(isinstance(name, ast.Name) for name in names)
    )
