"""Bits per byte: how well a model predicts whole files.

Unlike nats per token, it compares models with different tokenizers, and it is more sensitive than exact match. A file
is cut into overlapping windows, so that each token is predicted once, with at least half a window of text before it
(Hugging Face's "perplexity of fixed-length models" describes the scheme). The first token is predicted from the
end-of-text token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.errors import ModelError
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.evaluation.figures import Figure, ratio
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.base import CancellationToken, Engine
from codegen_lsp.inference.tokenizer import Tokenizer

if TYPE_CHECKING:
    from codegen_lsp.checkpoints.checkpoint_source import CheckpointSource
    from codegen_lsp.checkpoints.weights import Weights

WINDOW = 1024
"""Maximum tokens of a window; the same for all contexts, so that models are compared on the same text."""

Score = Callable[[list[int]], list[float]]
"""See `Engine.score`."""


@frozen
class FileCost:
    """The cost of one file with a model."""

    document: SourceDocument
    bits: float
    size: int
    """Bytes of UTF-8."""


@frozen
class Window:
    """A piece of a file. The log-probabilities of its last `fresh` tokens count."""

    ids: list[int]
    fresh: int


def windows(ids: Sequence[int], length: int) -> Iterator[Window]:
    """Cut ids into windows of at most `length` so that each id but the first is fresh in exactly one.

    The first window is fresh throughout; each later one repeats half a window.
    """
    yield Window(list(ids[:length]), min(len(ids), length) - 1)
    step = length - length // 2
    end = length
    while end < len(ids):
        fresh = min(step, len(ids) - end)
        end += fresh
        yield Window(list(ids[end - length : end]), fresh)


def cost(document: SourceDocument, info: BuildInfo, tokenizer: Tokenizer, score: Score) -> FileCost:
    """Return the bits of a file. `score` is an engine's; the tokens are the build's. Raises: ModelError."""
    ids = [info.end_of_text, *tokenizer.encode(document.text)]
    nats = 0.0
    for window in windows(ids, min(WINDOW, info.context_length)):
        if window.fresh:
            nats -= sum(score(window.ids)[-window.fresh :])
    return FileCost(document, nats / math.log(2), len(document.text.encode("utf-8", "replace")))


def costs(
    documents: Sequence[SourceDocument], info: BuildInfo, tokenizer: Tokenizer, engine: Engine
) -> Iterator[FileCost]:
    """Yield the bits of each file with a build. Raises: ModelError."""
    for document in documents:
        yield cost(document, info, tokenizer, lambda ids: engine.score(ids, CancellationToken()))


def float_costs(
    documents: Sequence[SourceDocument], info: BuildInfo, tokenizer: Tokenizer, checkpoint: Path
) -> Iterator[FileCost]:
    """Yield the bits of each file with the float32 weights of the checkpoint that a build was made from.

    They are run by the reference that conversions are checked against (`checkpoints.reference`).

    Raises: ConversionError when the folder is not a checkpoint, ModelError when its tokenizer is not the build's.
    """
    from codegen_lsp.checkpoints.weights import Weights

    with Weights(checkpoint) as weights:
        source = _read_as_converted(checkpoint, weights, info)
        for document in documents:
            text = document.text[:10_000]
            if source.tokenizer.encode(text, add_special_tokens=False).ids != tokenizer.encode(text):
                raise ModelError(
                    f"{checkpoint} cuts text into other tokens than {info.name}.",
                    f"Give the folder that it was converted from ({info.source}).",
                )
            yield cost(document, info, tokenizer, lambda ids: _float_scores(weights, source, ids))


def bits_per_byte(files: Sequence[FileCost]) -> Figure | None:
    """Return all bits over all bytes, with a bootstrap interval over the files."""
    return ratio([file.bits for file in files], [file.size for file in files])


def loss_of(files: Sequence[FileCost], floats: Sequence[FileCost]) -> Figure | None:
    """Return the relative excess of the first costs over the second, for the same files."""
    figure = ratio([file.bits for file in files], [file.bits for file in floats])
    return figure and Figure(figure.value - 1, figure.low - 1, figure.high - 1, figure.cases)


def _read_as_converted(checkpoint: Path, weights: Weights, info: BuildInfo) -> CheckpointSource:
    """Read the checkpoint as a conversion does."""
    from codegen_lsp.checkpoints import agreement
    from codegen_lsp.checkpoints.checkpoint_source import read_source
    from codegen_lsp.checkpoints.reference import float_logits
    from codegen_lsp.checkpoints.weights import check_shapes

    read = read_source(checkpoint, info.name)
    check_shapes(weights, read.architecture.shapes())
    alternatives = read.alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    return alternatives[agreement.choose_reading(readings, float_logits(weights, read.architecture, readings))]


def _float_scores(weights: Weights, source: CheckpointSource, ids: list[int]) -> list[float]:
    import torch

    from codegen_lsp.checkpoints.reference import Reading, float_logits

    reading = Reading(tuple(ids), source.architecture.qkv_groups)
    (logits,) = float_logits(weights, source.architecture, [reading])
    found = torch.log_softmax(logits[:-1], -1)
    chosen: list[float] = found.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    return chosen
