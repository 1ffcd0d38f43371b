"""The token ids to train and to measure on.

Into a folder are written, each whole or not at all: `own`, all files of the user's, those held out first; `train`, the
user's files to train on and files of general code, as many tokens of them as `GENERAL_SHARE` says; `validation`, the
user's files that are held out; `general`, files of general code that are held out. The user's files have the n-gram
gains by which the training objective is mixed. General code has none, so that its objective is the model's own loss:
with the mixture there, too, the model unlearns what the n-grams predict as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from codegen_lsp.errors import CorpusError
from codegen_lsp.inference.engines.native.mixing_weights import MixingWeights
from codegen_lsp.training import data
from codegen_lsp.training.adaptation.sources import OwnFile
from codegen_lsp.training.corpus import hash_fraction
from codegen_lsp.training.data import EncodedCorpus
from codegen_lsp.training.duplicates import DuplicateIndex, digest, signature
from codegen_lsp.training.workspace_gains import workspace_gains

GENERAL_SHARE = 0.25
"""Share of general code in the tokens trained on."""
HELD_OUT = 0.1
"""Share of the user's files that are held out."""
LEAST_HELD_OUT = 4
LEAST_FILES = 12
LEAST_TOKENS = 20_000
"""Files and tokens below which there is nothing to learn that n-grams don't give: with 35,000 tokens, training brought
hardly anything in trials."""
MOST_HELD_OUT_TOKENS = 60_000


def without_duplicates(files: Sequence[OwnFile]) -> list[OwnFile]:
    """Return the first of each group of files that are nearly equal."""
    index = DuplicateIndex()
    return [file for file in files if index.add(digest(file.text), signature(file.text)) is None]


def split(files: Sequence[OwnFile]) -> tuple[list[OwnFile], list[OwnFile]]:
    """Return the files to train on and those to hold out, which depend on their paths alone.

    Raises CorpusError when there are too few.
    """
    ordered = sorted(files, key=_fraction)
    count = max(LEAST_HELD_OUT, sum(_fraction(file) < HELD_OUT for file in files))
    if len(files) < LEAST_FILES:
        raise CorpusError(
            f"There are {len(files)} files to train on, of at least {LEAST_FILES}: too few to learn from and to "
            "measure on.",
            "Keep the model as it is: the n-grams of the workspace know so little code by heart. Or give more folders.",
        )
    return ordered[count:], ordered[:count]


def _fraction(file: OwnFile) -> float:
    return hash_fraction("own", file.path)


def encode(
    tokenizer: Tokenizer,
    training: Sequence[OwnFile],
    held_out: Sequence[OwnFile],
    general: tuple[Sequence[str], Sequence[str]],
    weights: MixingWeights | None,
    folder: Path,
) -> None:
    """Write the corpora. `general` are texts to train on and to hold out. Without `weights` there are no gains.

    Raises CorpusError when there are too few tokens.
    """
    own = data.encode(tokenizer, (file.text for file in [*held_out, *training]), folder, "own.partial")
    if len(own.ids) < LEAST_TOKENS:
        raise CorpusError(
            f"There are {len(own.ids):,} tokens to train on, of at least {LEAST_TOKENS:,}.",
            "Keep the model as it is: the n-grams of the workspace know so little code by heart. Or give more folders.",
        )
    gains = None if weights is None else workspace_gains(np.asarray(own.ids), own.starts, weights)
    first = len(held_out)
    trained = _part(own, first, own.documents)
    replayed = _upto(data.encode(tokenizer, general[0], folder, "replay.partial"), len(trained.ids))
    _write(folder, "general", data.encode(tokenizer, general[1], folder, "general.partial"))
    _write(folder, "validation", _with(_part(own, 0, first), None if gains is None else gains[: own.starts[first]]))
    no_gains = np.zeros(len(replayed.ids), np.float16)
    both = EncodedCorpus(
        np.concatenate((trained.ids, replayed.ids)),
        np.concatenate((trained.starts, replayed.starts[1:] + trained.starts[-1])),
        None if gains is None else np.concatenate((gains[own.starts[first] :], no_gains)),
    )
    _write(folder, "train", both)
    _write(folder, "own", _with(own, gains))
    for leftover in folder.glob("*.partial.*"):
        leftover.unlink()


def _upto(corpus: EncodedCorpus, own_tokens: int) -> EncodedCorpus:
    """Return as many whole files as make `GENERAL_SHARE` beside the user's tokens."""
    wanted = own_tokens * GENERAL_SHARE / (1 - GENERAL_SHARE)
    return _part(corpus, 0, int(np.searchsorted(corpus.starts, wanted)))


def _part(corpus: EncodedCorpus, first: int, stop: int) -> EncodedCorpus:
    """Return the files from `first` up to `stop`, without gains, as a copy in memory."""
    stop = min(stop, corpus.documents)
    begin, end = int(corpus.starts[first]), int(corpus.starts[stop])
    return EncodedCorpus(np.array(corpus.ids[begin:end]), corpus.starts[first : stop + 1] - begin)


def _with(corpus: EncodedCorpus, gains: NDArray[np.float16] | None) -> EncodedCorpus:
    return EncodedCorpus(corpus.ids, corpus.starts, gains)


def _write(folder: Path, name: str, corpus: EncodedCorpus) -> None:
    """Write a corpus as `data.encode` does; the file with the starts comes last, so that it marks a complete one."""
    arrays: Iterable[tuple[str, object]] = [("ids", corpus.ids), ("gains", corpus.gains), ("starts", corpus.starts)]
    for kind, array in arrays:
        if array is not None:
            partial = folder / f"{name}.{kind}.partial.npy"
            np.save(partial, np.asarray(array))
            partial.replace(folder / f"{name}.{kind}.npy")
