"""What is said before an adaptation takes time."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import pytest
import torch

from codegen_lsp.training.adaptation.prediction import Prediction, tokens_per_second
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import ModelShape, TrainableCodeGen


@pytest.mark.parametrize(
    ("tokens", "speed", "minutes", "passes", "too_little", "enough"),
    [
        (720_000, 400.0, 30, 1.0, False, 30),
        (900_000, 50.0, 12, 0.04, True, 300),
        (900_000, 50.0, 30, 0.1, False, 300),
        (6_000_000, 400.0, 30, 0.12, False, 250),
    ],
)
def test_passes_and_advice(
    tokens: int, speed: float, minutes: float, passes: float, too_little: bool, enough: int
) -> None:
    prediction = Prediction(600, tokens, speed, minutes)
    assert prediction.passes == pytest.approx(passes)
    assert prediction.too_little is too_little
    assert prediction.enough_minutes == enough
    assert not Prediction(600, tokens, speed, prediction.enough_minutes).too_little
    for words in (f"{tokens:,} tokens", f"{speed:,.0f} tokens a second", f"{minutes} minutes are {passes:.2g} passes"):
        assert words in prediction.sentence


def test_the_speed_is_measured_and_leaves_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen_lsp.training.adaptation.prediction.SECONDS", 0.0)
    shape = ModelShape(vocabulary=512, width=64, layers=2, heads=4, rotary=16, positions=512)
    model = TrainableCodeGen(shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = TrainingConfig(
        shape, minutes=1.0, workers=2, batch_tokens=1024, pass_tokens=512, row_lengths=((0, 512),), bfloat16=False,
        device="cpu",
    )  # fmt: skip
    assert tokens_per_second(model, config) > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
