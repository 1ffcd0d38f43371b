"""The CodeGen architecture (Nijkamp et al., 2022) in a layout that trains fast.

The function computed is that of transformers' `CodeGenForCausalLM`: attention and MLP in parallel behind one LayerNorm,
rotary positions, tanh-approximated GELU, an output layer with bias. `export` compares the logits of both. The layout
differs: query, key and value are separate matrices, since Muon orthogonalises each on its own; rotary pairs lie in two
halves instead of interleaved, for contiguous reads; the loss holds the logits of one chunk of tokens at a time.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOSS_CHUNK = 512
"""Tokens whose logits are held at once on a CPU: few enough to stay in its caches."""
GPU_LOSS_CHUNK = 16384
"""Tokens whose logits are held at once on a GPU."""


INITIAL_STD = 0.005
"""Standard deviation of the tied output matrix at the start; larger ones make a token predict itself."""


@attrs.frozen
class ModelShape:
    """Dimensions of a model of the CodeGen architecture.

    `heads` must be divisible by 4, since CodeGen packs query, value and key in four groups of heads. Head widths of
    128 and 256 are rejected: CTranslate2's converter takes them for CodeGen2, which has eight groups.
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


def rotary_tables(shape: ModelShape, length: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, each (length, rotary), for the frequencies 10000 ** (-2i / rotary) (Su et al., 2021)."""
    frequencies = 1.0 / 10000 ** (torch.arange(0, shape.rotary, 2, device=device, dtype=torch.float32) / shape.rotary)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([angles.sin(), angles.sin()], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first `rotary` entries of every head by position; `x` is (batch, heads, length, head width)."""
    width = cos.shape[-1]
    turned, rest = (x, None) if width == x.shape[-1] else (x[..., :width], x[..., width:])
    half = width // 2
    swapped = torch.cat([-turned[..., half:], turned[..., :half]], -1)
    turned = (turned * cos + swapped * sin).to(x.dtype)
    return turned if rest is None else torch.cat([turned, rest], -1)


class TransformerBlock(nn.Module):
    """Attention and MLP in parallel behind one LayerNorm, added to the residual stream."""

    def __init__(self, shape: ModelShape) -> None:
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


class TrainableModel(nn.Module):
    """A model that `train` can train. Its parameters and its state are what is trained, and nothing else."""

    tied = False
    shape: Any
    """An attrs value by which a checkpoint of another model is recognised."""

    def loss(self, ids: Tensor, targets: Tensor, gains: Tensor | None = None) -> Tensor:
        """Return the sum in nats of the cross entropies over the targets that are not negative.

        All are (batch, length). With `gains` the loss is that of the mixture with n-grams (`ngram_gains`), up to a
        constant: -log(p + gain).
        """
        raise NotImplementedError

    def compile_blocks(self) -> None:
        """Compile what can be compiled, for CUDA."""


class TrainableCodeGen(TrainableModel):
    """CodeGen model whose `forward` returns the final hidden states, (batch, length, width).

    While `tied`, the output matrix times the square root of the width serves as the embedding.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tied = False
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.output = nn.Linear(shape.width, shape.vocabulary)
        cos, sin = rotary_tables(shape, shape.positions)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    @property
    def embedding_scale(self) -> float:
        """Factor from the output matrix to the embedding while they are tied."""
        return math.sqrt(self.shape.width)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, unigrams: Tensor | None = None) -> None:
        """Set the initial weights and tie the embedding to the output matrix.

        The two matrices that write to the residual stream start at zero. `unigrams` are token frequencies, whose
        logarithms become the output bias, so that the model starts as a unigram model.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.endswith(("attention_out.weight", "down.weight")):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            elif name.startswith(("embedding", "output")):
                nn.init.normal_(parameter, std=INITIAL_STD, generator=generator)
            else:
                bound = math.sqrt(3.0 / parameter.shape[1]) * 0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        if unigrams is not None:
            self.output.bias.copy_(unigrams.clamp(min=1e-7).log())
        self.tied = True
        self.embedding.weight.copy_(self.output.weight * self.embedding_scale)

    @torch.no_grad()
    def untie(self) -> None:
        """Give the embedding weights of its own, equal to those used so far."""
        self.embedding.weight.copy_(self.output.weight * self.embedding_scale)
        self.tied = False

    def compile_blocks(self) -> None:
        """Compile the blocks with torch.compile, once for each shape of the input."""
        torch._dynamo.config.recompile_limit = 64
        for block in self.blocks:
            block.compile(dynamic=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (batch, length) to hidden states (batch, length, width)."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = F.embedding(ids, self.output.weight) * self.embedding_scale if self.tied else self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, ids: Tensor) -> Tensor:
        """Map token ids (batch, length) to logits (batch, length, vocabulary), as CodeGenForCausalLM does."""
        result: Tensor = self.output(self(ids))
        return result

    def loss(self, ids: Tensor, targets: Tensor, gains: Tensor | None = None) -> Tensor:
        """Return the loss as `TrainableModel` says."""
        hidden = self(ids).reshape(-1, self.shape.width)
        flat_gains = None if gains is None else gains.reshape(-1)
        return output_loss(hidden, self.output.weight, self.output.bias, targets.reshape(-1), flat_gains)


def _chunks(hidden: Tensor) -> list[slice]:
    size = LOSS_CHUNK if hidden.device.type == "cpu" else GPU_LOSS_CHUNK
    return [slice(start, start + size) for start in range(0, hidden.shape[0], size)]


def _chunk_loss(logits: Tensor, bias: Tensor, target: Tensor, gains: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return a chunk's loss, the gradient of its logits in their dtype, and the gradient of the bias.

    `logits` is (tokens, vocabulary) without the bias, `target` (tokens,), `gains` (tokens,) or None.
    """
    known = (target >= 0).float()
    place = target.clamp(min=0)[:, None]
    full = logits.float().add_(bias)
    log_sum = full.logsumexp(1)
    log_p = full.gather(1, place)[:, 0] - log_sum
    share = known
    if gains is not None:
        log_mixed = torch.logaddexp(log_p, gains.float().log())
        share = known * (log_p - log_mixed).exp()
        log_p = log_mixed
    grad = full.sub_(log_sum[:, None]).exp_()
    if torch.compiler.is_compiling():
        grad = grad - (torch.arange(grad.shape[1], device=grad.device) == place).float()
    else:
        grad.scatter_add_(1, place, grad.new_full(place.shape, -1.0))
    grad = grad.mul_(share[:, None])
    return -(log_p * known).sum(), grad.to(logits.dtype), grad.sum(0)


_compiled_chunk_loss = torch.compile(_chunk_loss, dynamic=False)


class _OutputLoss(torch.autograd.Function):
    """Cross entropy of a linear layer, chunk by chunk.

    The gradient is computed in the forward pass, while the chunk's logits are at hand; the backward pass scales it. Of
    a layer that is not trained, no gradient is computed.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, gains, dtype):  # type: ignore[no-untyped-def]
        chunk_loss = _chunk_loss if hidden.device.type == "cpu" else _compiled_chunk_loss
        low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
        grad_hidden = torch.empty_like(low_hidden)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in _chunks(hidden):
            logits = low_hidden[rows] @ low_weight.t()
            loss, low_grad, bias_grad = chunk_loss(logits, bias, targets[rows], None if gains is None else gains[rows])
            total += loss
            grad_hidden[rows] = low_grad @ low_weight
            if grad_bias is not None:
                grad_bias += bias_grad
            if grad_weight is not None:
                grad_weight += low_grad.t() @ low_hidden[rows]
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx, scale):  # type: ignore[no-untyped-def]
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        weight, bias = (None if grad is None else grad * scale for grad in (grad_weight, grad_bias))
        return grad_hidden * scale, weight, bias, None, None, None


def output_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, gains: Tensor | None = None) -> Tensor:
    """Return the sum of cross entropies in nats.

    `hidden` is (tokens, width); `targets` is (tokens,), -1 where the loss is not counted; `gains` as in `loss`.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if torch.is_grad_enabled():
        total: Tensor = _OutputLoss.apply(hidden, weight, bias, targets, gains, dtype)  # type: ignore[no-untyped-call]
        return total
    total = torch.zeros((), device=hidden.device)
    for rows in _chunks(hidden):
        logits = (hidden[rows].to(dtype) @ weight.to(dtype).t()).float() + bias
        losses = F.cross_entropy(logits, targets[rows], ignore_index=-1, reduction="none")
        if gains is not None:
            losses = -torch.logaddexp(-losses, gains[rows].float().log()) * (targets[rows] >= 0)
        total = total + losses.sum()
    return total
