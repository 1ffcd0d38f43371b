"""`codegen-lsp models quantize`: make a build with 4-bit weights, and the options of commands that can make one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from codegen_lsp.cli.models_printing import print_installed


class Bits(StrEnum):
    """Bits of a weight."""

    eight = "8"
    four = "4"


class Group(StrEnum):
    """Weights that share a scale."""

    small = "32"
    large = "64"


BitsOption = Annotated[
    Bits, typer.Option("--bits", help="4 halves memory and time of a token, and costs quality; for large models.")
]
GroupOption = Annotated[
    Group, typer.Option("--group", help="With 4 bits, weights that share a scale: 32 is better, 64 a little smaller.")
]


def chosen_group(bits: Bits, group: Group) -> int | None:
    """Return the number of weights that share a scale; None for int8."""
    return int(group.value) if bits is Bits.four else None


def quantize(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed int8 model, or the folder of a build.")],
    group: GroupOption = Group.small,
    new_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the new model; NAME-4bit by default.")
    ] = None,
) -> None:
    """Make a build with 4-bit weights from an int8 build, state what that costs, and install it beside it."""
    from codegen_lsp.checkpoints.quantize import quantize_installed
    from codegen_lsp.cli.progress_bar import progress_bar

    with progress_bar() as report:
        build = quantize_installed(name, group=int(group.value), new_name=new_name, progress=report)
    print_installed(Console(), build)
