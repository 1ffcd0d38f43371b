"""Benchmark of the workspace's n-gram index: time to build, to update and to query, and memory."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import frozen

from codegen_lsp.checkpoints.store import find
from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_index_file import read_index, write_index
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH
from codegen_lsp.inference.tokenizer import Tokenizer

QUERIES = 3_000
UPDATES = 50


@frozen
class IndexTimes:
    """Figures of one index. Times are of one thread."""

    files: int
    tokens: int
    encode_seconds: float
    """To make token ids of all files."""
    sort_seconds: float
    """To sort them."""
    bytes_per_token: float
    update_ms: float
    """Median time to replace one file."""
    query_us: float
    """Median time of a query for the next token."""
    query_p99_us: float
    read_ms: float
    """To read the index from disk."""


def time_index(model: str, documents: Sequence[SourceDocument], tokens: int, folder: Path, seed: int) -> IndexTimes:
    """Index documents up to a number of tokens, and time it. `folder` is for the index file.

    Raises: EvaluationError without documents, ModelError.
    """
    build = find(model).path
    tokenizer = Tokenizer.from_build(build, read_info(build))
    files, encode_seconds = _encoded(documents, tokenizer, tokens)
    if not files:
        raise EvaluationError("There is nothing to index.", "Give files or folders of source code.")
    index = NgramIndex(SMALL_MODEL.workspace)
    started = time.perf_counter()
    index.add(files)
    sort_seconds = time.perf_counter() - started
    dice = random.Random(seed)  # noqa: S311
    queries = [_query_seconds(index, *dice.choice(files), dice) for _ in range(QUERIES)]
    bytes_per_token = index.nbytes / len(index)
    updates = [_update_seconds(index, *dice.choice(files)) for _ in range(min(UPDATES, len(files)))]
    write_index(index, folder / "index", "benchmark")
    started = time.perf_counter()
    read_index(NgramIndex(SMALL_MODEL.workspace), folder / "index", "benchmark")
    return IndexTimes(
        files=len(files),
        tokens=len(index),
        encode_seconds=encode_seconds,
        sort_seconds=sort_seconds,
        bytes_per_token=bytes_per_token,
        update_ms=float(np.median(updates)) * 1e3,
        query_us=float(np.median(queries)) * 1e6,
        query_p99_us=float(np.quantile(queries, 0.99)) * 1e6,
        read_ms=(time.perf_counter() - started) * 1e3,
    )


def _encoded(
    documents: Sequence[SourceDocument], tokenizer: Tokenizer, limit: int
) -> tuple[list[tuple[FileVersion, list[int]]], float]:
    files: list[tuple[FileVersion, list[int]]] = []
    started, total = time.perf_counter(), 0
    for number, document in enumerate(documents):
        ids = tokenizer.encode(document.text)
        files.append((FileVersion(f"{number}", 0, len(document.text)), ids))
        total += len(ids)
        if total >= limit:
            break
    return files, time.perf_counter() - started


def _query_seconds(index: NgramIndex, _: FileVersion, ids: list[int], dice: random.Random) -> float:
    """Time a query: half of the contexts are of the text, half are its end after other tokens."""
    at = dice.randrange(len(ids)) if ids else 0
    context = ids[max(0, at - DEPTH) : at]
    if dice.random() < 0.5:
        context = [0, *context[-dice.randrange(1, 4) :]]
    started = time.perf_counter()
    index.mixture(context)
    return time.perf_counter() - started


def _update_seconds(index: NgramIndex, version: FileVersion, ids: list[int]) -> float:
    started = time.perf_counter()
    index.add([(version, ids)])
    return time.perf_counter() - started
