"""Fit the mixing weights of a build on a user's files, and keep them with the build.

Each given folder is a workspace; each file is scored with itself left out of it. Every fourth file is held out of the
fit, to compare the weights before and after. The model reads files in random order until there are enough tokens or the
time is up. Nothing is written before the end, and then one file at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from attrs import frozen

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.engines.base import EngineConfig
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.mixing_file import (
    TunedWeights,
    check_writable,
    model_digest,
    weights_for,
    write_tuned,
)
from codegen_lsp.inference.engines.native.mixing_fit import WINDOW, Rows, fit, rows_of
from codegen_lsp.inference.engines.native.ngram_segment import GAP, Segment, library
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.progress import ProgressReport

MOST_TOKENS = 60_000
"""Tokens that are scored: more change the weights little."""
LEAST_TOKENS = 4_000
"""Tokens to fit on, at least; a third of them held out."""
LEAST_FILE = 64
"""Tokens of a file that is scored."""
HELD_OUT = 4
"""One of so many files is held out."""
MOST_CHARACTERS = 20_000_000
"""Text of all workspaces together that is indexed."""
READING, FITTING = 0.1, 0.95
"""Progress at which the model begins to read, and the fit begins."""


@frozen
class Tuning:
    """What a fit gave."""

    path: Path | None
    """File in which the weights are kept; None where they were no better than those in force."""
    files: int
    tokens: int
    """Files and tokens fitted on."""
    held_out_files: int
    held_out_tokens: int
    alone: float
    before: float
    after: float
    """Nats per token of the held-out files: by the model alone, with the weights in force, and with the fitted ones."""


@frozen
class _Encoded:
    """A file to be scored, and the segment with all files of its workspace."""

    ids: list[int]
    workspace: Segment


def tune(
    build: Path,
    workspaces: Sequence[Mapping[str, str]],
    *,
    seconds: float,
    threads: int,
    progress: ProgressReport,
    seed: int = 0,
) -> Tuning:
    """Fit a build's weights on the texts of workspaces by path, and keep them if they are better.

    The model reads for `seconds` at most.

    Raises ModelError: the build can't be run by the native engine or written to, or there is too little text.
    """
    started = time.monotonic()
    info = read_info(build)
    if library() is None:
        raise ModelError("The n-gram index was not compiled on this machine, so weights have no effect.")
    check_writable(build)
    tokenizer = Tokenizer.from_build(build, info)
    if len(tokenizer.all_bytes) >= GAP:
        raise ModelError(f"{info.name} has too many tokens for the n-gram index, so weights have no effect.")
    dice = random.Random(seed)  # noqa: S311
    progress("reading the files", 0.0)
    files = _encoded(workspaces, tokenizer, dice)
    _require(sum(min(len(file.ids), WINDOW) for file in files), len(files))
    progress("loading the model", READING)
    config = EngineConfig(device="cpu", compute_type="auto", threads=threads, cache_bytes=0)
    try:
        engine = NativeEngine(build, info, tokenizer, config)
    except OtherEngineError as error:
        raise OtherEngineError(
            f"{error.message} Another engine runs {info.name} without n-grams, so weights have no effect."
        ) from error
    try:
        training, held_out = _rows(engine, info, files, dice, started + seconds, progress)
    finally:
        engine.close()
    tokens, held_out_tokens = _size(training), _size(held_out)
    _require(tokens + held_out_tokens, len(training) + len(held_out))
    progress("fitting", FITTING)
    current = weights_for(build, info, "auto")
    assert current is not None
    found = fit(np.concatenate(training), np.concatenate(held_out), current)
    kept = TunedWeights(found.weights, model_digest(info), tokens, held_out_tokens, found.before, found.after)
    better = found.after < found.before
    path = write_tuned(build, kept) if better else None
    return Tuning(path, len(training), tokens, len(held_out), held_out_tokens, found.alone, found.before, found.after)


def _encoded(workspaces: Sequence[Mapping[str, str]], tokenizer: Tokenizer, dice: random.Random) -> list[_Encoded]:
    """Encode files, and return those that are scored in random order. Workspaces of one file are left out."""
    found: list[_Encoded] = []
    room = MOST_CHARACTERS
    for texts in workspaces:
        encoded = []
        for path in dice.sample(sorted(texts), len(texts)):
            if (room := room - len(texts[path])) < 0:
                break
            encoded.append(tokenizer.encode(texts[path]))
        if len(encoded) > 1:
            gap = np.array([GAP], np.uint16)
            segment = Segment.build(
                np.concatenate([part for ids in encoded for part in (np.array(ids, np.uint16), gap)])
            )
            found += [_Encoded(ids, segment) for ids in encoded if len(ids) >= LEAST_FILE]
    dice.shuffle(found)
    return found


def _rows(
    engine: NativeEngine,
    info: BuildInfo,
    files: Sequence[_Encoded],
    dice: random.Random,
    until: float,
    progress: ProgressReport,
) -> tuple[list[Rows], list[Rows]]:
    """Score files until there are enough tokens or the time is up: rows to fit on, by file, and rows held out."""
    training: list[Rows] = []
    held_out: list[Rows] = []
    tokens, begun = 0, time.monotonic()
    window = min(WINDOW, info.context_length)
    for number, file in enumerate(files):
        start = dice.randrange(max(1, len(file.ids) - window + 1)) if number % 2 else 0
        rows = rows_of(engine, file.ids, start, info.end_of_text, file.workspace, window)
        (held_out if number % HELD_OUT == HELD_OUT - 1 else training).append(rows)
        tokens += len(rows)
        now = time.monotonic()
        share = max(tokens / MOST_TOKENS, (now - begun) / max(until - begun, 1e-9), (number + 1) / len(files))
        progress(f"scored {tokens} tokens of {number + 1} files", READING + (FITTING - READING) * min(share, 1.0))
        if share >= 1.0:
            break
    return training, held_out


def _size(rows: Sequence[Rows]) -> int:
    return sum(map(len, rows))


def _require(tokens: int, files: int) -> None:
    """Raise ModelError where that is too little to fit and to compare on."""
    if tokens < LEAST_TOKENS or files < 2 * HELD_OUT:
        raise ModelError(
            f"There is too little text to fit on: {tokens} tokens of {files} files, "
            f"of at least {LEAST_TOKENS} tokens of {2 * HELD_OUT} files.",
            "Give folders with more source code that belongs together, or more time with --minutes.",
        )
