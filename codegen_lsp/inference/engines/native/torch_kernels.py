"""Products of activations with quantized weights: the kernels of torch for int8, and the choice among them.

The arithmetic is that of CTranslate2. The activations x of each token are rounded to q = rint(127 x / a) with
a = max |x|; q and the int8 weights are multiplied exactly, in integers; the sum is scaled by a / 127 and by the scale
of the row. So the result for a token does not depend on the tokens that are computed with it, and a cached prefix
equals one that is computed again.

Some of torch's interfaces for this are private, deprecated (quantized tensors, which prepacking needs:
pytorch/pytorch#184982), or overflow on processors without the right instructions (fbgemm's sums of byte products
saturate at 16 bits on AVX2). So a kernel is used only if it computes the exact integer product on this machine, with
the largest values. `docs/lab.md` has the measurements behind the order of preference.

Matrices of 4 bits are converted to floats at each product, and multiplied by the same rounded activations: the
reference for the library in C, and a slow substitute where that can't be used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from codegen_lsp.errors import OtherEngineError
from codegen_lsp.inference.engines.native.matrices import ZERO, FourBitMatrix, QuantizedMatrix

SMALLEST = 1e-10
"""Lower bound of the largest magnitude, for activations that are all zero."""
ROUNDING = 1e-6
"""Tolerance for the float32 operations around the integer product, relative."""


@frozen(eq=False)
class TorchMatrix:
    """A `Matrix` as tensors."""

    values: Tensor
    scales: Tensor

    def floats(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return rows as float32, (rows, columns)."""
        return self.values[rows].float().div_(self.scales[rows, None])

    def chosen(self, rows: Tensor, factors: Tensor) -> TorchMatrix:
        """Return rows of the matrix, each multiplied by a factor."""
        return TorchMatrix(self.values[rows], self.scales[rows] / factors)


@frozen(eq=False)
class TorchFourBitMatrix:
    """A `FourBitMatrix` as tensors."""

    values: Tensor
    """uint8, (rows, columns / 2)."""
    scales: Tensor
    """float32, (rows, groups)."""

    def floats(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return rows as float32, (rows, columns)."""
        scales = self.scales[rows, :, None]
        packed = self.values[rows].view(*scales.shape[:2], -1)
        numbers = torch.cat((packed & 15, packed >> 4), -1).float().sub_(ZERO).mul_(scales)
        return numbers.flatten(1)

    def chosen(self, rows: Tensor, factors: Tensor) -> TorchFourBitMatrix:
        """Return rows of the matrix, each multiplied by a factor."""
        return TorchFourBitMatrix(self.values[rows], self.scales[rows] * factors[:, None])


AnyTorchMatrix = TorchMatrix | TorchFourBitMatrix


def as_tensors(matrix: QuantizedMatrix) -> AnyTorchMatrix:
    """Return a matrix as tensors that share the memory of its values."""
    if isinstance(matrix, FourBitMatrix):
        return TorchFourBitMatrix(torch.from_numpy(matrix.values), torch.from_numpy(matrix.scales.astype(np.float32)))
    return TorchMatrix(torch.from_numpy(matrix.values), torch.from_numpy(matrix.scales))


class Product(Protocol):
    """A matrix, ready to multiply activations."""

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        """Return `base` plus `x` times the matrix: float32, (tokens, inputs) to (tokens, outputs).

        `base` is a bias or a residual, of a shape that broadcasts to that of the result.
        """


Kernel = Callable[[Sequence[TorchMatrix]], Product]
"""Makes one Product of matrices with the same inputs; their outputs are concatenated."""


def reference(x: Tensor, matrices: Sequence[TorchMatrix]) -> Tensor:
    """Return the exact product, computed in integers: float32, (tokens, outputs). Slow."""
    largest = x.abs().amax(-1, keepdim=True).clamp_min(SMALLEST)
    rounded = (x / largest * 127).round().long()
    parts = [
        (rounded @ matrix.values.long().t()).double() * largest.double() / 127 / matrix.scales.double()
        for matrix in matrices
    ]
    return torch.cat(parts, -1).float()


class Prepacked:
    """The kernel of fbgemm or oneDNN behind torch's quantized tensors: the fastest one, with a copy of the weights.

    It takes one activation scale for the whole call. So each token is divided by its largest magnitude first, which
    makes the scale 1/127 for all tokens, and the result is multiplied by it.
    """

    def __init__(self, matrices: Sequence[TorchMatrix]) -> None:
        values, scales = _joined(matrices)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = torch._make_per_channel_quantized_tensor(
                values, scales.double().reciprocal(), torch.zeros(len(scales), dtype=torch.long), 0
            )
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._multiply = _direct(torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default)

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        largest = x.abs().amax(-1, True).clamp_min_(SMALLEST)
        return torch.addcmul(base, self._multiply(x / largest, 1 / 127, 128, self._packed), largest)


class Mapped:
    """`torch._int_mm` on the mapped weights: no copy, slower for few tokens, works everywhere."""

    def __init__(self, matrices: Sequence[TorchMatrix]) -> None:
        self._parts = [(matrix.values.t(), matrix.scales.reciprocal() / 127) for matrix in matrices]

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        largest = x.abs().amax(-1, True).clamp_min_(SMALLEST)
        rounded = (x / largest).mul_(127).round_().to(torch.int8)
        parts = [torch._int_mm(rounded, values).float().mul_(scales) for values, scales in self._parts]
        return torch.addcmul(base, parts[0] if len(parts) == 1 else torch.cat(parts, -1), largest)


class Dequantized:
    """Products with floats that are computed from the quantized matrices at each call: slow, with no copy kept."""

    def __init__(self, matrices: Sequence[AnyTorchMatrix]) -> None:
        self._matrices = matrices

    def __call__(self, x: Tensor, base: Tensor) -> Tensor:
        largest = x.abs().amax(-1, True).clamp_min_(SMALLEST)
        rounded = (x / largest).mul_(127).round_()
        parts = [F.linear(rounded, matrix.floats()) for matrix in self._matrices]
        return torch.addcmul(base, torch.cat(parts, -1), largest / 127)


def product(matrices: Sequence[AnyTorchMatrix], kernel: Kernel) -> Product:
    """Return the product with matrices of the same inputs: by the kernel, if all of them are int8."""
    whole = [matrix for matrix in matrices if isinstance(matrix, TorchMatrix)]
    return kernel(whole) if len(whole) == len(matrices) else Dequantized(matrices)


KERNELS: tuple[Kernel, ...] = (Prepacked, Mapped)
"""Best first."""


@cache
def choose_kernel(kernels: tuple[Kernel, ...] = KERNELS) -> Kernel:
    """Return the first kernel that is exact here. Raises: OtherEngineError when there is none."""
    for kernel in kernels:
        if is_exact(kernel):
            return kernel
    raise OtherEngineError("This build of torch can't multiply int8 matrices.", "Set `engine` to `ct2`.")


def is_fast() -> bool:
    """Return whether torch's kernels use AVX2 or better here."""
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX")


def is_exact(kernel: Kernel) -> bool:
    """Return whether the kernel exists here and equals the integer product, for one token and for many."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (64, 256), generator=generator, dtype=torch.int8)
    values[:8] = 127
    values[8:16] = -127
    matrices = [TorchMatrix(part, torch.linspace(100, 900, len(part))) for part in (values[:48], values[48:])]
    x = torch.randn(33, 256, generator=generator)
    x[0], x[1], x[2] = 1.0, -1.0, 0.0
    expected = reference(x, matrices)
    bound = ROUNDING * float(expected.abs().max())
    try:
        multiply = kernel(matrices)
        return all(
            float((multiply(x[:rows], torch.zeros(64)) - expected[:rows]).abs().max()) <= bound for rows in (1, 3, 33)
        )
    except (RuntimeError, NotImplementedError, AttributeError):
        return False


def _direct(operator: Any) -> Callable[..., Tensor]:
    """Return the operator without its Python wrapper, which checks each argument for tracing: 5 of 30 us."""
    found: Callable[..., Tensor] = getattr(operator, "_op", operator)
    return found


def _joined(matrices: Sequence[TorchMatrix]) -> tuple[Tensor, Tensor]:
    """Return the values and scales of the matrices, concatenated by rows."""
    return torch.cat([matrix.values for matrix in matrices]), torch.cat([matrix.scales for matrix in matrices])
