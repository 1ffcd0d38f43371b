"""Benchmark of the workspace's n-gram index by size: processor time to build, to update and to ask it, and memory."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import frozen

from codegen_lsp.checkpoints.store import find
from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument, in_turn
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.mixing import interpolate
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex
from codegen_lsp.inference.engines.native.ngram_index_file import read_index, write_index
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH
from codegen_lsp.inference.engines.native.speculative import LENGTHS
from codegen_lsp.inference.tokenizer import Tokenizer

SIZES = (10, 100, 1_000, 10_000)
QUERIES = 3_000
UPDATES = 50

Encoded = tuple[FileVersion, str, list[int]]
"""A file with its text and token ids."""


@frozen
class IndexTimes:
    """Figures of one index. Times are processor time, so other programs hardly change them."""

    files: int
    tokens: int
    encode_seconds: float
    """To make token ids of all files."""
    sort_seconds: float
    """To sort them."""
    memory_mb: float
    """Of the index, in MiB."""
    bytes_per_token: float
    update_ms: float
    """Median time to replace one file, the making of its token ids included."""
    update_p99_ms: float
    token_us: float
    """Median time added to a generated token: one query for its probabilities, with the document left out of the index,
    mixing them in, and one for a draft."""
    token_p99_us: float
    read_ms: float
    """To read the index from disk."""


def time_index(
    model: str,
    documents: Sequence[SourceDocument],
    tokens: int,
    folder: Path,
    seed: int,
    sizes: Sequence[int] = SIZES,
) -> list[IndexTimes]:
    """Index as many documents as each size says, up to a number of tokens, and time it.

    A size of which there are not enough documents is measured with all of them, and is the last. `folder` is for the
    index file. Raises: EvaluationError without documents, ModelError.
    """
    build = find(model).path
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    dice = random.Random(seed)  # noqa: S311
    drawn = list(in_turn(documents, dice))
    if not drawn:
        raise EvaluationError("There is nothing to index.", "Give files or folders of source code.")
    found = []
    for size in sizes:
        found.append(_times(drawn[:size], tokenizer, tokens, folder, dice, info.vocabulary_size))
        if found[-1].files < size:
            break
    return found


def _times(
    documents: Sequence[SourceDocument],
    tokenizer: Tokenizer,
    limit: int,
    folder: Path,
    dice: random.Random,
    vocabulary: int,
) -> IndexTimes:
    files, encode_seconds = _encoded(documents, tokenizer, limit)
    index = NgramIndex(SMALL_MODEL.workspace)
    started = time.process_time()
    index.add((version, ids) for version, _, ids in files)
    sort_seconds = time.process_time() - started
    bytes_per_token = index.nbytes / max(1, len(index))
    memory_mb = index.nbytes / 2**20
    logits = np.random.default_rng(0).normal(size=vocabulary).astype(np.float32)
    own, queries = files[0], []
    for number in range(QUERIES):
        if number % 100 == 0:  # another document is completed
            own = dice.choice(files)
        queries.append(_token_seconds(index, own, logits.copy(), dice))
    updates = [_update_seconds(index, tokenizer, *dice.choice(files)[:2]) for _ in range(min(UPDATES, len(files)))]
    write_index(index, folder / "index", "benchmark")
    started = time.process_time()
    read_index(NgramIndex(SMALL_MODEL.workspace), folder / "index", "benchmark")
    return IndexTimes(
        files=len(files),
        tokens=len(index),
        encode_seconds=encode_seconds,
        sort_seconds=sort_seconds,
        memory_mb=memory_mb,
        bytes_per_token=bytes_per_token,
        update_ms=float(np.median(updates)) * 1e3,
        update_p99_ms=float(np.quantile(updates, 0.99)) * 1e3,
        token_us=float(np.median(queries)) * 1e6,
        token_p99_us=float(np.quantile(queries, 0.99)) * 1e6,
        read_ms=(time.process_time() - started) * 1e3,
    )


def _encoded(documents: Sequence[SourceDocument], tokenizer: Tokenizer, limit: int) -> tuple[list[Encoded], float]:
    files: list[Encoded] = []
    started, total = time.process_time(), 0
    for number, document in enumerate(documents):
        ids = tokenizer.encode(document.text)
        files.append((FileVersion(f"{number}", 0, len(document.text)), document.text, ids))
        total += len(ids)
        if total >= limit:
            break
    return files, time.process_time() - started


def _token_seconds(index: NgramIndex, own: Encoded, logits: Floats, dice: random.Random) -> float:
    """Time a token: half of the contexts are of the document, half are its end after other tokens."""
    version, _, ids = own
    at = dice.randrange(len(ids)) if ids else 0
    context = ids[max(0, at - DEPTH) : at]
    if dice.random() < 0.5:
        context = [0, *context[-dice.randrange(1, 4) :]]
    left_out = frozenset({version.path})
    index.longest_match(context, 0, left_out)
    index.mixture([], left_out)  # prepares for this document, which is done once for each request
    started = time.thread_time()
    interpolate(logits, 0.0, index.mixture(context, left_out))
    index.longest_match(context, LENGTHS[-1], left_out)
    return time.thread_time() - started


def _update_seconds(index: NgramIndex, tokenizer: Tokenizer, version: FileVersion, text: str) -> float:
    started = time.process_time()
    index.add([(version, tokenizer.encode(text))])
    return time.process_time() - started
