"""Offer to install the extra that a command lacks: asked first on a terminal, without being asked with `--install`."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from codegen_lsp import extras
from codegen_lsp.errors import MissingExtraError
from codegen_lsp.progress import ProgressReport

Install = Annotated[
    bool, typer.Option("--install", help="Install the packages that this command lacks, without asking.")
]

STEPS = re.compile(r"(Collecting|Downloading|Using cached|Building|Preparing|Installing|Successfully)\b")
"""Beginnings of the lines of pip that say what it is doing."""


def ensure(extra: str, needed_by: str, *, install: bool) -> None:
    """Return when an extra is installed: now, if `install` is set or the user agrees on the terminal.

    Raises: MissingExtraError when it is not installed and was not agreed to, InstallationError.
    """
    try:
        extras.require(extra, needed_by)
    except MissingExtraError as error:
        if not install and not _agreed(error):
            raise _advised(error) from None
        extras.install(extra, cpu_only=not _has_cuda())


def ensure_for_program(extra: str, needed_by: str, *, install: bool, report: ProgressReport) -> None:
    """As `ensure`, for a program: nothing is asked, and the installation's steps are reported. Raises the same."""
    try:
        extras.require(extra, needed_by)
    except MissingExtraError as error:
        if not install:
            raise _advised(error) from None
        extras.install(
            extra,
            cpu_only=not _has_cuda(),
            on_line=lambda line: report(line, 0.0) if STEPS.match(line) else None,
        )


def _advised(error: MissingExtraError) -> MissingExtraError:
    """Return the error with the option in its advice."""
    error.advice = f"Run the same command with --install, or: {error.advice}"
    return error


def _agreed(error: MissingExtraError) -> bool:
    """Ask whether to install an extra, on a terminal; False elsewhere."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    console = Console(stderr=True, highlight=False)
    console.print(escape(error.message), soft_wrap=True)
    return typer.confirm(f"Install it into {sys.prefix} now?", default=False, err=True)


def _has_cuda() -> bool:
    """Return whether there is a CUDA device."""
    from codegen_lsp.inference.engines.factory import cuda_devices

    return cuda_devices() > 0
