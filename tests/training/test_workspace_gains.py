"""The gains of a workspace are those of the server's index and document n-grams, token by token."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import numpy as np
import pytest

from codegen_lsp.inference.engines.base import SamplingParams
from codegen_lsp.inference.engines.native.mixing import predictions
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.engines.native.ngrams import NgramMatcher
from codegen_lsp.training.workspace_gains import CONFIDENCE, workspace_gains

pytestmark = pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")


def test_gains_are_those_of_the_server() -> None:
    dice = np.random.default_rng(0)
    files = [dice.integers(1, 6, size=size).tolist() for size in (60, 3, 80)]
    phrase = dice.integers(1, 300, size=25).tolist()
    files += [phrase + files[0][:10] + phrase, phrase * 2]
    starts = np.cumsum([0, *map(len, files)])
    gains = workspace_gains(np.concatenate(files).astype(np.uint16), starts, SMALL_MODEL)
    index = NgramIndex(SMALL_MODEL.workspace)
    index.add([(FileVersion(str(number), 0, 0), ids) for number, ids in enumerate(files)])
    compared = 0
    for number, file in enumerate(files):
        sampling = SamplingParams(
            max_tokens=1,
            end_tokens=frozenset(),
            ngrams=True,
            workspace=WorkspaceCounts(index, frozenset([str(number)])),
            weights=SMALL_MODEL,
        )
        for place in range(1, len(file)):
            matcher = NgramMatcher(file[:place], [], [])
            workspace, document = predictions(matcher, sampling, CONFIDENCE)
            gain, total = 0.0, 1.0
            for mixture in (workspace, document):
                if mixture is not None:
                    # Each mixture is interpolated with what the ones before made of the model's probability.
                    gain += float(mixture.gains[mixture.ids == file[place]].sum()) * total
                    total *= 1 + float(mixture.gains.sum())
            expected = gain
            assert float(gains[starts[number] + place]) == pytest.approx(expected, rel=5e-3, abs=1e-3)
            compared += expected > 0
    assert compared > 100
