"""Less of a training's change is kept where it forgot too much of general code."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import pytest
import torch

from codegen_lsp.checkpoints.adaptation_record import GENERAL, AdaptationRecord, Change
from codegen_lsp.training.adaptation.blending import LEAST_ALLOWED, MOST_FORGOTTEN, allowed_rise, blended, smaller_share


def record(change: float) -> AdaptationRecord:
    figures = {GENERAL: Change(1.0, 1.0 + change, change, change, change, 9)}
    return AdaptationRecord("base", {}, {}, [], [], 0, 0.0, "2026-01-01", figures)


def test_weights_between_two_models() -> None:
    base, trained = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 2.0])}
    assert torch.equal(blended(base, trained, 0.25)["w"], torch.tensor([1.5, 2.0]))
    assert torch.equal(blended(base, trained, 1.0)["w"], trained["w"])


@pytest.mark.parametrize("curvature", [0.01, 0.033, 0.1, 0.5])
def test_the_search_ends_within_the_limit_where_the_loss_is_a_parabola(curvature: float) -> None:
    tried = [1.0]
    while (share := smaller_share(tried[-1], curvature * tried[-1] ** 2, MOST_FORGOTTEN)) is not None:
        assert share < tried[-1]
        tried.append(share)
    assert curvature * tried[-1] ** 2 <= MOST_FORGOTTEN
    assert len(tried) <= 3
    assert (len(tried) == 1) == (curvature <= MOST_FORGOTTEN)


def test_the_search_ends_where_nothing_helps() -> None:
    share, tried = smaller_share(1.0, 9.0, MOST_FORGOTTEN), 0
    while share is not None:
        share, tried = smaller_share(share, 9.0, MOST_FORGOTTEN), tried + 1
    assert tried < 10


def test_refreshes_share_one_limit() -> None:
    assert allowed_rise(None) == MOST_FORGOTTEN
    assert allowed_rise(record(0.012)) == pytest.approx(MOST_FORGOTTEN - 0.012)
    assert allowed_rise(record(0.05)) == LEAST_ALLOWED
    assert allowed_rise(record(-0.01)) == pytest.approx(MOST_FORGOTTEN + 0.01)
