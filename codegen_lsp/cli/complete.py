"""`codegen-lsp complete`: one completion, in place."""

from __future__ import annotations

import json
from typing import Any

import cattrs
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.render import print_code, stats_line
from codegen_lsp.cli.session import Session, open_session
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.service import Outcome


async def complete(snapshot: Snapshot, settings: Settings) -> tuple[Outcome, Session]:
    """Complete at a cursor, with the worker of an editor's windows if one runs. Raises ModelError and WorkerError."""
    async with open_session(find(settings.model), settings) as session:
        return await session.complete(snapshot), session


def print_completion(console: Console, snapshot: Snapshot, outcome: Outcome, session: Session, *, stats: bool) -> None:
    """Show each suggestion in its place, or why there is none."""
    if not outcome.suggestions:
        print_code(console, snapshot, None)
        reason = outcome.refusal.reason if outcome.refusal else "The model had nothing to say."
        console.print(f"\nNo suggestion: {reason}", style="yellow", highlight=False)
    for number, suggestion in enumerate(outcome.suggestions, start=1):
        if number > 1:
            console.rule(f"alternative {number}", style="dim")
        print_code(console, snapshot, suggestion)
    if stats:
        model = session.model
        console.print(
            f"\n{model.name} ({model.engine}, {model.device}, {model.threads} threads), "
            f"ready after {session.start_seconds * 1e3:.0f} ms\n{stats_line(outcome)}",
            style="dim",
            highlight=False,
        )


def as_json(snapshot: Snapshot, outcome: Outcome, session: Session) -> str:
    """The outcome for a program.

    `items` replace `text[start:end]` (offsets in code points from the file's start) by `insert`; `new_text` is the part
    after the cursor's line so far.
    """
    body: dict[str, Any] = {
        "uri": snapshot.uri,
        "offset": snapshot.offset,
        "language": snapshot.language,
        "model": cattrs.unstructure(session.model),
        "items": [
            cattrs.unstructure(item) | {"new_text": item.insert[snapshot.offset - item.start :]}
            for item in outcome.suggestions
        ],
        "refusal": cattrs.unstructure(outcome.refusal) if outcome.refusal else None,
        "stats": cattrs.unstructure(outcome.stats) if outcome.stats else None,
        "seconds": outcome.seconds,
        "start_seconds": session.start_seconds,
    }
    return json.dumps(body, ensure_ascii=False, indent=2)
