"""The optimisers: NorMuon for the blocks' matrices, AdamW for embedding, output layer, norms and biases.

Muon (Jordan et al., 2024) replaces the momentum of a matrix by its nearest semi-orthogonal matrix; NorMuon (Li et al.,
arXiv 2510.05491) then divides each row by a running estimate of its root mean square. The orthogonalisation is the
Polar Express iteration (Amsel et al., arXiv 2505.16932). AdamW's beta2 follows from a half-life in tokens, so that it
suits any batch size (Marek et al., arXiv 2507.07101).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from codegen_lsp.training.model import TrainableCodeGen

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of five iterations for singular values in [0.001, 1]; safety factor 0.02."""
MOMENTUM = 0.95
ROW_BETA = 0.95
"""Decay rate of the second moment of a row's update."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return approximations of the nearest semi-orthogonal matrices; `matrices` is (count, rows, columns)."""
    x: Tensor = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = x.mT if tall else x
    return result


class NorMuon(torch.optim.Optimizer):
    """NorMuon over matrices; matrices of one shape are updated together.

    The learning rate is Muon's: an update has spectral norm about lr * sqrt(max(1, rows / columns)). Weight decay is
    decoupled and proportional to the learning rate.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient; `closure` is not supported."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for matrices in shapes.values():
                self._update(matrices, group["lr"], group["weight_decay"])

    def _update(self, matrices: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        states: list[dict[str, Any]] = [self.state[matrix] for matrix in matrices]
        for matrix, state in zip(matrices, states, strict=True):
            if not state:
                state["momentum"] = torch.zeros_like(matrix)
                state["row_moment"] = torch.zeros_like(matrix[:, :1])
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [state["momentum"] for state in states]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        nesterov = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        update = orthogonalise(torch.stack(list(nesterov))).float()
        size = update.norm(dim=(-2, -1), keepdim=True)
        moment = torch.stack([state["row_moment"] for state in states])
        moment.lerp_(update.square().mean(-1, keepdim=True), 1 - ROW_BETA)
        update = update / (moment.sqrt() + 1e-8)
        rows, columns = matrices[0].shape
        scale = lr * max(1.0, rows / columns) ** 0.5
        update *= scale * size / (update.norm(dim=(-2, -1), keepdim=True) + 1e-8)
        torch._foreach_copy_([state["row_moment"] for state in states], list(moment.unbind()))
        parameters = [matrix.detach() for matrix in matrices]
        if weight_decay:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_sub_(parameters, list(update.unbind()))


def beta2(batch_tokens: int, half_life: float) -> float:
    """Return Adam's second-moment decay rate whose half-life is `half_life` tokens."""
    return float(0.5 ** (batch_tokens / half_life))


def build_optimizers(
    model: TrainableCodeGen, muon_rate: float, adam_rate: float, adam_beta2: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return [NorMuon, AdamW] over all parameters of the model, or AdamW alone where `muon_rate` is 0.

    The embedding's learning rate is scaled like the embedding itself, so that untying does not change its speed. Each
    parameter group has its learning rate at the plateau as "base_lr".
    """
    matrices = [p for name, p in model.named_parameters() if name.startswith("blocks") and p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    embedding_rate = adam_rate * model.embedding_scale
    muon: list[torch.optim.Optimizer] = [NorMuon(matrices, muon_rate, weight_decay)] if muon_rate else []
    by_adam = [model.output.weight, *([] if muon_rate else matrices)]
    optimizers = [
        *muon,
        torch.optim.AdamW(
            [
                {"params": by_adam, "lr": adam_rate, "weight_decay": weight_decay},
                {"params": [model.embedding.weight], "lr": embedding_rate, "weight_decay": 0.0},
                {"params": vectors, "lr": adam_rate, "weight_decay": 0.0},
            ],
            betas=(0.9, adam_beta2),
            fused=True,
        ),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def untie(model: TrainableCodeGen, adam: torch.optim.Optimizer) -> None:
    """Untie the model's embedding and give it the output matrix's moments, scaled like its gradient."""
    model.untie()
    source = adam.state.get(model.output.weight)
    if source:
        scale = 1 / model.embedding_scale
        adam.state[model.embedding.weight] = {
            "step": source["step"].clone(),
            "exp_avg": source["exp_avg"] * scale,
            "exp_avg_sq": source["exp_avg_sq"] * scale**2,
        }


def set_learning_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to `factor` times its value at the plateau."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def set_weight_decay(optimizers: list[torch.optim.Optimizer], value: float) -> None:
    """Set the weight decay of every parameter group that has one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if group["weight_decay"]:
                group["weight_decay"] = value
