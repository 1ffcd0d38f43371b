"""The gains of a corpus are those that the server's n-gram mixture computes token by token."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import numpy as np
import pytest

from codegen_lsp.inference.engines.native.ngrams import NgramMatcher
from codegen_lsp.training import ngram_gains
from codegen_lsp.training.data import EncodedCorpus


def test_gains_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_gains, "FILES_PER_PASS", 2)
    dice = np.random.default_rng(0)
    files = [dice.integers(1, 5, size=size) for size in (150, 1, 90, 200)]
    files += [np.tile(dice.integers(1, 300, size=20), 5)]
    starts = np.cumsum([0, *map(len, files)])
    gains = ngram_gains.corpus_gains(EncodedCorpus(np.concatenate(files).astype(np.uint16), starts))
    for file, start in zip(files, starts, strict=False):
        assert gains[start] == 0
        for place in range(1, len(file)):
            mixture = NgramMatcher(file[:place].tolist(), [], []).mixture()
            expected = 0.0 if mixture is None else float(mixture.gains[mixture.ids == file[place]].sum())
            assert float(gains[start + place]) == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_an_empty_corpus_has_no_gains() -> None:
    empty = EncodedCorpus(np.zeros(0, np.uint16), np.zeros(1, np.int64))
    assert len(ngram_gains.corpus_gains(empty)) == 0
