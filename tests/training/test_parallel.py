"""Two processes that divide a batch compute the gradients of one, also where one of them gets no rows."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import Batch
from codegen_lsp.training.gradients import GradientPasses
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.parallel import ALONE, Processes

SHAPE = ModelShape(vocabulary=60, width=32, layers=2, heads=4, rotary=8, positions=32)
CONFIG = TrainingConfig(
    SHAPE, steps=1, batch_tokens=96, pass_tokens=32, row_lengths=((0, 32),), bfloat16=False, device="cpu"
)


def batch(rows: int) -> Batch:
    """Return rows with different numbers of counted targets, so that a mean of the processes' means would be wrong."""
    dice = np.random.default_rng(rows)
    ids = dice.integers(60, size=(rows, 33))
    targets = ids[:, 1:].copy()
    targets[0, :25] = -1
    return Batch(np.ascontiguousarray(ids[:, :-1]), targets, dice.random((rows, 32)).astype(np.float16))


def gradients(processes: Processes, rows: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of a model that is the same in every process."""
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    model.untie()
    loss = GradientPasses(model, CONFIG, torch.device("cpu"), processes)(batch(rows), mixture=True)
    return float(loss), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]


SECOND = """
import sys
import torch.distributed as dist
from codegen_lsp.training.parallel import Processes
from tests.training.test_parallel import gradients
dist.init_process_group("gloo", init_method=sys.argv[1], rank=1, world_size=2)
processes = Processes(1, 2)
for rows in (3, 1):
    gradients(processes, rows)
assert processes.agreed(5.0, True) == [7.0, 0.0]
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    import torch.distributed as dist

    expected = {rows: gradients(ALONE, rows) for rows in (3, 1)}
    place = f"file://{tmp_path / 'store'}"
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", SECOND, place], cwd=root) as second:
        dist.init_process_group("gloo", init_method=place, rank=0, world_size=2)
        try:
            processes = Processes(0, 2)
            for rows, (loss, one) in expected.items():
                found_loss, found = gradients(processes, rows)
                assert found_loss == pytest.approx(loss, rel=1e-5)
                for name, gradient in one.items():
                    assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name
            assert processes.agreed(7.0, False) == [7.0, 0.0]
        finally:
            dist.destroy_process_group()
        assert second.wait() == 0


def test_every_row_is_computed_once() -> None:
    whole = batch(5)
    for size in (1, 2, 3, 5, 7):
        parts = [Processes(rank, size).part(whole) for rank in range(size)]
        assert np.array_equal(np.concatenate([part.inputs for part in parts]), whole.inputs)
        assert np.array_equal(np.concatenate([part.targets for part in parts]), whole.targets)
        assert sum(len(part.gains) for part in parts if part.gains is not None) == 5
