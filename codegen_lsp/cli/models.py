"""`codegen-lsp models …`: what is installed, what can be pulled, and how that goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cattrs
import typer
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import Checkpoint, checkpoints, resolve
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.build import Verification
from codegen_lsp.progress import ProgressReport


@frozen
class Row:
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
    path: str | None = None
    needs_consent: bool = False
    """Whether pulling it takes consent to its licence."""


def rows(*, installed_only: bool) -> list[Row]:
    """Installed models, then the catalogue's others."""
    entries = {entry.name: entry for entry in checkpoints()}
    builds = store.installed()
    found = [_installed_row(build, entries.get(build.name)) for build in builds]
    if installed_only:
        return found
    there = {build.name for build in builds}
    return found + [_catalogue_row(entry) for entry in entries.values() if entry.name not in there]


def listing(*, installed_only: bool) -> list[dict[str, Any]]:
    """The list for a program."""
    return [cattrs.unstructure(row) for row in rows(installed_only=installed_only)]


def print_listing(console: Console, *, installed_only: bool) -> None:
    """The list for a person."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "", "size", "memory", "trained on", "licence"):
        table.add_column(column, justify="right" if column in ("size", "memory") else "left", no_wrap=True)
    for row in rows(installed_only=installed_only):
        table.add_row(
            row.name,
            f"[green]{row.state}[/green]" if row.state else "",
            _megabytes(row.size_mb),
            _megabytes(row.memory_mb) if row.memory_mb else "",
            _languages(row.languages),
            row.license,
            style="" if row.state else "dim",
        )
    console.print(table, highlight=False)
    if not installed_only:
        console.print(
            "\n[dim]Size: of the build, or of the download. Memory: to run it as int8. "
            "Install one with[/dim] codegen-lsp models pull NAME",
            highlight=False,
        )


def pull(name: str, *, accepted: bool, progress: ProgressReport) -> InstalledBuild:
    """Fetch and install a checkpoint. Raises DownloadError, ConversionError and ModelError."""
    from codegen_lsp.checkpoints.pull import pull as fetch

    return fetch(name, progress=progress, accept_license=accepted)


def pull_for_a_program(name: str, *, accepted: bool) -> int:
    """`pull` as lines of JSON: `message` and `fraction` (0 to 1) as it goes on, then `name` and `path`, or `error` and
    `advice`. Returns the exit code."""

    def line(**values: object) -> None:
        typer.echo(json.dumps(values))

    try:
        build = pull(
            name, accepted=accepted, progress=lambda message, fraction: line(message=message, fraction=fraction)
        )
    except CodegenError as error:
        line(error=error.message, advice=error.advice)
        return 1
    line(name=build.name, path=str(build.path))
    return 0


def consent(console: Console, name: str) -> bool:
    """Ask for consent to the licence of a checkpoint that needs it; True when it needs none."""
    entry = resolve(name)
    if not entry.needs_consent:
        return True
    console.print(
        f"[bold]{entry.name}[/bold] is licensed as [bold]{entry.license}[/bold]. "
        f"Its terms: https://huggingface.co/{entry.repository}",
        highlight=False,
    )
    return console.is_terminal and typer.confirm("Do you agree to them?", default=False)


def convert(source: Path, name: str | None, *, progress: ProgressReport) -> InstalledBuild:
    """Convert a checkpoint's folder and install the build. Raises ConversionError and ModelError."""
    from codegen_lsp.checkpoints.convert import convert_into_store

    return convert_into_store(source, name=name, progress=progress)


def verify(name: str, against: Path | None, *, progress: ProgressReport) -> Verification:
    """Check a build on its own, or against a checkpoint's folder. Raises ConversionError and ModelError."""
    from codegen_lsp.checkpoints.verify import check_build, verify_build

    path = store.find(name).path
    if against is None:
        return check_build(path, progress=progress)
    return verify_build(path, against, progress=progress)


def print_verification(console: Console, name: str, figures: Verification) -> None:
    """What was compared, and how it came out."""
    console.print(
        f"[green]{name} is sound.[/green] Over {figures.tokens} tokens of source code, the build and the float model "
        f"agree on the next token in {figures.agreement:.1%};\n"
        f"loss {figures.build_loss:.3f} (build), {figures.float_loss:.3f} (float) nats per token.",
        highlight=False,
        soft_wrap=True,
    )


def print_installed(console: Console, build: InstalledBuild) -> None:
    """Where a new build is, and how to use it."""
    console.print(f"[green]{build.name}[/green] is installed in {build.path}", highlight=False, soft_wrap=True)
    if build.info.verification is not None:
        print_verification(console, build.name, build.info.verification)
    console.print(
        f'Use it: set "codegen-lsp.model" to "{build.name}" in your editor, or --model {build.name} here.',
        highlight=False,
    )


def _installed_row(build: InstalledBuild, entry: Checkpoint | None) -> Row:
    return Row(
        name=build.name,
        state="embedded" if build.bundled else "installed",
        size_mb=round(build.info.bytes / 1e6),
        memory_mb=entry.memory_mb if entry else None,
        license=build.info.license,
        languages=list(build.info.languages),
        path=str(build.path),
    )


def _catalogue_row(entry: Checkpoint) -> Row:
    return Row(
        name=entry.name,
        state="",
        size_mb=entry.download_mb,
        memory_mb=entry.memory_mb,
        license=entry.license,
        languages=list(entry.languages),
        needs_consent=entry.needs_consent,
    )


def _languages(languages: list[str]) -> str:
    if not languages:
        return "text"
    return languages[0].capitalize() if len(languages) == 1 else f"{len(languages)} languages"


def _megabytes(value: int) -> str:
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value} MB"
