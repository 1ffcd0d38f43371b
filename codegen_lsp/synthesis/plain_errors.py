"""Errors of a program in plain words, for people who do not read tracebacks."""

from __future__ import annotations

import re

LINE = re.compile(r" \(line \d+\)$")
"""End of an error, as `cells` describes it."""
ABOVE = re.compile(r"turn (\d+): (.+)", re.DOTALL)
"""An error of a turn above, for which the last one did not run."""

EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (r"NameError: name '(.+?)' is not defined", "nothing up to here defines {0}"),
    (r"(?:ModuleNotFoundError|ImportError): No module named '(.+?)'", "the package {0} is not installed here"),
    (r"ZeroDivisionError", "it divides by zero"),
    (r"IndexError", "it asks for an element beyond the end"),
    (r"KeyError: (.+)", "there is no entry {0}"),
    (r"AttributeError: '(.+?)' object has no attribute '(.+?)'", "a value of the type {0} has no {1}"),
    (r"AttributeError: module '(.+?)' has no attribute '(.+?)'", "the package {0} has no {1}"),
    (r"(?:SyntaxError|IndentationError|TabError): (.+)", "the code is not valid Python: {0}"),
    (r"AssertionError", "something that it checks does not hold"),
    (r"TypeError: (.+)", "it does something that values of this type can't do: {0}"),
    (r"ValueError: (.+)", "a value can't be used here: {0}"),
)
"""Patterns of errors and what they mean, the first that fits; `{0}` is the first group."""


def in_plain_words(error: str) -> str:
    """Return what an error of Python means, as a sentence without its period, with the line; empty if unknown.

    `error` is a text as `TurnResult.error` has it.
    """
    if above := ABOVE.match(error):
        inner = in_plain_words(above[2])
        return f"step {above[1]} fails, so this one did not run: {inner}" if inner else ""
    line = LINE.search(error)
    for pattern, meaning in EXPLANATIONS:
        if found := re.match(pattern, LINE.sub("", error)):
            return meaning.format(*found.groups()) + (line[0] if line else "")
    return ""
