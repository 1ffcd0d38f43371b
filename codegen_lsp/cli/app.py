"""The `codegen-lsp` command: its subcommands, and how errors are shown.

The module of a subcommand is imported when it is called or listed, so that `serve`, which an editor waits for, does not
load what only other commands use. Within the modules, numpy, pygls and the engines are imported where they are used.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from codegen_lsp.errors import CodegenError
from codegen_lsp.log_format import LogFormatter
from codegen_lsp.version import __version__

COMMANDS = (
    *("serve", "complete", "trace", "generate", "synth", "refactor", "demo", "doctor", "stats"),
    *("models", "adapt", "remote", "index", "deploy", "eval", "bench"),
)
"""In the order of the help."""


def load(name: str) -> Callable[..., Any] | typer.Typer:
    """Import a subcommand: a function, or the group of its subcommands. Raises KeyError for an unknown name."""
    match name:
        case "serve":
            from codegen_lsp.cli.serve import serve

            return serve
        case "complete":
            from codegen_lsp.cli.complete import complete

            return complete
        case "trace":
            from codegen_lsp.cli.trace import trace

            return trace
        case "generate":
            from codegen_lsp.cli.generate import generate

            return generate
        case "synth":
            from codegen_lsp.cli.synth import synth

            return synth
        case "refactor":
            from codegen_lsp.cli.refactor import refactor

            return refactor
        case "demo":
            from codegen_lsp.cli.demo import demo

            return demo
        case "doctor":
            from codegen_lsp.cli.doctor import doctor

            return doctor
        case "stats":
            from codegen_lsp.cli.stats import stats

            return stats
        case "models":
            from codegen_lsp.cli.models import app as models_app

            return models_app
        case "adapt":
            from codegen_lsp.cli.adapt import adapt

            return adapt
        case "remote":
            from codegen_lsp.cli.remote import app as remote_app

            return remote_app
        case "index":
            from codegen_lsp.cli.index import app as index_app

            return index_app
        case "deploy":
            from codegen_lsp.cli.deploy import app as deploy_app

            return deploy_app
        case "eval":
            from codegen_lsp.cli.eval import app as eval_app

            return eval_app
        case "bench":
            from codegen_lsp.cli.bench import app as bench_app

            return bench_app
    raise KeyError(name)


INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a process that was interrupted, as shells report it."""
_received: list[int] = []
"""SIGTERM or SIGHUP, if they have ended this process."""


class LazyGroup(TyperGroup):
    """A group that imports its commands when they are needed ("Lazily Loading Subcommands", Click's documentation)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        found = load(cmd_name)
        if not isinstance(found, typer.Typer):
            group = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            group.command(cmd_name)(found)
            found = group
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="codegen-lsp",
    cls=LazyGroup,
    help="Inline code completion on your own machine, from CodeGen checkpoints. Nothing leaves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line. Errors that a user can act on are printed without a traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # The user's source is compiled in several threads, and `warnings.catch_warnings` is not thread-safe.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    end_in_order()
    try:
        app()
    except CodegenError as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(_interrupted()) from None
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # Typer's, of KeyboardInterrupt
            raise SystemExit(_interrupted()) from None
        raise
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


def _interrupted() -> int:
    """End what is left after an interruption; return the exit status.

    A process that was being started at that moment is nobody's yet. Those with a session of their own are workers,
    which end without clients and may have others.
    """
    import psutil

    for child in psutil.Process().children(recursive=True) if os.name == "posix" else ():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(0):
                child.kill()
    return 128 + _received[0] if _received else INTERRUPTED


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end this process as SIGINT does: child processes are ended, temporary files removed.

    Servers set handlers of their own.
    """
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:  # not of `nohup`
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # another one would interrupt the cleaning
    _received.append(number)
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt):  # ignored, as by jobs in the background of a script
        raise KeyboardInterrupt
    interrupt(signal.SIGINT, frame)  # an event loop's cancels the main task alone, so that it can end in order


def fail(error: CodegenError) -> None:
    """Print the message and advice of an error, and exit with status 1."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]Error:[/bold red] {escape(error.message)}", soft_wrap=True)
    if error.advice:
        console.print(f"[bold]What to do:[/bold] {escape(error.advice)}", soft_wrap=True)
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
