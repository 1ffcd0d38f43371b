"""The `codegen-lsp` command. Each command reads its arguments and calls one function of a room.

Rooms are imported inside the commands: `serve` must not wait for what only `models` needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from codegen_lsp import __version__
from codegen_lsp.errors import CodegenError

app = typer.Typer(
    name="codegen-lsp",
    help="Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Install, list, check and remove models.", no_args_is_help=True)
app.add_typer(models_app, name="models")

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help="Name of an installed model, folder of a build, or auto.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option(metavar="N", min=0, help="Threads; 0 takes the physical cores, at most 8.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead.")]


def main() -> None:
    """Run the command line. Errors that a user can act on are printed without a trace."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except CodegenError as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


def fail(error: CodegenError) -> None:
    """Print what happened and what to do, and end."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]Error:[/bold red] {_escaped(error.message)}")
    if error.advice:
        console.print(f"[bold]What to do:[/bold] {_escaped(error.advice)}")
    raise SystemExit(1)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"codegen-lsp {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it."""


@app.command()
def serve(
    tcp: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen on TCP instead of stdio.")] = None,
    ws: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen for WebSocket clients instead.")] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Use stdio, the default; some editors pass this.")] = False,
) -> None:
    """Run the language server; editors start this."""
    from codegen_lsp.editor.serve import serve_stdio, serve_tcp, serve_ws

    if sum((tcp is not None, ws is not None, stdio)) > 1:
        raise typer.BadParameter("choose one of --stdio, --tcp and --ws")
    if tcp is not None:
        raise SystemExit(serve_tcp(tcp))
    if ws is not None:
        raise SystemExit(serve_ws(ws))
    raise SystemExit(serve_stdio())


@app.command()
def complete(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE[:COL]", help="Where the cursor is, counted from 1.")],
    number: Annotated[
        int, typer.Option("-n", metavar="N", min=1, max=8, help="How many different completions to show.")
    ] = 1,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    language: Annotated[
        str | None, typer.Option(metavar="ID", help="LSP language identifier, if the extension misleads.")
    ] = None,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="Above 0, completions vary.")] = 0.0,
    stats: Annotated[bool, typer.Option("--stats", help="Show what it cost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Complete code at a place in a file, and print it there."""
    from codegen_lsp.settings import Settings
    from codegen_lsp.terminal import complete as command
    from codegen_lsp.terminal.place import snapshot_at

    snapshot = snapshot_at(place, language)
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        candidates=number,
        temperature=temperature,
        languages={snapshot.language: True},
    )
    outcome, session = asyncio.run(command.complete(snapshot, settings))
    if as_json:
        typer.echo(command.as_json(snapshot, outcome, session))
        return
    from rich.console import Console

    command.print_completion(Console(), snapshot, outcome, session, stats=stats)


@app.command()
def demo(
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what is shown as a picture, too.")] = None,
) -> None:
    """Complete real code with the model, show its timing, and how to set up an editor."""
    from rich.console import Console

    from codegen_lsp.settings import Settings
    from codegen_lsp.terminal.demo import demo as show

    console = Console(record=True, width=100, force_terminal=True) if svg else Console()
    shown = asyncio.run(show(console, Settings(model=model, device=device, threads=threads, candidates=1)))
    if svg:
        console.save_svg(str(svg), title="codegen-lsp demo")
    if not shown:
        raise SystemExit(1)


@app.command()
def doctor(model: Model = "auto", device: Device = "auto", threads: Threads = 0) -> None:
    """Show versions, hardware, models and measured speed, with advice."""
    from rich.console import Console

    from codegen_lsp.settings import Settings
    from codegen_lsp.terminal.doctor import doctor as examine

    if not asyncio.run(examine(Console(), Settings(model=model, device=device, threads=threads))):
        raise SystemExit(1)


@models_app.command("list")
def models_list(
    installed: Annotated[bool, typer.Option("--installed", help="Only what is installed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List installed models and checkpoints that can be pulled."""
    from rich.console import Console

    from codegen_lsp.terminal import models

    if as_json:
        typer.echo(json.dumps(models.listing(installed_only=installed), indent=2))
        return
    models.print_listing(Console(), installed_only=installed)


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A checkpoint, such as codegen-350M-mono.")],
    yes: Annotated[
        bool, typer.Option("--accept-license", help="Agree to the checkpoint's licence without being asked.")
    ] = False,
) -> None:
    """Download a checkpoint, convert it to int8, verify it, and install it."""
    from rich.console import Console

    from codegen_lsp.terminal import models

    console = Console()
    accepted = yes or models.consent(console, name)
    with _progress() as report:
        build = models.pull(name, accepted=accepted, progress=report)
    models.print_installed(console, build)


@models_app.command("convert")
def models_convert(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a checkpoint in Hugging Face format.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; the folder's by default.")
    ] = None,
) -> None:
    """Convert a checkpoint's folder to an int8 build, verify it, and install it."""
    from rich.console import Console

    from codegen_lsp.terminal import models

    console = Console()
    with _progress() as report:
        build = models.convert(source, name, progress=report)
    models.print_installed(console, build)


@models_app.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or the folder of a build.")],
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compare with this checkpoint's float weights.")
    ] = None,
) -> None:
    """Check a build's files, and its answers against the checkpoint's."""
    from rich.console import Console

    from codegen_lsp.terminal import models

    with _progress() as report:
        figures = models.verify(name, against, progress=report)
    models.print_verification(Console(), name, figures)


@models_app.command("path")
def models_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or auto.")] = "auto",
) -> None:
    """Print the folder of a model."""
    from codegen_lsp.checkpoints.store import find

    typer.echo(str(find(name).path))


@models_app.command("remove")
def models_remove(name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model.")]) -> None:
    """Delete a model from the store."""
    from codegen_lsp.checkpoints.store import remove

    typer.echo(f"Removed {remove(name)}")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    from codegen_lsp.terminal.progress import progress

    with progress() as report:
        yield report


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
