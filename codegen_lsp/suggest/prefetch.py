"""Prefetch of the suggestion that follows the one on the screen, so that it is ready when that one is accepted.

Accepting mostly completes a line, and the next key is then Enter. The two positions to prefetch for are therefore
directly after the suggestion and, if the line ends there, on the next line with the indentation that editors insert.
"""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.snapshot import Snapshot, Suggestion, Trigger
from codegen_lsp.source.blocks import opens_block
from codegen_lsp.source.indentation import indent_unit, margin


def next_snapshots(snapshot: Snapshot, suggestion: Suggestion) -> list[Snapshot]:
    """Return the document after accepting the suggestion, and after Enter there if the line is complete then."""
    accepted = after_accepting(snapshot, suggestion)
    entered = after_enter(accepted)
    return [accepted] if entered is None else [accepted, entered]


def after_accepting(snapshot: Snapshot, suggestion: Suggestion) -> Snapshot:
    """Return the document after accepting the suggestion, with the cursor after it."""
    return evolve(
        snapshot,
        text=snapshot.text[: suggestion.start] + suggestion.insert + snapshot.text[suggestion.end :],
        offset=suggestion.start + len(suggestion.insert),
        version=snapshot.version + 1,
        trigger=Trigger.AUTOMATIC,
        selected=None,
    )


def after_enter(snapshot: Snapshot) -> Snapshot | None:
    """Return the document after Enter at the end of a line; None elsewhere, and on blank lines."""
    cursor = snapshot.cursor
    if cursor.after or not cursor.before.strip():
        return None
    unit = indent_unit([*cursor.above, cursor.before]) or cursor.language.indent
    indent = margin(cursor.before) + (unit if opens_block(cursor.before, cursor.language) else "")
    entered = "\n" + indent
    return evolve(
        snapshot,
        text=snapshot.text[: snapshot.offset] + entered + snapshot.text[snapshot.offset :],
        offset=snapshot.offset + len(entered),
    )
