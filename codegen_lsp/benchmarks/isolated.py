"""Run a benchmark in a process of its own.

The engines must not share a process with the command line, and need the environment of a worker, in which threads and
memory allocation are tuned. The figures come back as plain values.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil

from codegen_lsp.errors import ModelError
from codegen_lsp.evaluation.lines import LineStart, Packages
from codegen_lsp.inference.client.launch import environment_without_secrets, worker_environment
from codegen_lsp.inference.engines.factory import default_threads
from codegen_lsp.temporary_folder import TemporaryFolder

PlainFigures = dict[str, Any]
"""The figures of a benchmark as JSON has them."""


def time_engines(shape: str, context: int, threads: int, *, peers: bool, group: int = 0) -> PlainFigures:
    """Return a `benchmarks.engines.EngineBenchmark`, with 4-bit weights in these groups as well, unless `group` is 0.

    Raises: ModelError.
    """
    arguments = (shape, str(context), _threads(threads), "--group", str(group))
    # Each engine has a process of its own, and only this project's engines the environment of a worker.
    return _run("engines", *arguments, *(["--peers"] if peers else []), environment=environment_without_secrets())


def time_drafts(
    build: Path, starts: Sequence[LineStart], packages: Packages, tokens: int, threads: int, ngrams: str
) -> PlainFigures:
    """Return a `benchmarks.drafts.DraftBenchmark`; `packages` are the workspaces. Raises: ModelError."""
    named = {start.package for start in starts}
    used = {name: texts for name, texts in packages.items() if name in named}
    standard_input = json.dumps({"starts": [attrs.astuple(start) for start in starts], "packages": used})
    return _run("drafts", str(build), str(tokens), _threads(threads), ngrams, standard_input=standard_input)


def time_cancellations(shape: str, context: int, threads: int, rounds: int) -> PlainFigures:
    """Return a `benchmarks.cancel.CancellationBenchmark`. Raises: ModelError."""
    return _run("cancel", shape, str(context), _threads(threads), str(rounds))


def time_batching(shape: str, context: int, threads: int, rounds: int) -> PlainFigures:
    """Return a `benchmarks.batching.BatchingBenchmark`. Raises: ModelError."""
    return _run("batching", shape, str(context), _threads(threads), str(rounds))


def _threads(threads: int) -> str:
    return str(threads or default_threads())


def _run(
    module: str, *arguments: str, standard_input: str = "", environment: dict[str, str] | None = None
) -> PlainFigures:
    """Run a module of `benchmarks`, which prints its figures, or message and advice as the last line of stderr.

    It has the environment of a worker unless another is given. Its temporary files, a model's weights among them, are
    in a folder of this process, which removes them however the other one ends.
    """
    with TemporaryFolder() as folder:
        process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-m", f"codegen_lsp.benchmarks.{module}", *arguments],
            env=(environment or worker_environment()) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with _ended_with_its_children(process):
            output, errors = process.communicate(standard_input)
    if process.returncode == 0:
        figures: PlainFigures = json.loads(output)
        return figures
    last = errors.strip().splitlines()[-1:] or ["it gave no reason"]
    try:
        message, advice = json.loads(last[0])
    except ValueError:
        raise ModelError(f"The benchmark ended: {last[0]}.", "Free some memory, or choose a smaller shape.") from None
    raise ModelError(message, advice)


@contextlib.contextmanager
def _ended_with_its_children(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process and those that it started when the block is interrupted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()
        raise
