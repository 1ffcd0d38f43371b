"""`codegen-lsp complete`: complete code at a place in a file, and print it there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cattrs
import typer
from attrs import frozen
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.options import AsJson, Device, Exclude, LanguageIdentifier, Model, Threads
from codegen_lsp.settings import Settings

if TYPE_CHECKING:
    from codegen_lsp.cli.session import ModelSession
    from codegen_lsp.completion.snapshot import Snapshot
    from codegen_lsp.inference.rpc.attribution import TokenAttribution
    from codegen_lsp.suggest.origins import SuggestionOrigin
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
    why: Annotated[
        bool,
        typer.Option(
            "--why",
            help="Name the file and line that each completion's longest match comes from, and each token's source.",
        ),
    ] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Count the n-grams of this folder's files, as an editor does that has it open; "
            "with --why the file's project by default.",
            file_okay=False,
            exists=True,
            show_default=False,
        ),
    ] = None,
    exclude: Exclude = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show the cost in time and tokens.")] = False,
    as_json: AsJson = False,
) -> None:
    """Complete code at a place in a file, and print it there."""
    from codegen_lsp.cli.location import snapshot_at
    from codegen_lsp.cli.session import open_session
    from codegen_lsp.cli.workspace_option import workspace_of
    from codegen_lsp.suggest.workspace_indexing import WorkspaceIndexer

    snapshot = snapshot_at(place, language)
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        candidates=number,
        temperature=temperature,
        languages={snapshot.language: True},
    )

    access = workspace_of(snapshot, workspace, exclude or []) if why or workspace else None

    async def run() -> CompletedPlace:
        indexer = WorkspaceIndexer()
        try:
            async with open_session(find(model), settings) as session:
                if access is not None:
                    await session.index(snapshot, access, indexer)
                outcome, recorded = await session.complete_recorded(snapshot, indexer)
                if not why:
                    return CompletedPlace(outcome, session)
                origins = await session.origins(snapshot, outcome, indexer)
                return CompletedPlace(
                    outcome, session, origins, await session.attributions(snapshot, outcome, recorded)
                )
        finally:
            indexer.close()

    completion = asyncio.run(run())
    if as_json:
        typer.echo(_as_json(snapshot, completion))
    else:
        _print(Console(), snapshot, completion, stats=stats)


@frozen
class CompletedPlace:
    """What a completion gave."""

    outcome: SuggestionResult
    session: ModelSession
    origins: list[SuggestionOrigin | None] | None = None
    """Where each suggestion comes from; None if that was not asked for."""
    tokens: list[list[TokenAttribution]] | None = None
    """The tokens of each suggestion; None if they were not asked for."""


def _print(console: Console, snapshot: Snapshot, completion: CompletedPlace, *, stats: bool) -> None:
    """Print each suggestion in its place, or the reason why there is none."""
    from codegen_lsp.cli.render import print_code, stats_line
    from codegen_lsp.cli.trace_view import sources_table

    outcome = completion.outcome
    if not outcome.suggestions:
        print_code(console, snapshot, None)
        reason = outcome.refusal.reason if outcome.refusal else "The model had nothing to say."
        console.print(f"\nNo suggestion: {reason}", style="yellow", highlight=False)
    for number, suggestion in enumerate(outcome.suggestions, start=1):
        if number > 1:
            console.rule(f"alternative {number}", style="dim")
        print_code(console, snapshot, suggestion)
        if completion.origins is not None:
            origin = completion.origins[number - 1]
            sentence = origin.sentence if origin else "It agrees with no other place that is long enough to tell."
            console.print(f"\n{sentence}", style="dim", highlight=False, markup=False, soft_wrap=True)
        if completion.tokens is not None:
            console.print()
            console.print(sources_table(completion.tokens[number - 1]))
    if stats:
        session, model = completion.session, completion.session.model
        console.print(
            f"\n{model.name} ({model.engine}, {model.device}, {model.threads} threads), "
            f"ready after {session.start_seconds * 1e3:.0f} ms\n{stats_line(outcome)}",
            style="dim",
            highlight=False,
        )


def _as_json(snapshot: Snapshot, completion: CompletedPlace) -> str:
    """Return a completion as JSON.

    `items` replace `text[start:end]` (offsets in code points from the file's start) by `insert`; `new_text` is the part
    after the text that the cursor's line has already.
    """
    outcome, session = completion.outcome, completion.session
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
    if completion.origins is not None:
        body["tokens"] = cattrs.unstructure(completion.tokens)
        body["origins"] = [cattrs.unstructure(origin) if origin else None for origin in completion.origins]
    return json.dumps(body, ensure_ascii=False, indent=2)
