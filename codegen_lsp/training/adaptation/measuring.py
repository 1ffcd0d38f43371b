"""How well a model predicts held-out files: the user's, alone and with the n-grams of workspace and document, and
general code.

The build is run by the engine that serves it, and the n-grams are those of the server (`mixing_fit`). Before and after
are compared on the same tokens, with a bootstrap interval over the files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.checkpoints.adaptation_record import GENERAL, OWN, OWN_ALONE, Change
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, EngineConfig
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.mixing_file import weights_for
from codegen_lsp.inference.engines.native.mixing_fit import nats, rows_of
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL, MixingWeights
from codegen_lsp.inference.engines.native.ngram_segment import GAP, Segment, library
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.training.data import EncodedCorpus, Ids

WINDOW = 1024
"""Tokens of a file that are measured, from a place that depends on the file alone."""
RESAMPLES = 2000
LEAST = 32
"""Tokens of a file that is measured."""


@frozen(eq=False)
class FileCosts:
    """Bits of each file, and the bytes they are for; all arrays are (files,)."""

    mixed: NDArray[np.float64]
    """With the n-grams of workspace and document."""
    alone: NDArray[np.float64]
    size: NDArray[np.float64]


@frozen(eq=False)
class Costs:
    """The costs of the user's held-out files, and of held-out general code."""

    own: FileCosts
    general: FileCosts


def served_weights(base: InstalledBuild) -> MixingWeights | None:
    """Return the weights of the n-grams as the server mixes them into a model, with a workspace.

    None for a vocabulary that is too large for the index, with which the server mixes nothing in.
    """
    if base.info.vocabulary_size >= GAP:
        return None
    return weights_for(base.path, base.info, "auto") or SMALL_MODEL


def measure(
    build: Path,
    own: EncodedCorpus,
    held_out: int,
    general: EncodedCorpus,
    *,
    files: int,
    weights: MixingWeights | None,
    threads: int,
    report: Callable[[float], None] = lambda share: None,
) -> Costs:
    """Return the costs with a build, of at most `files` of the first `held_out` files of `own`, and of general ones.

    The other files of `own` are the workspace. Without `weights` there are no n-grams. Raises ModelError when the
    native engine can't run the build.
    """
    if library() is None:
        raise ModelError("The n-gram index was not compiled on this machine, so the gain beside it can't be measured.")
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    config = EngineConfig(device="cpu", compute_type="auto", threads=threads, cache_bytes=0)
    sizes = np.array([len(piece) for piece in tokenizer.all_bytes])
    workspace = None if weights is None else _workspace(own)
    window = min(WINDOW, info.context_length)
    chosen = [number for number in range(held_out) if len(_file(own, number)) >= LEAST][:files]
    others = [number for number in range(general.documents) if len(_file(general, number)) >= LEAST][:files]
    found: list[tuple[float, float, float]] = []
    plain: list[tuple[float, float]] = []
    engine = NativeEngine(build, info, tokenizer, config)
    try:
        for number in chosen:
            ids = _file(own, number)
            start = _window_start(len(ids), window)
            if weights is None or workspace is None:
                alone, length = _alone(engine, ids, start, window, info.end_of_text, sizes)
                found.append((alone, alone, length))
            else:
                rows = rows_of(engine, ids.tolist(), start, info.end_of_text, workspace, window)
                count = len(rows) / math.log(2)
                alone = -float(np.log(np.maximum(rows[:, 0], 1e-12)).sum()) / math.log(2)
                first = start + 1
                found.append((nats(rows, weights) * count, alone, float(sizes[ids[first : first + len(rows)]].sum())))
            report((len(found)) / (len(chosen) + len(others)))
        for number in others:
            ids = _file(general, number)
            start = _window_start(len(ids), window)
            plain.append(_alone(engine, ids, start, window, info.end_of_text, sizes))
            report((len(found) + len(plain)) / (len(chosen) + len(others)))
    finally:
        engine.close()
    bits, size = (np.array(column, float) for column in zip(*plain, strict=True)) if plain else (np.zeros(0),) * 2
    own_columns = [np.array(column, float) for column in zip(*found, strict=True)] or [np.zeros(0)] * 3
    return Costs(FileCosts(*own_columns), FileCosts(bits, bits, size))


def change_of(before: NDArray[np.float64], after: NDArray[np.float64], size: NDArray[np.float64]) -> Change:
    """Return the figures of the same files before and after, with a percentile bootstrap over the files."""
    total = size.sum()
    if not len(size) or not before.sum():
        return Change(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    dice = np.random.default_rng(0)
    drawn = dice.integers(len(size), size=(RESAMPLES, len(size)))
    changes = after[drawn].sum(1) / before[drawn].sum(1) - 1
    low, high = np.percentile(changes, [2.5, 97.5])
    return Change(
        before=float(before.sum() / total),
        after=float(after.sum() / total),
        change=float(after.sum() / before.sum() - 1),
        low=float(low),
        high=float(high),
        files=len(size),
    )


def changes(before: Costs, after: Costs) -> dict[str, Change]:
    """Return all figures by name."""
    return {
        OWN: change_of(before.own.mixed, after.own.mixed, before.own.size),
        OWN_ALONE: change_of(before.own.alone, after.own.alone, before.own.size),
        GENERAL: change_of(before.general.alone, after.general.alone, before.general.size),
    }


def save_costs(path: Path, costs: Costs) -> None:
    """Write costs, whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    arrays = {
        f"{side}_{name}": array
        for side in ("own", "general")
        for name, array in attrs.asdict(getattr(costs, side)).items()
    }
    np.savez(partial, **arrays)
    partial.replace(path)


def load_costs(path: Path) -> Costs:
    """Return the costs that `save_costs` wrote."""
    with np.load(path) as arrays:
        own, general = (
            FileCosts(*(arrays[f"{side}_{name}"] for name in ("mixed", "alone", "size"))) for side in ("own", "general")
        )
    return Costs(own, general)


def _alone(
    engine: NativeEngine, ids: Ids, start: int, window: int, end_of_text: int, sizes: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the bits of a window of a file with the model alone, and its bytes."""
    shown = [end_of_text, *ids[start : start + window - 1].tolist()]
    scores = engine.score(shown, CancellationToken())
    return -sum(scores) / math.log(2), float(sizes[shown[1:]].sum())


def _workspace(own: EncodedCorpus) -> Segment:
    gap = np.array([GAP], np.uint16)
    parts = [part for number in range(own.documents) for part in (_file(own, number), gap)]
    return Segment.build(np.concatenate(parts))


def _file(corpus: EncodedCorpus, number: int) -> Ids:
    return np.asarray(corpus.ids[corpus.starts[number] : corpus.starts[number + 1]])


def _window_start(length: int, window: int) -> int:
    """Return a place for the window that depends on the file's length alone."""
    return (length * 7919) % max(1, length - window + 1) if length > window else 0
