"""The limits of a refactoring's changes, and the check that holds in every language.

Each backend checks a draft against the text before; the name of the check that fails is the rule that
`codegen-lsp/explain` reports.
"""

from __future__ import annotations

from attrs import frozen

from codegen_lsp.refactor.edits import split_lines


@frozen
class AllowedChanges:
    """The changes that a refactoring may make; everything else must stay."""

    lines: frozenset[int] = frozenset()
    """Numbers of lines, from 1, that may be changed or removed. New lines may be inserted anywhere."""
    names: frozenset[str] = frozenset()
    """Exported names that may appear or disappear."""
    signatures: frozenset[str] = frozenset()
    """Qualified names of definitions that may appear, disappear, or be changed."""
    annotations: frozenset[str] = frozenset()
    """Qualified names of functions that may get type hints."""
    any_new: bool = False
    """New definitions and exports are allowed."""


@frozen
class CheckFailure:
    """The check that a result failed, and the reason for people."""

    check: str
    reason: str


def line_that_would_change(before: str, after: str, allowed: AllowedChanges) -> int | None:
    """Return the number of the first line outside `allowed.lines` that is not kept in its order, or None.

    Blank lines count.
    """
    new = iter(split_lines(after))
    for number, line in enumerate(split_lines(before), start=1):
        if number not in allowed.lines and not any(line == other for other in new):
            return number
    return None
