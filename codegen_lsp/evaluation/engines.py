"""How fast the engines are, on one build and in one run: what somebody who types has to wait for.

The scenario: a context is cached, four tokens are typed, sixteen are wanted. `ct2_static` is CTranslate2 used as well
as it can be, its cached prefix ending where the typing began; `ct2` computes the whole prompt each time. Rounds go
through all engines in turn, so that whatever else the machine does meets them all alike; medians are given.

The floor is what this machine could do at best: a decoding step reads every weight but the embedding's, and the keys
and values of the context, at the rate at which memory was measured to give them.

Run it as a program of its own (`python -m codegen_lsp.evaluation.engines`), in the environment of a worker: memory
allocation is tuned there for CTranslate2's sake.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import field, frozen

from codegen_lsp.checkpoints.catalogue import checkpoints
from codegen_lsp.errors import CodegenError, ModelError
from codegen_lsp.evaluation.random_build import write_random_build
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.ct2 import Ct2Engine
from codegen_lsp.inference.engine import Control, Decoding, Engine
from codegen_lsp.inference.engines import default_cache_bytes
from codegen_lsp.inference.incremental import IncrementalEngine
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.weights import read_weights

TYPED, WANTED = 4, 16
ROUNDS = 7
COLD_ROUNDS = 2
"""Rounds that compute a whole context, which take long."""
SETTLE_SECONDS = 0.3
"""Pause before each measurement: the threads of the engine before go on spinning for up to 0.2 s."""


@frozen
class Timings:
    """Medians in milliseconds."""

    cold_prefill_ms: float
    """A context that nothing is cached of, up to its first token."""
    first_token_ms: float
    """After `TYPED` tokens."""
    suggestion_ms: float
    """`WANTED` tokens after `TYPED`."""
    decode_step_ms: float
    """Each token of a suggestion but the first."""


@frozen
class Floor:
    """What memory bandwidth allows."""

    bandwidth_gb_s: float
    decode_step_ms: float


@frozen
class Benchmark:
    """One run."""

    build: str
    context: int
    threads: int
    floor: Floor
    engines: dict[str, Timings]


@frozen
class Peer:
    """A way to continue ids, timed: gives seconds to the first token and to the last."""

    run: Callable[[list[int], int], tuple[float, float]]
    """Called with a prompt and the number of tokens wanted."""
    prepare: Callable[[list[int]], None] = lambda context: None
    """Called before a context is typed after."""
    samples: dict[str, list[float]] = field(factory=lambda: {"cold": [], "first": [], "whole": []})


def measure(build: Path, context: int, threads: int, rounds: int = ROUNDS) -> Benchmark:
    """Time all engines on a build. Raises ModelError when the build can't be run or has not that much context."""
    info = read_info(build)
    if context + TYPED + WANTED > info.context_length:
        raise ModelError(
            f"{info.name} has a context of {info.context_length} tokens.",
            f"Ask for at most {info.context_length - TYPED - WANTED}.",
        )
    tokenizer = Tokenizer.from_build(build, info)
    options: dict[str, Any] = {
        "device": "cpu",
        "compute_type": "auto",
        "threads": threads,
        "cache_bytes": default_cache_bytes(info),
    }
    incremental = IncrementalEngine(build, info, tokenizer, **options)
    ct2 = Ct2Engine(build, info, tokenizer, **options)
    peers = {"incremental": through_contract(incremental), "ct2": whole_prompt(ct2), "ct2_static": static_prompt(ct2)}
    draw = random.Random(0)  # noqa: S311 - any ids will do

    def ids(count: int) -> list[int]:
        return [draw.randrange(1, info.vocabulary_size) for _ in range(count)]

    for _ in range(COLD_ROUNDS):
        for peer in peers.values():
            time.sleep(SETTLE_SECONDS)
            peer.samples["cold"].append(peer.run(ids(context), 1)[0])
    text = ids(context)
    for peer in peers.values():
        peer.prepare(text)
        peer.run(text + ids(TYPED), WANTED)
    for _ in range(rounds):
        for peer in peers.values():
            time.sleep(SETTLE_SECONDS)
            first, whole = peer.run(text + ids(TYPED), WANTED)
            peer.samples["first"].append(first)
            peer.samples["whole"].append(whole)
    timings = {name: timings_of(peer) for name, peer in peers.items()}
    incremental.close()
    ct2.close()
    return Benchmark(info.name, context, threads, floor(build, info, context, threads), timings)


def timings_of(peer: Peer) -> Timings:
    """Medians of a peer's samples."""
    first, whole = (statistics.median(peer.samples[kind]) * 1e3 for kind in ("first", "whole"))
    steps = [
        (last - begin) / (WANTED - 1) * 1e3
        for begin, last in zip(peer.samples["first"], peer.samples["whole"], strict=True)
    ]
    return Timings(statistics.median(peer.samples["cold"]) * 1e3, first, whole, statistics.median(steps))


def through_contract(engine: Engine) -> Peer:
    """An engine as the worker uses it."""

    def run(prompt: list[int], wanted: int) -> tuple[float, float]:
        seen: list[float] = []

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            seen.append(time.perf_counter())
            return False

        started = time.perf_counter()
        engine.generate(prompt, Decoding(max_tokens=wanted, end_tokens=frozenset()), Control(), on_token)
        return seen[0] - started, seen[-1] - started

    return Peer(run)


def whole_prompt(engine: Ct2Engine) -> Peer:
    """CTranslate2 without any cache."""
    return Peer(lambda prompt, wanted: _call(engine, prompt, [], wanted))


def static_prompt(engine: Ct2Engine) -> Peer:
    """CTranslate2 with its `static_prompt` cached up to where the typing begins. Cold, it is CTranslate2."""
    cached: list[int] = []

    def prepare(context: list[int]) -> None:
        cached[:] = context
        _call(engine, context[:1], cached, 1)

    def run(prompt: list[int], wanted: int) -> tuple[float, float]:
        return _call(engine, prompt[len(cached) :], cached, wanted)

    return Peer(run, prepare)


def floor(build: Path, info: BuildInfo, context: int, threads: int) -> Floor:
    """The least time that a decoding step can take here."""
    rate = bandwidth(threads)
    needed = read_weights(build).step_bytes + context * info.layers * info.width * 2 * 4
    return Floor(rate / 1e9, needed / rate * 1e3)


def bandwidth(threads: int) -> float:
    """Bytes per second that a float32 matrix-vector product reads from memory: the best of several."""
    torch.set_num_threads(threads)
    matrix, vector = torch.ones(16384, 4096), torch.ones(4096)
    best = 0.0
    for _ in range(12):
        started = time.perf_counter()
        torch.mv(matrix, vector)
        best = max(best, matrix.numel() * 4 / (time.perf_counter() - started))
    return best


def benchmark_shape(shape: str, context: int, threads: int) -> Benchmark:
    """Measure a shape of the catalogue with random weights, or an existing build given by its folder.

    Raises ModelError when it is neither.
    """
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-") as folder:
        return measure(build_of_shape(shape, Path(folder)), context, threads)


def build_of_shape(shape: str, folder: Path) -> Path:
    """The build in the folder `shape`, or one of the catalogue's shapes with random weights, written to `folder`.

    Raises ModelError when it is neither.
    """
    if (Path(shape) / "build.json").is_file():
        return Path(shape)
    wanted = shape.lower()
    for checkpoint in checkpoints():
        if checkpoint.name.lower() == wanted or checkpoint.name.lower().split("-", 1)[1].split("-")[0] == wanted:
            write_random_build(folder, f"{checkpoint.name} (random weights)", checkpoint.architecture)
            return folder
    names = ", ".join(checkpoint.name for checkpoint in checkpoints())
    raise ModelError(f"{shape} is neither a build's folder nor a known shape.", f"Shapes: 350M, 2B, …, or {names}.")


def _call(engine: Ct2Engine, tail: list[int], static: list[int], wanted: int) -> tuple[float, float]:
    seen: list[float] = []

    def step(result: Any) -> bool:
        seen.append(time.perf_counter())
        return False

    started = time.perf_counter()
    engine.call(tail, static, callback=step, max_length=wanted, end_token=[])
    return seen[0] - started, seen[-1] - started


def main() -> None:
    """Print one benchmark as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape")
    parser.add_argument("context", type=int)
    parser.add_argument("threads", type=int)
    given = parser.parse_args()
    try:
        found = benchmark_shape(given.shape, given.context, given.threads)
    except CodegenError as error:
        sys.exit(json.dumps([error.message, error.advice]))
    sys.stdout.write(json.dumps(attrs.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
