"""Measure the speed of this machine. Run by `measuring_process`, in a process of its own and with low priority.

Its first line of standard input is a `MeasuringTask` as JSON; the end of the input ends it. It writes lines of JSON:
the progress, then the measurement, or an error with advice.
"""

from __future__ import annotations

import _thread
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cattrs
import psutil
from attrs import frozen

from codegen_lsp.advice.measurement import BuildRecord, MachineMeasurement, MeasurementParams, usable_processors
from codegen_lsp.advice.probes import cache_size, probes
from codegen_lsp.advice.speed import CONTEXT, INT8, TYPED, WANTED, MachineSpeed, ModelSizes, ModelTimes, fit, speed_for
from codegen_lsp.advice.timing import EngineTimer, is_busy
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.store import InstalledBuild, installed
from codegen_lsp.errors import CodegenError, ModelError
from codegen_lsp.inference.build import BuildInfo, WeightFormat, read_info
from codegen_lsp.inference.engines.base import Engine
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.engines.native.weights import read_weights
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.progress import ProgressReport

CONTEXTS = (256, CONTEXT)
"""Lengths of the prompts by which the cost of attention is told from that of the weights. The longer one is that of the
predictions: with a shorter one, they were too small (`docs/lab.md`)."""
ROUNDS, FEWEST_ROUNDS = 4, 2
ROUND_SECONDS = 5.0
"""No further round begins after this time, once there were `FEWEST_ROUNDS`."""
NICENESS = 10
SPARE_MEMORY = 512 << 20
"""Bytes that must stay free while the probes are in memory."""
BUILD_SECONDS = 4.0
"""An installed model is measured itself where that is expected to take no longer."""
BUILD_ROUNDS = 3
FOUR_BITS = WeightFormat(bits=4, group=32)
"""Small models in this format are timed as well where a model in 4 bits is installed."""


@frozen
class MeasuringTask:
    """Input of the process."""

    params: MeasurementParams
    folder: str
    """An empty folder for the probes' weights, which the caller removes."""
    builds: bool = True
    """Measure the installed models, too."""


def measure(task: MeasuringTask, report: ProgressReport) -> MachineMeasurement:
    """Measure this machine. Raises: ModelError when memory or disk space is lacking, or no engine runs."""
    builds = installed() if task.builds else []
    shapes = probes(cache_size())
    formats: list[WeightFormat | None] = [None]
    if any(build.info.bits == FOUR_BITS.bits for build in builds):
        formats.append(FOUR_BITS)
    needed = sum(shape.int8_bytes for shape in shapes.values()) * len(formats) + SPARE_MEMORY
    available = psutil.virtual_memory().available
    if needed > available:
        raise ModelError(
            f"Measuring takes {needed / 2**30:.1f} GiB of memory; {available / 2**30:.1f} are free.",
            "Close other programs.",
        )
    timers, sizes = [], []
    wanted = [
        (f"{name}-{number}", shape, form) for number, form in enumerate(formats) for name, shape in shapes.items()
    ]
    for index, (name, shape, form) in enumerate(wanted):
        report("Making small models", 0.3 * index / len(wanted))
        folder = Path(task.folder) / name
        folder.mkdir()
        try:
            info = write_random_build(folder, name, shape, form)
        except OSError as error:
            raise ModelError(
                f"The models to measure with can't be written: {error}.", "Make room on the disk."
            ) from error
        timers.append(EngineTimer(_open(task.params, folder, info), info.vocabulary_size))
        sizes.append(build_sizes(folder, info))
    began = time.perf_counter()
    for round in range(ROUNDS):
        if round >= FEWEST_ROUNDS and time.perf_counter() - began > ROUND_SECONDS:
            break
        report("Timing small models", 0.3 + 0.4 * round / ROUNDS)
        for timer in timers:
            for context in CONTEXTS:
                timer.run(context)
    engine = timers[0].engine
    busy = engine.device == "cpu" and is_busy(timers)
    passes = [timer.passes(size, processor=busy) for timer, size in zip(timers, sizes, strict=True)]
    speeds = {
        f"{INT8 if form is None else form.bits:g}": fit(
            [one for (_, _, used), own in zip(wanted, passes, strict=True) if used == form for one in own]
        )
        for form in formats
    }
    for timer in timers:
        timer.engine.close()
    return MachineMeasurement(
        key=task.params.key,
        finished=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        engine=engine.name,
        device=engine.device,
        threads=engine.threads,
        speeds=speeds,
        busy=busy,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        processors=usable_processors(),
        device_memory_mb=gpu_memory() if engine.device == "cuda" else None,
        builds=_measure_builds(task.params, builds, speeds, report, processor=busy),
    )


def _open(params: MeasurementParams, folder: Path, info: BuildInfo) -> Engine:
    asked = LoadParams(
        str(folder), params.engine, params.device, params.compute_type, params.threads, cache_memory_mb=None
    )
    return open_engine(asked, folder, info, Tokenizer.from_build(folder, info))


def _measure_builds(
    params: MeasurementParams,
    builds: Sequence[InstalledBuild],
    speeds: Mapping[str, MachineSpeed],
    report: ProgressReport,
    *,
    processor: bool,
) -> dict[str, BuildRecord]:
    """Return a record of each installed model, with measured times where measuring is cheap."""
    found = {}
    for index, build in enumerate(builds):
        report(f"Timing {build.name}", 0.7 + 0.3 * index / len(builds))
        record = BuildRecord(build.info.files["model.bin"].sha256, build_sizes(build.path, build.info))
        expected = speed_for(speeds, record.sizes).times(record.sizes)
        seconds = BUILD_ROUNDS * (expected.prompt + expected.suggestion)
        if seconds <= BUILD_SECONDS and build.info.bytes * 1.5 + SPARE_MEMORY <= psutil.virtual_memory().available:
            with suppress(CodegenError):  # a damaged one; whoever loads it is told
                record = BuildRecord(record.digest, record.sizes, _time_build(params, build, processor=processor))
        found[build.name] = record
    return found


def _time_build(params: MeasurementParams, build: InstalledBuild, *, processor: bool) -> ModelTimes:
    """Return the latencies of an installed model. Raises: ModelError."""
    info = read_info(build.path)
    engine = _open(params, build.path, info)
    context = min(CONTEXT, info.context_length - TYPED - WANTED)
    timer = EngineTimer(engine, info.vocabulary_size)
    try:
        for _ in range(BUILD_ROUNDS):
            timer.run(context)
    finally:
        engine.close()
    return timer.times(context, processor=processor)


def build_sizes(directory: Path, info: BuildInfo) -> ModelSizes:
    """Return the sizes of a build. Where only CTranslate2 reads its weights, its description tells them."""
    try:
        weights = read_weights(directory)
    except ModelError:
        head = info.vocabulary_size * info.width
        rest = max(info.files["model.bin"].bytes - 2 * head, 0)
        return ModelSizes(info.layers, info.width, info.vocabulary_size, rest, head, info.token_values)
    head = weights.padded_vocab_size * weights.width
    return ModelSizes(
        layers=len(weights.layers),
        attention_width=weights.attention_width,
        rows=weights.padded_vocab_size,
        block_weights=weights.step_weights - head,
        head_weights=head,
        token_values=info.token_values,
        bits=8 * weights.step_bytes / weights.step_weights,
    )


def gpu_memory() -> int | None:
    """Return the free memory of the first GPU in MiB, as NVIDIA's tool tells; None where it doesn't."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(output.split()[0])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def main() -> None:
    """Measure, and write progress and result to standard output."""
    task = cattrs.structure(json.loads(sys.stdin.readline()), MeasuringTask)
    # A process that a shell starts in the background ignores this signal, and `interrupt_main` then does nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_input, daemon=True).start()
    _lower_priority()
    try:
        measured = measure(task, lambda message, fraction: _write({"message": message, "fraction": fraction}))
    except CodegenError as error:
        _write({"error": error.message, "advice": error.advice})
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(1)
    _write({"measurement": cattrs.unstructure(measured)})


def _lower_priority() -> None:
    """Let other programs go first, those of the editor among them."""
    process = psutil.Process()
    with suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(max(NICENESS, process.nice()))


def _end_with_input() -> None:
    """Interrupt the main thread at the end of the input: whoever asked is gone."""
    sys.stdin.read()
    _thread.interrupt_main()


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
