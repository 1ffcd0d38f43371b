"""Logits and losses of a build, computed by the native engine, which also runs those with 4-bit weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.checkpoints.snippet import comparison_texts
from codegen_lsp.inference.build import Int8Comparison
from codegen_lsp.inference.engines.factory import default_threads
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.engine import open_forward_pass
from codegen_lsp.inference.engines.native.forward import ForwardPass
from codegen_lsp.inference.engines.native.weights import read_weights

WINDOW = 512
"""Tokens of each text, and the most that a pass reads."""
AT_ONCE = 128
"""Tokens whose logits are in memory together."""


@frozen
class Predictions:
    """Predictions of a build for the tokens of texts."""

    losses: Floats
    """Nats of each token but the first of a text, of all texts in turn."""
    likeliest: NDArray[np.int64]
    """The most likely next token after each token, of all texts in turn."""
    logits: Floats
    """Of the first text, (tokens, rows)."""


def native_logits(build: Path, ids: Sequence[int]) -> Floats:
    """Return float32 logits (tokens, rows) of a build. Raises: ModelError when the native engine can't run it."""
    return _logits(open_forward_pass(read_weights(build), default_threads()), ids)


def comparison_ids(encode: Callable[[str], list[int]], context: int) -> list[list[int]]:
    """Return the beginnings of the texts on which builds are compared, as token ids."""
    return [encode(text)[: min(WINDOW, context)] for text in comparison_texts()]


def predictions(build: Path, texts: Sequence[Sequence[int]], on_text: Callable[[float], None]) -> Predictions:
    """Return the predictions of a build for texts. Raises: ModelError when the native engine can't run it."""
    forward_pass = open_forward_pass(read_weights(build), default_threads())
    losses, likeliest, first = [], [], np.empty((0, 0), np.float32)
    for done, ids in enumerate(texts, 1):
        logits = _logits(forward_pass, ids)
        first = first if done > 1 else logits
        losses.append(_losses(logits, ids))
        likeliest.append(logits.argmax(-1))
        on_text(done / len(texts))
    return Predictions(np.concatenate(losses), np.concatenate(likeliest), first)


def compared(four_bits: Predictions, int8: Predictions) -> Int8Comparison:
    """Return the loss of a 4-bit build beside that of the int8 build, for the same texts."""
    difference = four_bits.losses - int8.losses
    return Int8Comparison(
        tokens=len(difference),
        int8_loss=float(int8.losses.mean()),
        loss=float(four_bits.losses.mean()),
        margin=float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference))),
    )


def _logits(forward_pass: ForwardPass, ids: Sequence[int]) -> Floats:
    hidden = forward_pass.forward(ids, forward_pass.new_cache(len(ids)), 0)
    return np.concatenate([forward_pass.logits(hidden[at : at + AT_ONCE]) for at in range(0, len(ids), AT_ONCE)])


def _losses(logits: Floats, ids: Sequence[int]) -> Floats:
    """Return the cross-entropy with each token that follows, in nats."""
    rows = logits[:-1] - logits[:-1].max(-1, keepdims=True)
    found: Floats = np.log(np.exp(rows).sum(-1)) - rows[np.arange(len(rows)), np.asarray(ids[1:])]
    return found
