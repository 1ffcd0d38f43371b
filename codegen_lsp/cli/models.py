"""`codegen-lsp models …`: install, list, check and remove models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import cattrs
import typer
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import Checkpoint, checkpoints
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.models_export import export
from codegen_lsp.cli.models_printing import megabytes, print_installed, print_verification
from codegen_lsp.cli.models_pull import pull
from codegen_lsp.cli.models_quantize import Bits, BitsOption, Group, GroupOption, chosen_group, quantize
from codegen_lsp.cli.models_tune import tune
from codegen_lsp.cli.options import AsJson
from codegen_lsp.inference.build import MIXING

app = typer.Typer(help="Install, list, check and remove models.", no_args_is_help=True, add_completion=False)


app.command("tune")(tune)
app.command("export")(export)
app.command("pull")(pull)
app.command("quantize")(quantize)


@app.command("list")
def list_models(
    installed: Annotated[bool, typer.Option("--installed", help="List only installed models.")] = False,
    as_json: AsJson = False,
) -> None:
    """List installed models and checkpoints that can be pulled."""
    if as_json:
        typer.echo(json.dumps(_listing(installed_only=installed), indent=2))
    else:
        _print_listing(Console(), installed_only=installed)


@app.command("convert")
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|FILE", help="Folder of a checkpoint in Hugging Face format, or a .gguf file."),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; the folder's or file's by default.")
    ] = None,
    bits: BitsOption = Bits.eight,
    group: GroupOption = Group.small,
    install: Install = False,
) -> None:
    """Convert a checkpoint's folder, or a GGUF file, to a build in int8 or 4 bits, verify it, and install it."""
    ensure(_extra_to_read(source), "models convert", install=install)
    from codegen_lsp.checkpoints.convert import convert_into_store
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        build = convert_into_store(source, name=name, group=chosen_group(bits, group), progress=report)
    print_installed(Console(), build)


@app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or the folder of a build.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|FILE", help="Compare with the weights of this checkpoint, or .gguf file."),
    ] = None,
    install: Install = False,
) -> None:
    """Check a build's files, and its answers against the checkpoint's."""
    ensure(_extra_to_read(against), "models verify", install=install)
    from codegen_lsp.checkpoints.verify import check_build, verify_build
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        found = store.find(name)
        figures = (
            check_build(found.path, progress=report)
            if against is None
            else verify_build(found.path, against, progress=report)
        )
    print_verification(Console(), name, found.info, figures)


def _extra_to_read(source: Path | None) -> str:
    """Return the extra with which a source of weights can be read: a file is in GGUF."""
    return "export" if source is not None and source.is_file() else "convert"


@app.command("path")
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model, or auto.")] = "auto",
) -> None:
    """Print the folder of a model."""
    typer.echo(str(store.find(name).path))


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model.")]) -> None:
    """Delete a model from the store, with all that was kept for it."""
    from codegen_lsp.lsp.workspace_models import forget

    removed = store.remove(name)
    typer.echo(f"Removed {removed}")
    if folders := [answer.folder for answer in forget(removed.name) if answer.use]:
        typer.echo(f"Editors use the model of your settings again in {', '.join(folders)}")


@frozen
class ModelRow:
    """One model of the list."""

    name: str
    state: str
    """`embedded`, `installed`, or empty when it would have to be pulled."""
    size_mb: int
    """Of the build on disk, or of the download; in MB (10**6 bytes)."""
    memory_mb: int | None
    """Memory to run it, in MiB; None when the catalogue does not know the model."""
    license: str
    languages: list[str]
    good_for: str = ""
    """In a few words; empty when the catalogue does not know the model."""
    path: str | None = None
    tuned: bool = False
    """It has weights of the n-grams that were fitted with `models tune`."""
    bits: int = 8
    """Bits of a weight."""
    loss_increase: float | None = None
    """Relative increase of the loss of a 4-bit build over int8; None where it was not measured."""
    needs_consent: bool = False
    """Pulling it requires consent to its licence."""


def _rows(*, installed_only: bool) -> list[ModelRow]:
    """Return the installed models, then the other checkpoints of the catalogue."""
    entries = {entry.name: entry for entry in checkpoints()}
    builds = store.installed()
    found = [_installed_row(build, entries.get(_entry_name(build))) for build in builds]
    if installed_only:
        return found
    there = {build.name for build in builds}
    return found + [_catalogue_row(entry) for entry in entries.values() if entry.name not in there]


def _listing(*, installed_only: bool) -> list[dict[str, Any]]:
    """Return the list as plain values."""
    return [cattrs.unstructure(row) for row in _rows(installed_only=installed_only)]


def _print_listing(console: Console, *, installed_only: bool) -> None:
    """Print the list as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "", "size", "memory", "licence", "good for"):
        justify: Any = "right" if column in ("size", "memory") else "left"
        table.add_column(column, justify=justify, no_wrap=column != "good for")
    for row in _rows(installed_only=installed_only):
        table.add_row(
            row.name,
            f"[green]{row.state}{', tuned' if row.tuned else ''}{_cost(row)}[/green]" if row.state else _asks(row),
            megabytes(row.size_mb),
            megabytes(row.memory_mb) if row.memory_mb else "",
            row.license,
            row.good_for or _languages(row.languages),
            style="" if row.state else "dim",
        )
    console.print(table, highlight=False)
    if not installed_only:
        console.print(
            "\n[dim]Size: of the build, or of the download. Memory: to run it, as int8 unless 4 bits are named. "
            "Install one with[/dim] codegen-lsp models pull NAME[dim], or another of these kinds by its repository, "
            "ORG/NAME.[/dim]",
            highlight=False,
        )


def _installed_row(build: InstalledBuild, entry: Checkpoint | None) -> ModelRow:
    return ModelRow(
        name=build.name,
        state="embedded" if build.bundled else "installed",
        size_mb=round(build.info.bytes / 1e6),
        memory_mb=_memory_mb(build, entry) if entry else None,
        license=build.info.license,
        languages=list(build.info.languages),
        good_for=entry.good_for if entry else "",
        path=str(build.path),
        tuned=(build.path / MIXING).is_file(),
        bits=build.info.bits,
        loss_increase=found.increase if (found := build.info.int8_comparison) else None,
    )


def _catalogue_row(entry: Checkpoint) -> ModelRow:
    return ModelRow(
        name=entry.name,
        state="",
        size_mb=entry.download_mb,
        memory_mb=entry.memory_mb,
        license=entry.license,
        languages=list(entry.languages),
        good_for=entry.good_for,
        needs_consent=entry.needs_consent,
    )


def _entry_name(build: InstalledBuild) -> str:
    """Return the name under which the catalogue may have the checkpoint of a build."""
    return build.name if build.info.bits == 8 else store.int8_name(build.name)


def _memory_mb(build: InstalledBuild, entry: Checkpoint) -> int:
    """Return the memory to run a build, in MiB."""
    weights = build.info.weights
    if weights is None or weights.group is None:
        return entry.memory_mb
    return round(entry.architecture.four_bit_memory_bytes(weights.group) / 2**20)


def _cost(row: ModelRow) -> str:
    """Return the bits of a 4-bit build, and what they cost."""
    if row.bits == 8:
        return ""
    cost = "" if row.loss_increase is None else f", loss {row.loss_increase:+.1%}"
    return f", {row.bits} bits{cost}"


def _asks(row: ModelRow) -> str:
    return "asks first" if row.needs_consent else ""


def _languages(languages: list[str]) -> str:
    if not languages:
        return "text"
    return languages[0].capitalize() if len(languages) == 1 else f"{len(languages)} languages"
