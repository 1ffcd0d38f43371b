"""`codegen-lsp index`: the n-gram indexes of workspaces that are kept on this machine."""

from __future__ import annotations

import datetime

import typer

from codegen_lsp.errors import CodegenError

app = typer.Typer(help="The n-gram indexes of your workspaces.", no_args_is_help=True, add_completion=False)


class IndexRemovalError(CodegenError):
    """Indexes that can't be removed."""


@app.command("status")
def status() -> None:
    """Show where the indexes are, how many there are, and how large they are."""
    from codegen_lsp.inference.workspace_indexes import index_folder, kept_indexes

    kept = kept_indexes(index_folder())
    typer.echo(f"{len(kept)} indexes in {index_folder()}")
    for path in kept:
        found = path.stat()
        used = datetime.datetime.fromtimestamp(found.st_mtime).strftime("%Y-%m-%d %H:%M")
        typer.echo(f"  {path.name}  {found.st_size / 2**20:8.1f} MiB  last used {used}")


@app.command("clear")
def clear() -> None:
    """Remove all indexes. Running servers keep theirs in memory, and write them again when files change."""
    from codegen_lsp.inference.workspace_indexes import index_folder, kept_indexes

    kept = kept_indexes(index_folder())
    try:
        for path in kept:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise IndexRemovalError(f"{error.filename} can't be removed: {error}.", "Remove it by hand.") from error
    typer.echo(f"{len(kept)} indexes are removed." if kept else "There are no indexes.")
