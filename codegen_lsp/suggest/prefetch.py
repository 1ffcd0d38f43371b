"""Where the user will be after accepting a suggestion, so that the next one can be made before he is there.

Accepting mostly completes a line, and what comes then is Enter. So there are two places: just behind the suggestion,
and, where the line ends there, the next line with the indentation that editors give it.
"""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.completion.snapshot import Snapshot, Suggestion, Trigger
from codegen_lsp.source.blocks import opens_block
from codegen_lsp.source.indentation import indent_unit, margin


def next_places(snapshot: Snapshot, suggestion: Suggestion) -> list[Snapshot]:
    """The document after accepting the suggestion, and after Enter there if the line is complete then."""
    accepted = after_accepting(snapshot, suggestion)
    entered = after_enter(accepted)
    return [accepted] if entered is None else [accepted, entered]


def after_accepting(snapshot: Snapshot, suggestion: Suggestion) -> Snapshot:
    """The document after accepting the suggestion, the cursor behind it."""
    return evolve(
        snapshot,
        text=snapshot.text[: suggestion.start] + suggestion.insert + snapshot.text[suggestion.end :],
        offset=suggestion.start + len(suggestion.insert),
        version=snapshot.version + 1,
        trigger=Trigger.AUTOMATIC,
        selected=None,
    )


def after_enter(snapshot: Snapshot) -> Snapshot | None:
    """The document after Enter at the end of a line; None elsewhere, and on lines with nothing but white space."""
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
