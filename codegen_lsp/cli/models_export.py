"""`codegen-lsp models export`: write a model in the format of another engine."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.console import Console

from codegen_lsp.cli.install import Install, ensure
from codegen_lsp.cli.options import AsJson

if TYPE_CHECKING:
    from codegen_lsp.checkpoints.export.export import Exported


class ExportFormat(StrEnum):
    """Formats of other engines."""

    phi = "phi"
    gguf = "gguf"


def export(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An installed model, or the folder of a checkpoint or a build.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to be made; it must not exist, or be empty.")],
    to: Annotated[
        ExportFormat, typer.Option("--to", help="phi for vLLM and others that read transformers, gguf for llama.cpp.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="f32, f16 or bf16 for phi, f32, f16 or q8_0 for gguf; by default the checkpoint's, or f16.",
        ),
    ] = None,
    rename: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name in the exported files; the model's or folder's by default."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the exported model and compare it with its source.")
    ] = True,
    install: Install = False,
    as_json: AsJson = False,
) -> None:
    """Write a model in the format of other engines: vLLM, Ray Serve LLM, llama.cpp, Ollama.

    CodeGen's block is Phi's with reordered rows, so the exported model computes the same; CodeGen2.5 is a Llama.
    """
    ensure("export", "models export", install=install)
    from codegen_lsp.checkpoints.export.export import export_model
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        done = export_model(name, to.value, folder, weights=weights, name=rename, verify=verify, progress=report)
    if as_json:
        typer.echo(json.dumps(attrs.asdict(done) | {"path": str(done.path)}))
    else:
        _print(Console(), done)


def _print(console: Console, done: Exported) -> None:
    """Print where the model is, what was compared, and the warnings."""
    console.print(
        f"Exported to {done.path} ({done.weights}, {done.bytes / 1e6:.0f} MB)", highlight=False, soft_wrap=True
    )
    for warning in done.warnings:
        console.print(f"[yellow]Note:[/yellow] {warning}", highlight=False, soft_wrap=True)
    check = done.check
    if check is None:
        console.print("It was not compared with its source.", highlight=False)
        return
    same = "the same token ids" if not check.cut_otherwise else f"{check.cut_otherwise} of {check.cut_tokens} tokens"
    cut = same if not check.cut_otherwise else f"other ids for {same}"
    console.print(
        f"[green]Compared in {check.engine}[/green]: logits off by {check.error:.1e} of their spread over "
        f"{check.tokens} tokens, the same most likely token at {check.agreement:.1%}; {cut} on the sample texts.",
        highlight=False,
        soft_wrap=True,
    )
