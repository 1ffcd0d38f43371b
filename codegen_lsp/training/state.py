"""State of a training run and its checkpoints.

Two checkpoints are kept apart: `plateau.pt`, from before the learning rate's decay, from which training can go on with
a larger budget; and `cooldown.pt`, from during or after the decay, which holds the averaged weights that are exported.
Writing is atomic, and the version before is kept as `*.previous.pt`, so that at every moment one complete checkpoint
exists.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.data import RowSampler, SamplerPosition
from codegen_lsp.training.model import ModelShape, TrainableCodeGen, TrainableModel

PLATEAU = "plateau.pt"
COOLDOWN = "cooldown.pt"


@attrs.define
class TrainingState:
    """Everything that changes during a run; all of it is in a checkpoint.

    `decay_start` and `decay_length` are in the budget's unit (seconds or steps); None on the plateau. `average` holds
    the exponential moving average of the weights over the decay, by parameter name.
    """

    model: TrainableModel
    optimizers: list[torch.optim.Optimizer]
    sampler: RowSampler
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    decay_start: float | None = None
    decay_length: float | None = None
    average: dict[str, Tensor] | None = None

    def spent(self, in_steps: bool) -> float:
        """Return the part of the budget that is spent, in steps or seconds."""
        return float(self.step) if in_steps else self.seconds

    def decay_progress(self, in_steps: bool) -> float:
        """Return the share of the decay that has passed; 0 on the plateau."""
        if self.decay_start is None or not self.decay_length:
            return 0.0
        return min((self.spent(in_steps) - self.decay_start) / self.decay_length, 1.0)

    def update_average(self, weight: float) -> None:
        """Move the averaged weights towards the current ones by the share `weight`."""
        current = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        if self.average is None:
            self.average = {name: tensor.clone() for name, tensor in current.items()}
            return
        torch._foreach_lerp_(list(self.average.values()), [current[name] for name in self.average], weight)

    def use_average(self) -> None:
        """Give the model the averaged weights, if there are any, and end that it is tied."""
        if self.average is not None:
            self.model.load_state_dict(self.average)
        if isinstance(self.model, TrainableCodeGen) and self.model.tied:
            self.model.untie()


def save(state: TrainingState, path: Path) -> None:
    """Write a checkpoint to `path`, keeping the one before as `*.previous.pt`."""
    content = {
        "model": state.model.state_dict(),
        "tied": state.model.tied,
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "position": attrs.asdict(state.sampler.position),
        "shape": attrs.asdict(state.model.shape),
        "average": state.average,
    }
    names = ("step", "tokens", "seconds", "decay_start", "decay_length")
    content |= {name: getattr(state, name) for name in names}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    if path.exists():
        path.replace(previous(path))
    partial.replace(path)


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the one at `path`."""
    return path.with_suffix(".previous.pt")


def read(path: Path) -> dict[str, Any] | None:
    """Return the content of the newest complete checkpoint at `path`, on the CPU, or None without one."""
    for candidate in (path, previous(path)):
        try:
            content: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError):
            continue
        return content
    return None


def restore(state: TrainingState, content: dict[str, Any], path: Path) -> None:
    """Set the state to a checkpoint's content. Raises CorpusError when the model has another shape."""
    if content["shape"] != attrs.asdict(state.model.shape):
        raise CorpusError(f"{path} holds a model of another shape.", "Choose another folder or delete this one.")
    state.model.load_state_dict(content["model"])
    state.model.tied = content["tied"]
    for mine, saved in zip(state.optimizers, content["optimizers"], strict=True):
        rates = [(group["base_lr"], group["weight_decay"]) for group in mine.param_groups]
        mine.load_state_dict(saved)
        for group, (base_lr, weight_decay) in zip(mine.param_groups, rates, strict=True):
            group["base_lr"], group["weight_decay"] = base_lr, weight_decay
    state.sampler.position = SamplerPosition(**content["position"])
    for name in ("step", "tokens", "seconds", "decay_start", "decay_length"):
        setattr(state, name, content[name])
    device = next(state.model.parameters()).device
    average = content["average"]
    state.average = None if average is None else {name: tensor.to(device) for name, tensor in average.items()}


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a run on the CPU, by name: the averaged ones of the cooldown, else the plateau's.

    Raises CorpusError when the folder has no checkpoint.
    """
    content = _newest(folder)
    weights: dict[str, Tensor] = content["model"] if content["average"] is None else content["average"]
    return weights


def load_model(folder: Path) -> TrainableCodeGen:
    """Return the model of a run on the CPU, untied: the averaged weights of the cooldown, else the plateau's.

    Raises CorpusError when the folder has no checkpoint.
    """
    content = _newest(folder)
    model = TrainableCodeGen(ModelShape(**content["shape"]))
    model.load_state_dict(content["model"])
    if content["average"] is not None:
        model.load_state_dict(content["average"])
    if content["tied"]:
        model.untie()
    return model


def _newest(folder: Path) -> dict[str, Any]:
    content = read(folder / COOLDOWN) or read(folder / PLATEAU)
    if content is None:
        raise CorpusError(f"{folder} has no checkpoint.", "Train first.")
    return content
