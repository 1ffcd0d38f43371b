"""`codegen-lsp models pull`: a checkpoint of the catalogue, or any repository of a supported kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from codegen_lsp.checkpoints.offer import Offer, Wanted, want
from codegen_lsp.cli.install import Install, ensure, ensure_for_program
from codegen_lsp.cli.models_printing import megabytes, print_installed
from codegen_lsp.cli.models_quantize import Bits, BitsOption, Group, GroupOption, chosen_group
from codegen_lsp.cli.options import AsJson
from codegen_lsp.errors import CodegenError, MissingExtraError

COMMIT_SHOWN = 12
"""Digits of a commit in a message."""


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|ORG/NAME",
            help="A checkpoint of `models list`, such as codegen-350M-mono, or any repository of the Hugging Face Hub.",
        ),
    ],
    revision: Annotated[
        str, typer.Option(metavar="REVISION", help="Branch, tag or commit of the repository; the newest by default.")
    ] = "",
    file: Annotated[
        str, typer.Option(metavar="NAME", help="GGUF file of the repository, in place of its other weights.")
    ] = "",
    build_name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model; the repository's by default.")
    ] = "",
    yes: Annotated[
        bool, typer.Option("--accept-license", help="Agree to the model's licence without being asked.")
    ] = False,
    bits: BitsOption = Bits.eight,
    group: GroupOption = Group.small,
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Download a model, convert it to int8 or 4 bits, verify it, and install it."""
    from codegen_lsp.checkpoints import pull as pulling
    from codegen_lsp.cli.progress_bar import progress_bar

    def wanted_model() -> Wanted:
        groups_of = chosen_group(bits, group)
        return want(name, build_name=build_name, revision=revision, file=file, group=groups_of)

    if as_json:
        raise SystemExit(_as_json(wanted_model, accepted=yes, install=install))
    console = Console()
    wanted = wanted_model()
    accepted = yes or _agreed_to_entry(console, wanted)
    pulling.check(wanted, accepted)
    ensure("convert", "models pull", install=install)
    offer = pulling.find_offer(wanted, require=lambda extra: ensure(extra, "models pull", install=install))
    if wanted.entry is None:
        _print_offer(console, offer)
        accepted = accepted or not offer.license.needs_consent or _agreed(console, offer)
    with progress_bar() as report:
        build = pulling.install(offer, progress=report, accept_license=accepted)
    print_installed(console, build)


def _as_json(wanted_model: Callable[[], Wanted], *, accepted: bool, install: bool) -> int:
    """Pull a model and print lines of JSON; return the exit code.

    Lines have `message` and `fraction` (0 to 1) while it goes on; the last has `name` and `path`, or `error` and
    `advice`, and `missing_extra` where `--install` would help.
    """
    from codegen_lsp.checkpoints import pull as pulling

    def line(**values: object) -> None:
        typer.echo(json.dumps(values))

    def report(message: str, fraction: float) -> None:
        line(message=message, fraction=fraction)

    def require(extra: str) -> None:
        ensure_for_program(extra, "models pull", install=install, report=report)

    try:
        wanted = pulling.check(wanted_model(), accepted)
        require("convert")
        offer = pulling.find_offer(wanted, progress=report, require=require)
        build = pulling.install(offer, progress=report, accept_license=accepted)
    except MissingExtraError as error:
        line(error=error.message, advice=error.advice, missing_extra=error.extra)
        return 1
    except CodegenError as error:
        line(error=error.message, advice=error.advice)
        return 1
    line(name=build.name, path=str(build.path))
    return 0


def _agreed_to_entry(console: Console, wanted: Wanted) -> bool:
    """Ask for consent to the licence of a checkpoint of the catalogue, where it needs consent.

    Returns whether it may be downloaded. The licence of any other repository is known when its files are listed.
    """
    from codegen_lsp.checkpoints.pull import license_of

    if wanted.entry is None:
        return False
    terms = license_of(wanted.entry)
    return not terms.needs_consent or _asked(console, wanted.title, terms.question)


def _agreed(console: Console, offer: Offer) -> bool:
    """Ask for consent to the licence of a repository; what was fetched is deleted without it."""
    from codegen_lsp.checkpoints.pull import decline

    if _asked(console, offer.repository.name, offer.license.question):
        return True
    decline(offer)
    return False


def _asked(console: Console, title: str, statement: str) -> bool:
    console.print(f"[bold]{escape(title)}[/bold] {escape(statement)}", highlight=False, soft_wrap=True)
    return console.is_terminal and typer.confirm("Do you agree?", default=False)


def _print_offer(console: Console, offer: Offer) -> None:
    """Print what a repository has, before its weights are fetched."""
    shape, selection = offer.architecture, offer.selection
    form = selection.weights[0].local_name if len(selection.weights) == 1 else f"{len(selection.weights)} files"
    download = "of unknown size" if offer.download_bytes is None else megabytes(round(offer.download_bytes / 1e6))
    console.print(
        f"[bold]{escape(offer.repository.name)}[/bold] at {offer.repository.commit[:COMMIT_SHOWN]}, to be installed as "
        f"[bold]{escape(offer.name)}[/bold]\n"
        f"  model     {shape.parameters / 1e9:.2f} billion parameters, {shape.layers} layers, width {shape.width}, "
        f"context of {shape.context:,} tokens\n"
        f"  download  {download} ({escape(form)})\n"
        f"  memory    {megabytes(round(shape.memory_bytes / 2**20))} to run it as int8, "
        f"{megabytes(round(shape.conversion_bytes / 2**20))} to convert it\n"
        f"  licence   {escape(offer.license.name)}",
        highlight=False,
        soft_wrap=True,
    )
    if selection.note:
        console.print(escape(selection.note), highlight=False, soft_wrap=True)
