"""`codegen-lsp trace`: what a suggestion was made of, and what the model looked at."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import cattrs
import typer
from rich.console import Console

from codegen_lsp.checkpoints.store import find
from codegen_lsp.cli.options import AsJson, Device, Exclude, LanguageIdentifier, Model, Threads
from codegen_lsp.settings import Settings


def trace(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE[:COL]", help="Position of the cursor, counted from 1.")],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="OUT", help="Write a page that shows the attention of each layer and head, too."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --html overwrite a file that is no trace.")] = False,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: LanguageIdentifier = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Count the n-grams of this folder's files, as an editor does that has it open; the file's project by "
            "default.",
            file_okay=False,
            exists=True,
            show_default=False,
        ),
    ] = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Show each token of a suggestion and its prompt: probability, runners-up, source, and what the model looks at."""
    from codegen_lsp.cli.location import snapshot_at
    from codegen_lsp.cli.session import open_session
    from codegen_lsp.cli.trace_view import print_trace
    from codegen_lsp.cli.workspace_option import workspace_of
    from codegen_lsp.suggest.workspace_indexing import WorkspaceIndexer
    from codegen_lsp.trace.html_page import check_target, save_page
    from codegen_lsp.trace.tracing import Trace

    snapshot = snapshot_at(place, language)
    if html is not None:
        check_target(html, force=force)
    settings = Settings(model=model, device=device, threads=threads, languages={snapshot.language: True})
    access = workspace_of(snapshot, workspace, exclude or [])

    async def run() -> Trace:
        indexer = WorkspaceIndexer()
        try:
            async with open_session(find(model), settings) as session:
                await session.index(snapshot, access, indexer)
                return await session.trace(snapshot, indexer)
        finally:
            indexer.close()

    found = asyncio.run(run())
    if html is not None:
        save_page(html, found, force=force)
    if as_json:
        typer.echo(json.dumps(cattrs.unstructure(found), ensure_ascii=False, indent=2))
        return
    console = Console()
    print_trace(console, found)
    if html is not None:
        console.print(f"\nThe attention of each layer and head: {html}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print("\n--html OUT writes a page with the attention of each layer and head.", style="dim")
