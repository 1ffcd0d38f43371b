"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codegen_lsp.former_settings import current_value
from codegen_lsp.settings import ABLATIONS


def known_parts(names: list[str] | None) -> list[str]:
    """Return the names of parts under their current names. Raises: BadParameter for an unknown one."""
    current = [current_value("ablate", name) for name in names or []]
    if unknown := [name for name in current if name not in ABLATIONS]:
        raise typer.BadParameter(f"there is no part {unknown[0]!r}; the parts are {', '.join(ABLATIONS)}")
    return current


def current_engine(name: str) -> str:
    """Return the current name of an engine."""
    return str(current_value("engine", name))


Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help="Name of an installed model, folder of a build, or auto.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[
    int, typer.Option(metavar="N", min=0, help="Number of threads; 0 uses the physical cores, at most 8.")
]
Engine = Annotated[str, typer.Option("--engine", metavar="NAME", callback=current_engine, help="auto, ct2 or native.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Files of the folder to leave out, as the setting `exclude`."),
]
LanguageIdentifier = Annotated[
    str | None,
    typer.Option("--language", metavar="ID", help="LSP language identifier, if the extension misleads."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the random choice of cases.")]
Ablate = Annotated[
    list[str] | None,
    typer.Option(
        "--ablate",
        "--without",
        metavar="PART",
        callback=known_parts,
        help=f"Turn off a part of the completion: {', '.join(ABLATIONS)}. May be repeated.",
    ),
]

SourcePaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATHS]...", help="Files or folders of source that the model was not trained on."),
]
Corpus = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Without PATHS, use the held-out packages of this corpus of `codegen_lsp.training`."
    ),
]
BenchmarkData = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="The benchmark's file, or the folder it is in.", show_default=False),
]
Problems = Annotated[int, typer.Option("--cases", metavar="N", min=0, help="Number of problems; 0 takes all.")]
Shape = Annotated[str, typer.Option("--shape", metavar="SHAPE", help="As for `bench engine`.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Spread the work over the Ray cluster whose head is at HOST:PORT, over this machine's with auto, or over "
        "one that is started here with local.",
        show_default=False,
    ),
]
