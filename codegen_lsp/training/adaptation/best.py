"""The best weights of a training so far, by the loss on held-out files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from codegen_lsp.training.model import TrainableModel
from codegen_lsp.training.state import TrainingState

BEST = "best.pt"
LOSS = "mixed_nats_per_token"


class BestWeights:
    """Keeps the best weights in a file, and tells when the loss no longer falls.

    `patience` is the number of validations in a row without a better loss after which it is enough.
    """

    def __init__(self, folder: Path, patience: int) -> None:
        self.path = folder / BEST
        self.patience = patience
        self.loss = float("inf")
        self.without = 0
        if self.path.exists():
            self.loss = torch.load(self.path, map_location="cpu", weights_only=True)["loss"]

    def enough(self, run: TrainingState, model: TrainableModel, validation: Mapping[str, float]) -> bool:
        """Keep the model's weights if they are the best ones; return true if training should end."""
        loss = validation.get(LOSS, validation["nats_per_token"])
        if loss >= self.loss:
            self.without += 1
            return self.without >= self.patience
        self.loss, self.without = loss, 0
        content = {
            "model": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
            "shape": attrs.asdict(model.shape),
            "loss": loss,
            "tokens": run.tokens,
            "seconds": run.seconds,
        }
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path)
        return False


def load_best(folder: Path) -> dict[str, Tensor]:
    """Return the best weights of a training in a folder, by name."""
    weights: dict[str, Tensor] = torch.load(folder / BEST, map_location="cpu", weights_only=True)["model"]
    return weights
