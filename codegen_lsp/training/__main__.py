"""`python -m codegen_lsp.training`: the model from scratch, in one command."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from codegen_lsp.errors import CodegenError
from codegen_lsp.training import pipeline


def main(arguments: list[str] | None = None) -> int:
    """Run the stages; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training", description=pipeline.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="training time; the schedule is fitted to it")
    budget.add_argument("--steps", type=int, help="training steps, instead of minutes")
    parser.add_argument("--preset", choices=pipeline.PRESETS, default="small")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument("--wheels", type=Path, help="folder for downloaded packages (default: OUT/wheels)")
    parser.add_argument("--packages", type=Path, help="another list of name==version lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="codegen-lsp-small", help="the build's name")
    parser.add_argument("--until", choices=pipeline.STAGES, default="convert", help="last stage to run")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    job = pipeline.Job(
        folder=options.out,
        preset=pipeline.PRESETS[options.preset],
        minutes=options.minutes,
        steps=options.steps,
        device=options.device,
        wheels=options.wheels,
        listing=options.packages,
        seed=options.seed,
        name=options.name,
    )
    try:
        pipeline.run(job, _say, options.until)
    except CodegenError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
