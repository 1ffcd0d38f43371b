"""`codegen-lsp complete`: complete code at a place in a file, and print it there."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import cattrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.options import AsJson, Device, LanguageIdentifier, Model, Threads
from codegen_lsp.settings import Settings

if TYPE_CHECKING:
    from codegen_lsp.cli.session import ModelSession
    from codegen_lsp.completion.snapshot import Snapshot
    from codegen_lsp.suggest.request import SuggestionResult


def complete(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE[:COL]", help="Position of the cursor, counted from 1.")],
    number: Annotated[
        int, typer.Option("-n", metavar="N", min=1, max=8, help="Number of different completions to show.")
    ] = 1,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: LanguageIdentifier = None,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="Above 0, completions vary.")] = 0.0,
    stats: Annotated[bool, typer.Option("--stats", help="Show the cost in time and tokens.")] = False,
    as_json: AsJson = False,
) -> None:
    """Complete code at a place in a file, and print it there."""
    from codegen_lsp.cli.location import snapshot_at
    from codegen_lsp.cli.session import open_session

    snapshot = snapshot_at(place, language)
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        candidates=number,
        temperature=temperature,
        languages={snapshot.language: True},
    )

    async def run() -> tuple[SuggestionResult, ModelSession]:
        async with open_session(find(model), settings) as session:
            return await session.complete(snapshot), session

    outcome, session = asyncio.run(run())
    if as_json:
        typer.echo(_as_json(snapshot, outcome, session))
    else:
        _print(Console(), snapshot, outcome, session, stats=stats)


def _print(
    console: Console, snapshot: Snapshot, outcome: SuggestionResult, session: ModelSession, *, stats: bool
) -> None:
    """Print each suggestion in its place, or the reason why there is none."""
    from codegen_lsp.cli.render import print_code, stats_line

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


def _as_json(snapshot: Snapshot, outcome: SuggestionResult, session: ModelSession) -> str:
    """Return the outcome as JSON.

    `items` replace `text[start:end]` (offsets in code points from the file's start) by `insert`; `new_text` is the part
    after the text that the cursor's line has already.
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
