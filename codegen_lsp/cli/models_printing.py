"""Print what the commands of `codegen-lsp models` share: a verification, an installed build, sizes."""

from __future__ import annotations

from rich.console import Console

from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.inference.build import BuildInfo, Verification


def print_verification(console: Console, name: str, info: BuildInfo, figures: Verification) -> None:
    """Print the result of a comparison with the float model, and for a 4-bit build with the int8 build."""
    other = "the int8 build" if figures.int8_loss is not None else "the float model"
    int8 = "" if figures.int8_loss is None else f", {figures.int8_loss:.3f} (int8)"
    console.print(
        f"[green]{name} is sound.[/green] Over {figures.tokens} tokens of source code, the build and {other} agree on "
        f"the next token in {figures.agreement:.1%};\n"
        f"loss {figures.build_loss:.3f} (build){int8}, {figures.float_loss:.3f} (float) nats per token.",
        highlight=False,
        soft_wrap=True,
    )
    found = info.int8_comparison
    if found is not None:
        console.print(
            f"Price of 4 bits: loss {found.loss:.3f} nats per token instead of {found.int8_loss:.3f} with int8 over "
            f"{found.tokens} tokens of code, {found.increase:+.1%} ± {found.increase_margin:.1%}.",
            highlight=False,
            soft_wrap=True,
        )


def print_installed(console: Console, build: InstalledBuild) -> None:
    """Print the folder of a new build, and how to use it."""
    console.print(f"[green]{build.name}[/green] is installed in {build.path}", highlight=False, soft_wrap=True)
    if build.info.verification is not None:
        print_verification(console, build.name, build.info, build.info.verification)
    console.print(
        f'Use it: set "codegen-lsp.model" to "{build.name}" in your editor, or --model {build.name} here.',
        highlight=False,
    )


def megabytes(value: int) -> str:
    """Return a number of megabytes for people."""
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value} MB"
