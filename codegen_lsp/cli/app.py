"""The `codegen-lsp` command: its subcommands, and how errors are shown.

Modules of commands import at the top only what loads quickly. What loads numpy, pygls or an engine is imported in the
command that needs it, so that `serve` does not wait for what only `eval` uses.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

from codegen_lsp import __version__
from codegen_lsp.cli import bench, complete, demo, doctor, index, models, refactor, serve, stats
from codegen_lsp.cli import eval as evaluate
from codegen_lsp.errors import CodegenError

app = typer.Typer(
    name="codegen-lsp",
    help="Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("complete")(complete.complete)
app.command("refactor")(refactor.refactor)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("stats")(stats.stats)
app.add_typer(models.app, name="models")
app.add_typer(index.app, name="index")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line. Errors that a user can act on are printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    # The user's source is compiled in several threads, and `warnings.catch_warnings` is not thread-safe.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
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
    """Print the message and advice of an error, and exit with status 1."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]Error:[/bold red] {escape(error.message)}")
    if error.advice:
        console.print(f"[bold]What to do:[/bold] {escape(error.advice)}")
    raise SystemExit(1)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"codegen-lsp {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it."""
