"""NorMuon orthogonalises, keeps its scale and decays weights; untying keeps AdamW's moments."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import pytest
import torch
from torch import nn

from codegen_lsp.training import optimizer
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

SHAPE = ModelShape(vocabulary=50, width=32, layers=1, heads=4, rotary=8, positions=64)


@pytest.mark.parametrize("size", [(64, 64), (128, 32), (32, 128)])
def test_orthogonalised_matrices_have_singular_values_near_one(size: tuple[int, int]) -> None:
    matrices = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    matrices[1] *= 1000
    values = torch.linalg.svdvals(optimizer.orthogonalise(matrices).float())
    assert values.max() < 1.3
    assert values.median() > 0.7


def test_updates_of_one_shape_are_those_of_each_matrix_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(16, 8, generator=generator) for _ in range(3)]
    gradients = [[torch.randn(16, 8, generator=generator) for _ in range(3)] for _ in range(4)]

    def trained(which: list[int]) -> list[torch.Tensor]:
        parameters = [nn.Parameter(starts[i].clone()) for i in which]
        normuon = optimizer.NorMuon(parameters, lr=0.1, weight_decay=0.1)
        for step in gradients:
            for i, parameter in zip(which, parameters, strict=True):
                parameter.grad = step[i].clone()
            normuon.step()
        return [parameter.detach() for parameter in parameters]

    together = trained([0, 1, 2])
    for i in range(3):
        torch.testing.assert_close(trained([i])[0], together[i], rtol=1e-2, atol=1e-2)


def test_the_size_of_an_update_is_muons_and_rows_are_equal() -> None:
    matrix = nn.Parameter(torch.zeros(128, 32))
    normuon = optimizer.NorMuon([matrix], lr=0.1)
    matrix.grad = torch.randn(128, 32, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, 128)[:, None]
    normuon.step()
    assert float(matrix.norm()) == pytest.approx(0.1 * 2 * 32**0.5, rel=0.15)
    rows = matrix.detach().norm(dim=1)
    torch.testing.assert_close(rows, rows.mean().expand(128), rtol=0.02, atol=0)


def test_beta2_has_its_half_life_in_tokens() -> None:
    assert optimizer.beta2(4096, 4096) == 0.5
    assert optimizer.beta2(4096, 4e6) ** (4e6 / 4096) == pytest.approx(0.5)


def test_untying_keeps_the_moments_in_scale() -> None:
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(0))
    adam = optimizer.build_optimizers(model, 0.01, 0.002, 0.99, 0.0)[1]
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(0))
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    adam.step()
    assert not adam.state[model.embedding.weight]
    optimizer.untie(model, adam)
    moments, source = adam.state[model.embedding.weight], adam.state[model.output.weight]
    torch.testing.assert_close(moments["exp_avg"] * model.embedding_scale, source["exp_avg"])
    torch.testing.assert_close(moments["exp_avg_sq"] * model.embedding_scale**2, source["exp_avg_sq"])
    adam.zero_grad()
    before = model.embedding.weight.detach().clone()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    adam.step()
    assert (model.embedding.weight != before).any()
