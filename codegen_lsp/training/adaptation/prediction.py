"""A rough prediction, made before an adaptation takes time: how much of the code can be read in the minutes given.

The speed is measured with forward and backward passes on random tokens, as the machine is at that moment.
"""

from __future__ import annotations

import copy
import time

import attrs
import numpy as np
from attrs import frozen

from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import Batch
from codegen_lsp.training.gradients import GradientPasses
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.train import choose_device

ROW = 256
"""Tokens of a row that is timed."""
SECONDS = 3.0
"""Time after which no further pass is timed."""
LEAST_PASSES = 1 / 12
"""Share of the code that was trained on, once, in the least of the measured adaptations (docs/lab.md)."""
WORTHWHILE_PASSES = 1.0
"""Share of the code for which enough minutes are advised: about what was measured to bring a gain."""
MEASURED = (
    "About one pass saved 1 to 3 % of the bits beside the n-grams on three of five repositories, nothing certain on "
    "the others; a quarter of one hardly anything."
)


@frozen
class Prediction:
    """A budget, in passes over the code on this machine."""

    files: int
    tokens: int
    """Tokens of one pass over the code and the general code beside it."""
    tokens_per_second: float
    minutes: float
    """The budget."""

    @property
    def passes(self) -> float:
        """How often everything can be read in the minutes."""
        return self.minutes * 60 * self.tokens_per_second / self.tokens

    @property
    def enough_minutes(self) -> int:
        """Minutes for `WORTHWHILE_PASSES`, rounded up to ten."""
        minutes = WORTHWHILE_PASSES * self.tokens / self.tokens_per_second / 60
        return 10 * max(1, -int(-minutes // 10))

    @property
    def too_little(self) -> bool:
        """True if less can be read than in any adaptation that was measured."""
        return self.passes < LEAST_PASSES

    @property
    def sentence(self) -> str:
        """The prediction in words."""
        return (
            f"{self.files:,} files of yours, about {self.tokens:,} tokens with general code beside them. This machine "
            f"trains on {self.tokens_per_second:,.0f} tokens a second now, so {self.minutes:g} minutes are "
            f"{self.passes:.2g} passes. {MEASURED}"
        )


def tokens_per_second(model: TrainableCodeGen, config: TrainingConfig) -> float:
    """Return the speed of training, measured for some seconds. The model stays as it is."""
    device = choose_device(config.device)
    rows = config.workers if device.type == "cpu" else config.pass_tokens // ROW
    at_once = ROW if device.type == "cpu" else rows * ROW
    short = attrs.evolve(config, batch_tokens=rows * ROW, pass_tokens=at_once, row_lengths=((0, ROW),))
    passes = GradientPasses(copy.deepcopy(model).to(device), short, device)
    ids = np.random.default_rng(0).integers(0, model.shape.vocabulary, (rows, ROW + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), None)
    passes(batch, mixture=False).item()  # the first pass is slower
    began, done = time.monotonic(), 0
    while True:
        passes(batch, mixture=False).item()
        done += batch.inputs.size
        if (spent := time.monotonic() - began) >= SECONDS:
            return done / spent
