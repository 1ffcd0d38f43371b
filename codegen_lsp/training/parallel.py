"""Data-parallel training: several processes divide the rows of each batch and sum their gradients.

Every process draws the whole batch, by the same seed, and computes its part of the rows. The loss of a part is divided
by the number of targets of the whole batch, so the sum of the gradients is that of one process, up to the order of
summation, and a checkpoint says nothing about the number of processes: a run goes on with any other. Clocks differ, so
the first process decides what depends on time, and tells the others.
"""

from __future__ import annotations

import attrs
import torch
import torch.distributed as dist
from torch import Tensor, nn

from codegen_lsp.training.data import Batch


@attrs.frozen
class Processes:
    """This process among those of a training; by default it is alone.

    With more than one, torch's default process group must have been initialised, gloo for a CPU and NCCL for CUDA.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True in the process that measures, reports and writes."""
        return self.rank == 0

    def part(self, batch: Batch) -> Batch:
        """Return the rows of a batch that this process computes, which may be none."""
        if self.size == 1:
            return batch
        rows = len(batch.inputs)
        mine = slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)
        gains = None if batch.gains is None else batch.gains[mine]
        return Batch(batch.inputs[mine], batch.targets[mine], gains)

    def sum_gradients(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Replace the gradients of a model by their sums over all processes; return the sum of the losses."""
        if self.size == 1:
            return loss
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        parts = [loss.reshape(1), *(parameter.grad.reshape(-1) for parameter in trained if parameter.grad is not None)]
        together = torch.cat([part.float() for part in parts])
        dist.all_reduce(together)
        sums = torch.split(together[1:], [parameter.numel() for parameter in trained])
        for parameter, summed in zip(trained, sums, strict=True):
            parameter.grad = summed.view_as(parameter).to(parameter.dtype)
        return together[0]

    def agreed(self, *values: float) -> list[float]:
        """Return the first process's values. All processes must call this at the same places."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return [float(value) for value in shared]

    def saved(self) -> None:
        """Do what is to be done in every process after the first one has written a checkpoint."""


ALONE = Processes()
