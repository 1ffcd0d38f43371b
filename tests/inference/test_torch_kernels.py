"""Products of activations and int8 weights equal those computed in integers."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.engines.native.torch_kernels import (
    KERNELS,
    Kernel,
    Mapped,
    TorchMatrix,
    choose_kernel,
    is_exact,
    reference,
)

AVAILABLE = [kernel for kernel in KERNELS if is_exact(kernel)]


class Saturating(Mapped):
    """A kernel whose sums saturate, as those of byte products in 16 bits do without VNNI."""

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        return super().__call__(x, base).clamp(-10, 10)


class Missing:
    def __init__(self, matrices: Sequence[TorchMatrix]) -> None:
        raise NotImplementedError

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        raise NotImplementedError


def random_matrix(rows: int, columns: int, generator: torch.Generator) -> TorchMatrix:
    values = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
    return TorchMatrix(values, torch.rand(rows, generator=generator) * 1000 + 10)


@pytest.mark.parametrize("kernel", AVAILABLE)
@pytest.mark.parametrize(("rows", "columns"), [(768, 256), (1024, 256), (256, 1024), (8192, 256), (51, 64)])
def test_products_are_exact(kernel: Kernel, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    matrices = [random_matrix(rows, columns, generator), random_matrix(16, columns, generator)]
    product = kernel(matrices)
    base = torch.randn(rows + 16, generator=generator)
    for tokens in (1, 2, 5, 40):
        x = torch.randn(tokens, columns, generator=generator) * 10 ** torch.linspace(-3, 3, tokens)[:, None]
        expected = reference(x, matrices) + base
        assert torch.allclose(product(x, base), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("kernel", AVAILABLE)
def test_a_result_does_not_depend_on_the_other_tokens(kernel: Kernel) -> None:
    generator = torch.Generator().manual_seed(0)
    product = kernel([random_matrix(300, 256, generator)])
    x = torch.randn(50, 256, generator=generator) * torch.rand(50, 1, generator=generator)
    base = torch.zeros(300)
    whole = product(x, base)
    for begin, end in ((0, 1), (3, 5), (7, 40), (49, 50)):
        assert torch.equal(product(x[begin:end], base), whole[begin:end])


def test_an_inexact_kernel_is_skipped() -> None:
    assert not is_exact(Saturating)
    assert choose_kernel((Missing, Saturating, Mapped)) is Mapped
    with pytest.raises(ModelError, match="int8"):
        choose_kernel((Missing, Saturating))
