"""`codegen-lsp synth`: write a program in several turns, in the terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from codegen_lsp.cli.options import Device, Engine, Model, Threads


def synth(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Session to go on with, or to begin; a Python file.", show_default=False),
    ] = None,
    tutor: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Learn: you write, step by step, the problems of a file or folder.",
            show_default=False,
        ),
    ] = None,
    problem: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --tutor, begin with this problem.", show_default=False)
    ] = None,
    candidates: Annotated[int, typer.Option(metavar="N", min=1, max=16, help="Candidates for each turn.")] = 4,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.05, max=2.0, help="Of all but the first.")] = 0.6,
    max_tokens: Annotated[int, typer.Option(metavar="N", min=8, max=1024, help="Limit of tokens for a turn.")] = 256,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="Time that a program may run.")] = 10.0,
    limits_only: Annotated[
        bool,
        typer.Option("--limits-only", help="Run programs without namespaces: they can reach files and network."),
    ] = False,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
) -> None:
    """Write a program in several turns: say a step, see what it does, correct it, go on."""
    from attrs import evolve
    from rich.console import Console

    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli.session import open_session
    from codegen_lsp.cli.synth_screen import SynthScreen
    from codegen_lsp.cli.tutor_screen import TutorScreen
    from codegen_lsp.settings import Settings
    from codegen_lsp.synthesis.running import LIMITS, TurnRunner
    from codegen_lsp.synthesis.session import SynthesisSession
    from codegen_lsp.synthesis.synthesizer import Synthesizer, WritingOptions

    settings = Settings(model=model, device=device, threads=threads, engine=engine)
    runner = TurnRunner(evolve(LIMITS, seconds=seconds), "limits" if limits_only else "namespaces")
    options = WritingOptions(candidates=candidates, temperature=temperature, max_tokens=max_tokens)

    async def run() -> None:
        async with open_session(find(model), settings) as opened:
            synthesizer = Synthesizer(opened.client, runner, options)
            if tutor is not None:
                await TutorScreen(Console(highlight=False), synthesizer, tutor).run(problem)
                return
            screen = SynthScreen(Console(highlight=False), SynthesisSession(synthesizer, file), opened.model.name)
            await screen.run()

    asyncio.run(run())
