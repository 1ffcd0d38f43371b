"""Command line of the training: `python -m codegen_lsp.training`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from codegen_lsp import extras
from codegen_lsp.errors import CodegenError


def main(arguments: list[str] | None = None) -> int:
    """Run the stages and return the exit status."""
    try:
        extras.require("train", "python -m codegen_lsp.training")
    except CodegenError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    import torch

    from codegen_lsp.training import pipeline

    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training", description=pipeline.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="training time; the schedule is fitted to it")
    budget.add_argument("--steps", type=int, help="training steps, instead of minutes")
    parser.add_argument("--decay-minutes", type=float, help="length of the learning rate's decay (default: 40 %%)")
    parser.add_argument("--preset", choices=pipeline.PRESETS, default="small")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="passes at once on a CPU")
    parser.add_argument("--wheels", type=Path, help="folder for downloaded packages (default: OUT/wheels)")
    parser.add_argument("--packages", type=Path, help="another list of name==version lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="codegen-lsp-python", help="the build's name")
    parser.add_argument("--data", type=Path, help="folder with HumanEval's files, to evaluate on them, too")
    parser.add_argument("--until", choices=pipeline.STAGES, default=pipeline.STAGES[-1], help="last stage to run")
    options = parser.parse_args(arguments)
    job = pipeline.Job(
        folder=options.out,
        preset=pipeline.PRESETS[options.preset],
        minutes=options.minutes,
        steps=options.steps,
        decay=options.decay_minutes / options.minutes if options.decay_minutes and options.minutes else None,
        device=options.device,
        threads=options.threads,
        wheels=options.wheels,
        listing=options.packages,
        seed=options.seed,
        name=options.name,
        data=options.data,
    )
    interrupted: list[int] = []
    former = {
        number: signal.signal(number, lambda got, _: _interrupt(interrupted, got))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        done = pipeline.run(job, _say, options.until, lambda: bool(interrupted))
    except CodegenError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    return 0 if done else 128 + interrupted[0]


def _interrupt(interrupted: list[int], number: int) -> None:
    """Request a stop after the current step; a second signal stops at once."""
    if interrupted:
        raise KeyboardInterrupt
    interrupted.append(number)
    _say("stopping after this step; again to stop at once")


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
