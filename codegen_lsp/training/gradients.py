"""Gradients of a batch: forward and backward passes over parts of it, concurrently on a CPU.

Concurrent passes on one thread each are faster than one pass on several threads where other programs compete for the
cores: passes wait for each other once a step, threads at every operation.
"""

from __future__ import annotations

import copy
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import Batch
from codegen_lsp.training.model import TrainableModel
from codegen_lsp.training.parallel import ALONE, Processes


class GradientPasses:
    """Forward and backward passes on replicas that share the model's weights and have gradients of their own."""

    def __init__(
        self, model: TrainableModel, config: TrainingConfig, device: torch.device, processes: Processes = ALONE
    ) -> None:
        self.processes = processes
        self.workers = config.workers if device.type == "cpu" else 1
        self.config = config
        self.device = device
        self.model = model
        self.replicas = [model, *(copy.deepcopy(model) for _ in range(self.workers - 1))]
        for replica in self.replicas[1:]:
            for mine, shared in zip(replica.parameters(), model.parameters(), strict=True):
                mine.data = shared.data
        self._free: queue.SimpleQueue[TrainableModel] = queue.SimpleQueue()
        for replica in self.replicas:
            self._free.put(replica)
        if self.workers > 1:
            torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, batch: Batch, mixture: bool) -> Tensor:
        """Store the mean loss's gradient in the model's parameters and return that loss in nats per token.

        With `mixture` the loss is that of the mixture with n-grams. With several processes, each computes its part.
        """
        counted = int((batch.targets >= 0).sum())
        batch = self.processes.part(batch)
        inputs, targets = self._on_device(batch.inputs), self._on_device(batch.targets)
        gains = self._on_device(batch.gains) if mixture and batch.gains is not None else None
        for replica in self.replicas[1:]:
            replica.tied = self.model.tied
        rows = max(self.config.pass_tokens // inputs.shape[1], 1)
        parts = [
            (inputs[i : i + rows], targets[i : i + rows], None if gains is None else gains[i : i + rows], counted)
            for i in range(0, len(inputs), rows)
        ]
        run = self._pool.map if self.workers > 1 else map
        total = torch.stack([torch.zeros((), device=self.device), *run(self._pass, parts)]).sum()
        for replica in self.replicas[1:]:
            for mine, shared in zip(replica.parameters(), self.model.parameters(), strict=True):
                if mine.grad is not None:
                    shared.grad = mine.grad if shared.grad is None else shared.grad.add_(mine.grad)
                    mine.grad = None
        return self.processes.sum_gradients(self.model, total)

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        """Copy to the device without waiting for the computations queued there."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _pass(self, part: tuple[Tensor, Tensor, Tensor | None, int]) -> Tensor:
        inputs, targets, gains, counted = part
        replica = self._free.get()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
                loss: Tensor = replica.loss(inputs, targets, gains) / counted
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        finally:
            self._free.put(replica)
