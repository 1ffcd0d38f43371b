"""The CodeGen block in a form that trains fast.

It computes what transformers' `CodeGenForCausalLM` computes (attention and MLP side by side behind one LayerNorm,
rotary positions, tanh-approximated GELU, an output layer with a bias of its own) and `export` proves it logit by
logit. What differs is only the layout: query, key and value are separate matrices (Muon orthogonalises each on its
own), rotary pairs lie in two halves instead of interleaved (contiguous reads), and the output layer's loss never
holds the logits of more than a few hundred tokens (with 8,192 entries they would outweigh everything else).
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOSS_CHUNK = 512
"""Tokens whose logits are held at once on a CPU, where they should stay in its caches."""
GPU_LOSS_CHUNK = 16384
"""The same on a GPU, which wants large matrices."""


@attrs.frozen
class Shape:
    """The numbers that make a model of the CodeGen architecture.

    `heads` must be divisible by 4, since CodeGen packs query, value and key in four groups of heads. Head widths of
    128 and 256 are refused: CTranslate2's converter takes them for CodeGen2, which has eight groups.
    """

    vocabulary: int = 8192
    width: int = 256
    layers: int = 6
    heads: int = 8
    rotary: int = 32
    positions: int = 2048

    def __attrs_post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % 4:
            raise ValueError(f"heads must be divisible by 4, not {self.heads}")
        if self.head_width in (128, 256):
            raise ValueError(f"a head width of {self.head_width} would be converted as CodeGen2; use 32 or 64")
        if self.rotary > self.head_width or self.rotary % 2:
            raise ValueError(f"rotary must be even and at most the head width {self.head_width}, not {self.rotary}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def rotary_tables(shape: Shape, length: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (length, rotary), with the frequencies of RoFormer (10000 ** (-2i / rotary))."""
    frequencies = 1.0 / 10000 ** (torch.arange(0, shape.rotary, 2, device=device, dtype=torch.float32) / shape.rotary)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([angles.sin(), angles.sin()], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first `rotary` entries of every head by position. `x` is (batch, heads, length, head width)."""
    width = cos.shape[-1]
    turned, rest = (x, None) if width == x.shape[-1] else (x[..., :width], x[..., width:])
    half = width // 2
    swapped = torch.cat([-turned[..., half:], turned[..., :half]], -1)
    turned = (turned * cos + swapped * sin).to(x.dtype)
    return turned if rest is None else torch.cat([turned, rest], -1)


class Block(nn.Module):
    """Attention and MLP side by side behind one LayerNorm, added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        normed = self.norm(x)
        wide = F.linear(normed, torch.cat([self.query.weight, self.key.weight, self.value.weight, self.up.weight]))
        qkv, hidden = wide[..., : 3 * width], wide[..., 3 * width :]
        q, k, v = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        hidden = F.gelu(hidden + self.up.bias, approximate="tanh")
        result: Tensor = x + self.attention_out(mixed) + self.down(hidden)
        return result


class TrainableCodeGen(nn.Module):
    """A CodeGen model whose `forward` gives the final hidden states, (batch, length, width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.output = nn.Linear(shape.width, shape.vocabulary)
        cos, sin = rotary_tables(shape, shape.positions)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def initialise(self, generator: torch.Generator) -> None:
        """Small random matrices; the two that write to the residual stream and the output layer start at zero, so the
        model starts as an even guess (maximal update parametrization's advice for the output layer)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.endswith(("attention_out.weight", "down.weight", "output.weight")):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            elif name.startswith("embedding"):
                nn.init.normal_(parameter, std=0.5, generator=generator)
            else:
                bound = math.sqrt(3.0 / parameter.shape[1]) * 0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        """`ids` is (batch, length) of token ids; the result (batch, length, width)."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, ids: Tensor) -> Tensor:
        """(batch, length) -> (batch, length, vocabulary), as CodeGenForCausalLM gives them."""
        result: Tensor = self.output(self(ids))
        return result

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Sum of the cross entropies in nats over the targets that are not negative."""
        hidden = self(ids).reshape(-1, self.shape.width)
        return output_loss(hidden, self.output.weight, self.output.bias, targets.reshape(-1))


def _chunks(hidden: Tensor) -> list[slice]:
    size = LOSS_CHUNK if hidden.device.type == "cpu" else GPU_LOSS_CHUNK
    return [slice(start, start + size) for start in range(0, hidden.shape[0], size)]


class _OutputLoss(torch.autograd.Function):
    """Cross entropy of a linear layer, chunk by chunk; the gradient is made in the forward pass, while the chunk's
    logits are still at hand, so that the backward pass only scales it."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, dtype):  # type: ignore[no-untyped-def]
        low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
        grad_hidden = torch.empty_like(low_hidden)
        grad_weight = torch.zeros_like(weight)
        grad_bias = torch.zeros_like(bias)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in _chunks(hidden):
            target = targets[rows]
            known = (target >= 0).float()
            place = target.clamp(min=0)[:, None]
            logits = (low_hidden[rows] @ low_weight.t()).float().add_(bias)
            picked = logits.gather(1, place)[:, 0]
            log_sum = logits.logsumexp(1)
            total += ((log_sum - picked) * known).sum()
            grad = logits.sub_(log_sum[:, None]).exp_()
            grad.scatter_add_(1, place, grad.new_full(place.shape, -1.0))
            grad.mul_(known[:, None])
            grad_bias += grad.sum(0)
            low_grad = grad.to(dtype)
            grad_hidden[rows] = low_grad @ low_weight
            grad_weight += low_grad.t() @ low_hidden[rows]
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx, scale):  # type: ignore[no-untyped-def]
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        return grad_hidden * scale, grad_weight * scale, grad_bias * scale, None, None


def output_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross entropies in nats; `hidden` (tokens, width), `targets` (tokens,) with -1 for "do not count"."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if torch.is_grad_enabled():
        total: Tensor = _OutputLoss.apply(hidden, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
        return total
    total = torch.zeros((), device=hidden.device)
    for rows in _chunks(hidden):
        logits = (hidden[rows].to(dtype) @ weight.to(dtype).t()).float() + bias
        total = total + F.cross_entropy(logits, targets[rows], ignore_index=-1, reduction="sum")
    return total
