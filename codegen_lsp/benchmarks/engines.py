"""Speed of the engines on one build, in one run: the latencies that a user sees while typing.

The scenario: a context is cached, four tokens are typed, sixteen are wanted. `ct2_static` is the best use of
CTranslate2, with a cached prefix that ends where the typing begins; `ct2` computes the whole prompt each time. Other
programs that run such models can be timed as well. Each has a process of its own (`peers.py`), so that the spinning
threads and the memory of one don't disturb another. Rounds go through all of them in turn, so that other load on the
machine affects all alike; the figures are medians.

The floor is the least time of a decode step on this machine: it reads every weight except the embedding, and the keys
and values of the context, at the measured memory bandwidth. The bandwidth of shared machines varies, so it is measured
in each round.

Run it in a process of its own (`python -m codegen_lsp.benchmarks.engines`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen

from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.catalogue import checkpoints
from codegen_lsp.errors import CodegenError, ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo, WeightFormat, read_info
from codegen_lsp.inference.client.launch import environment_without_secrets, worker_environment
from codegen_lsp.inference.engines.native.weights import read_weights
from codegen_lsp.temporary_folder import TemporaryFolder

OURS = ("native", "ct2", "ct2_static")
OTHERS = ("llama.cpp", "transformers", "transformers_bfloat16")
INT4, INT4_OTHERS = "native_int4", ("llama.cpp_q4",)
"""Further peers where 4-bit weights are asked for. Only `INT4` has a build of its own."""
TYPED, WANTED = 4, 16
ROUNDS, COLD_ROUNDS = 7, 3
SLOW_ROUNDS = 1
"""Rounds of the peers that compute a whole prompt in float each time, which is slow."""
SETTLE_SECONDS = 0.3
"""Pause before each measurement, since the threads of the one before spin for up to 0.2 s."""
READ_BYTES = 2**29
"""Bytes that are read to measure the memory bandwidth: more than the cache of any processor."""
READ_TIMES = 4


@frozen
class Timings:
    """Medians in milliseconds."""

    cold_prefill_ms: float
    """From a context of which nothing is cached to its first token."""
    first_token_ms: float
    """After `TYPED` tokens."""
    suggestion_ms: float
    """`WANTED` tokens after `TYPED`."""
    decode_step_ms: float
    """Each token of a suggestion except the first."""


@frozen
class Floor:
    """The bound that memory bandwidth sets."""

    bandwidth_gb_s: float
    decode_step_ms: float


@frozen
class EngineBenchmark:
    """The figures of one run."""

    build: str
    context: int
    threads: int
    floor: Floor
    engines: dict[str, Timings]
    memory_mb: dict[str, float]
    """Memory of each process after the run, libraries included; shared pages count in part."""
    note: str = ""
    """Why engines were left out; empty if none were."""
    int4_floor: Floor | None = None
    """With 4-bit weights; None unless they were asked for."""


@frozen
class Samples:
    """The measurements of one peer, in seconds."""

    cold: list[float] = field(factory=list)
    first: list[float] = field(factory=list)
    whole: list[float] = field(factory=list)


@frozen
class PeerProcess:
    """A peer in its process."""

    name: str
    process: subprocess.Popen[str]
    samples: Samples = field(factory=Samples)

    def ask(self, *command: object) -> Any:
        """Send a command and return its answer. Raises: ModelError when the process has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self.ended() from None
        return self.answer()

    def answer(self) -> Any:
        """Return the next answer. Raises: ModelError when the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self.ended()
        return json.loads(line)

    def ended(self) -> ModelError:
        """Return the reason why the process has ended."""
        assert self.process.stderr is not None
        last = self.process.stderr.read().strip().splitlines()[-1:] or ["no reason given"]
        try:
            message, advice = json.loads(last[0])
        except ValueError:
            return ModelError(
                f"{self.name} ended: {last[0]}.", "Free some memory, choose a smaller shape, or leave it out."
            )
        return ModelError(message, advice)


def measure(
    build: Path, context: int, threads: int, names: Sequence[str] = OURS, int4: Path | None = None
) -> EngineBenchmark:
    """Time peers on a build, and `INT4` on `int4`, a build of the same shape with 4-bit weights.

    Raises: ModelError when one can't run it, or the build's context is too short.
    """
    info = read_info(build)
    if context + TYPED + WANTED > info.context_length:
        raise ModelError(
            f"{info.name} has a context of {info.context_length} tokens.",
            f"Ask for at most {info.context_length - TYPED - WANTED}.",
        )
    draw = random.Random(0)  # noqa: S311 - any ids will do

    def ids(count: int) -> list[int]:
        return [draw.randrange(1, info.vocabulary_size) for _ in range(count)]

    text = ids(context)
    names, note = runnable(build, names)
    with contextlib.ExitStack() as stack:
        peers = [
            stack.enter_context(started(name, int4 if name == INT4 and int4 is not None else build, threads))
            for name in names
        ]
        for peer in peers:
            peer.ask("run", ids(context), 1)
        for round in range(COLD_ROUNDS):
            for peer in peers:
                if round < rounds_of(peer.name, COLD_ROUNDS):
                    time.sleep(SETTLE_SECONDS)
                    peer.samples.cold.append(peer.ask("run", ids(context), 1)[0])
        for peer in peers:
            peer.ask("prepare", text)
            peer.ask("run", text + ids(TYPED), WANTED)
        rates = []
        for round in range(ROUNDS):
            time.sleep(SETTLE_SECONDS)
            rates.append(bandwidth(threads))
            for peer in peers:
                if round < rounds_of(peer.name, ROUNDS):
                    time.sleep(SETTLE_SECONDS)
                    first, whole = peer.ask("run", text + ids(TYPED), WANTED)
                    peer.samples.first.append(first)
                    peer.samples.whole.append(whole)
        timings = {peer.name: timings_of(peer.samples) for peer in peers}
        memory = {peer.name: peer.ask("memory") / 2**20 for peer in peers}
    rate = statistics.median(rates)
    lowest = floor(build, info, context, rate)
    int4_floor = None if int4 is None else floor(int4, info, context, rate)
    return EngineBenchmark(info.name, context, threads, lowest, timings, memory, note, int4_floor)


def runnable(build: Path, names: Sequence[str]) -> tuple[list[str], str]:
    """Return the peers that can run a build, and why the others can't. All but CTranslate2 read it as the native engine
    does."""
    try:
        read_weights(build)
    except OtherEngineError as error:
        return [name for name in names if name.startswith("ct2")], error.message
    if read_info(build).bits != 8:
        return [name for name in names if not name.startswith("ct2")], "CTranslate2 can't run 4-bit weights."
    return list(names), ""


def rounds_of(name: str, rounds: int) -> int:
    """Return the number of rounds in which a peer takes part."""
    return min(rounds, SLOW_ROUNDS) if name.startswith("transformers") else rounds


def environment_of(name: str) -> dict[str, str]:
    """Return the environment of a peer's process: a worker's for the engines of this project, else as it is.

    A worker's threads sleep while they wait, which is best beside other programs; on an idle machine it made llama.cpp
    1.1 to 1.2 times slower (`docs/lab.md`).
    """
    return environment_without_secrets() if name in (*OTHERS, *INT4_OTHERS) else worker_environment()


@contextlib.contextmanager
def started(name: str, build: Path, threads: int) -> Iterator[PeerProcess]:
    """Start a peer's process, which ends with the block. Raises: ModelError when it can't run."""
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8", "-m", "codegen_lsp.benchmarks.peers", name, str(build), str(threads)],
        env=environment_of(name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        running = PeerProcess(name, process)
        try:
            running.answer()
            yield running
        finally:
            process.kill()


def timings_of(samples: Samples) -> Timings:
    """Return the medians of samples."""
    steps = [(last - begin) / (WANTED - 1) for begin, last in zip(samples.first, samples.whole, strict=True)]
    cold, first, whole, step = (
        statistics.median(times) * 1e3 for times in (samples.cold, samples.first, samples.whole, steps)
    )
    return Timings(cold, first, whole, step)


def floor(build: Path, info: BuildInfo, context: int, rate: float) -> Floor:
    """Return the least time of a decode step with a memory bandwidth of `rate` bytes per second."""
    try:
        step_bytes = read_weights(build).step_bytes
    except OtherEngineError:  # its embedding is its output layer; a step reads one of its learned positions
        step_bytes = (build / "model.bin").stat().st_size - info.context_length * info.width * 4
    needed = step_bytes + context * info.token_values * 4
    return Floor(rate / 1e9, needed / rate * 1e3)


def bandwidth(threads: int) -> float:
    """Return the bytes per second that all threads together read from memory sequentially: the best of `READ_TIMES`."""
    parts = np.array_split(np.ones(READ_BYTES // 4, dtype=np.float32), threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as executor:
        for _ in range(READ_TIMES):
            begun = time.perf_counter()
            list(executor.map(np.max, parts))  # the fastest of numpy's reductions, without the interpreter's lock
            best = max(best, READ_BYTES / (time.perf_counter() - begun))
    return best


def benchmark_shape(
    shape: str, context: int, threads: int, names: Sequence[str] = OURS, int4: WeightFormat | None = None
) -> EngineBenchmark:
    """Measure a shape of the catalogue with random weights, or an existing build given by its folder.

    With `int4`, the native engine is also timed on random 4-bit weights of the shape. Raises: ModelError when it is
    neither, or a folder and `int4` are given.
    """
    with TemporaryFolder() as folder:
        build = build_of_shape(shape, folder)
        if int4 is None:
            return measure(build, context, threads, names)
        if build != folder:
            raise ModelError(
                f"{shape} is a build, whose weights are timed as they are.",
                "Leave out `--bits`, or name a shape: 350M, 2B, ….",
            )
        with TemporaryFolder() as beside:
            build_of_shape(shape, beside, int4)
            return measure(build, context, threads, names, beside)


def build_of_shape(shape: str, folder: Path, weights: WeightFormat | None = None) -> Path:
    """Return the build in the folder `shape`, or one with random weights of a catalogue shape, written to `folder`.

    Raises: ModelError when it is neither.
    """
    if (Path(shape) / "build.json").is_file():
        return Path(shape)
    wanted = shape.lower()
    for checkpoint in checkpoints():
        if checkpoint.name.lower() == wanted or checkpoint.name.lower().split("-", 1)[1].split("-")[0] == wanted:
            write_random_build(folder, f"{checkpoint.name} (random weights)", checkpoint.architecture, weights)
            return folder
    names = ", ".join(checkpoint.name for checkpoint in checkpoints())
    raise ModelError(f"{shape} is neither a build's folder nor a known shape.", f"Shapes: 350M, 2B, …, or {names}.")


def main() -> None:
    """Print one benchmark as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("context", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--group", type=int, default=0)
    given = parser.parse_args()
    names = OURS + OTHERS if given.peers else OURS
    int4 = WeightFormat(4, given.group) if given.group else None
    if int4 is not None:
        names = (*names, INT4, *(INT4_OTHERS if given.peers else ()))
    try:
        found = benchmark_shape(given.shape, given.context, given.threads, names, int4)
    except CodegenError as error:
        sys.exit(json.dumps([error.message, error.advice]))
    sys.stdout.write(json.dumps(attrs.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
