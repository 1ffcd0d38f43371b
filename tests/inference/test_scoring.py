"""Likelihood of texts."""

from __future__ import annotations

import pytest

from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled
from codegen_lsp.inference.rpc.messages import LoadParams, ScoredText, ScoreParams
from codegen_lsp.inference.text_model import TextModel

BEFORE = "import os\nimport sys\n\n\nclass Stack:\n    pass\n\n\n"
"""Ends at a token boundary of every tokenizer."""
AFTER = "def push(item):\n    self.items = []\n"


def test_a_score_is_the_sum_over_the_tokens_of_the_text(model: TextModel) -> None:
    ids, before = model.tokenizer.encode(BEFORE + AFTER), model.tokenizer.encode(BEFORE)
    assert ids[: len(before)] == before
    (score,) = model.score([ScoredText(BEFORE, AFTER)], CancellationToken()).scores
    assert score.tokens == len(ids) - len(before)
    assert score.log_probability == pytest.approx(sum(model.engine.score(ids, CancellationToken())[-score.tokens :]))


def test_a_token_that_begins_before_the_text_counts_whole(model: TextModel) -> None:
    (score,) = model.score([ScoredText(BEFORE + AFTER[:-3], AFTER[-3:])], CancellationToken()).scores
    assert score.tokens >= 1
    assert score.log_probability < 0


def test_a_text_without_context(model: TextModel) -> None:
    (score,) = model.score([ScoredText("", "import")], CancellationToken()).scores
    assert score.tokens == len(model.tokenizer.encode("import"))
    assert score.log_probability < 0


def test_code_is_likelier_than_noise(model: TextModel) -> None:
    code, noise = model.score(
        [ScoredText(BEFORE, AFTER), ScoredText(BEFORE, "=self []%.items) in(\n")], CancellationToken()
    ).scores
    assert code.log_probability / code.tokens > noise.log_probability / noise.tokens


def test_texts_longer_than_the_context(model: TextModel, info: BuildInfo) -> None:
    long = "x = 1\n" * info.context_length
    before, alone = model.score([ScoredText(long, "x = 1\n"), ScoredText("", long)], CancellationToken()).scores
    assert 0 < before.tokens < 10
    assert alone.tokens == info.context_length - 1


def test_scoring_can_be_cancelled(model: TextModel) -> None:
    cancellation = CancellationToken()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        model.score([ScoredText("", "x")], cancellation)


async def test_scoring_over_rpc(embedded_build) -> None:  # type: ignore[no-untyped-def]
    client = InferenceClient()
    try:
        await client.load(LoadParams(str(embedded_build), threads=1))
        result = await client.score(ScoreParams("a", [ScoredText(BEFORE, "self.items = []"), ScoredText("", "é")]))
        assert [score.log_probability < 0 for score in result.scores] == [True, True]
        assert result.scores[1].tokens >= 1
    finally:
        await client.close()
