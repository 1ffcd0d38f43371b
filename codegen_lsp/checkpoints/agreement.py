"""Comparison of a build with its float checkpoint, and checks that the checkpoint was read as it was trained.

All checks use one snippet of source code:

- The build's logits must be close to the float model's. The relative error of int8 was measured at 0.01 to 0.04, that
  of another arrangement of the same weights at about 1 (`docs/models.md` has the table).
- Weights with weak attention differ little when they are arranged wrongly. So the build must also be much closer to
  the right arrangement than to the other one.
- The loss of a trained model on real code is about the entropy of its own predictions. A much higher loss means that
  its weights are in the wrong arrangement, or that its tokens are not those it was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from codegen_lsp.checkpoints.reference import Reading
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import Verification

ERROR_LIMIT = 0.4
"""Largest relative error of the build's logits: ten times the error measured for int8, and less than half of the
smallest error measured for a wrong arrangement of weights with working attention."""

UNTRAINED_ERROR_LIMIT = 0.1
"""The same for an untrained model, which has no meaningful loss, and none of the outlier activations that make int8
coarser in large trained models."""

CLOSER = 0.5
"""Largest ratio of the build's distance from its own arrangement of the weights to that from any other."""

SAME = 1e-6
"""Relative error below which two arrangements are equivalent."""

LOSS_LIMIT = 0.5
"""Nats per token by which a build's loss may exceed the float model's. Vector-wise int8 costs large models up to 0.3
(Dettmers et al., LLM.int8(), 2022, table 1)."""

SURPRISE_LIMIT = 3.0
"""Nats by which a model's loss may exceed the entropy of its own predictions. Well trained models are near 0, random
ones at the variance of their logits (measured: 1 to 2.3)."""

LEARNED = 2.0
"""Nats below the loss of a uniform guess from which a model counts as trained, so that its loss tells arrangements
apart."""

CLEARLY = 0.1
"""Nats per token by which a reading's loss must be below the declared reading's to overrule it."""


@frozen
class AgreementLimits:
    """What a build may differ by from its float model."""

    error: float
    """Relative error of the logits of a trained model."""
    untrained_error: float
    closer: float
    """Ratio of the distances from its own arrangement of the weights and from any other."""
    loss: float
    """Increase in nats per token."""
    usual: str
    """The usual error, in words."""


INT8_LIMITS = AgreementLimits(ERROR_LIMIT, UNTRAINED_ERROR_LIMIT, CLOSER, LOSS_LIMIT, "int8 costs about 3%")

FOUR_BIT_LIMITS = AgreementLimits(0.6, 0.6, 1.0, 1.0, "4 bits cost about 13%")
"""Rounding to 4 bits was measured to move the logits of the embedded model by 0.13 of their spread, and those of small
random models by less than 0.45; a wrong order of the weights moves them by 1.3. This noise is independent of how the
weights are arranged, so the right arrangement is the nearest one, but with weak attention not much nearer than others.
The loss may be what int8 may cost, and as much again for 4 bits."""


@frozen
class Fit:
    """Fit of predictions to the snippet: means over tokens, in nats."""

    loss: float
    entropy: float


def fit(logits: Tensor, ids: Sequence[int]) -> Fit:
    """Return the cross-entropy of `logits` (tokens, rows) with the tokens that follow, and the logits' entropy."""
    log_probabilities = logits[:-1].float().log_softmax(-1)
    targets = torch.tensor(list(ids[1:]))[:, None]
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return Fit(float(-log_probabilities.gather(1, targets).mean()), float(entropy.mean()))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the distance of two sets of logits (tokens, rows), relative to the norm of the expected ones.

    Each position is centred first, since a constant added to all its logits changes no prediction.
    """
    found = found.float() - found.float().mean(-1, keepdim=True)
    expected = expected.float() - expected.float().mean(-1, keepdim=True)
    return float((found - expected).norm() / expected.norm().clamp(min=1e-9))


def possible_groupings(declared: int, heads: int) -> list[int]:
    """Return the declared number of qkv groups, then the other one of CodeGen checkpoints if it divides the heads."""
    return [declared, *(groups for groups in (4, 8) if declared and groups != declared and heads % groups == 0)]


def choose_reading(readings: Sequence[Reading], logits: Sequence[Tensor]) -> int:
    """Return the index of the reading that a checkpoint was trained for; the first reading is the declared one.

    The declared one is chosen, unless the model is trained and another reading predicts the snippet clearly better:
    then config.json or the catalogue is wrong. An untrained model can't tell. Readings with different tokens are
    compared by the cost of the whole text.
    """
    costs = [
        fit(found, reading.ids).loss * (len(reading.ids) - 1) for reading, found in zip(readings, logits, strict=True)
    ]
    best = min(range(len(costs)), key=lambda index: costs[index])
    tokens = len(readings[best].ids) - 1
    trained = _has_learned(costs[best] / tokens, logits[best])
    return best if trained and costs[0] - costs[best] > CLEARLY * tokens else 0


def check_checkpoint(logits: Tensor, ids: Sequence[int], what: str) -> Fit:
    """Return the float model's fit to the snippet.

    Raises ConversionError when the loss is not finite, or exceeds the entropy of the predictions by `SURPRISE_LIMIT`:
    then weights or tokenizer are not those that the model was trained with.
    """
    found = fit(logits, ids)
    if not math.isfinite(found.loss):
        raise ConversionError(f"{what} gives no finite predictions: its weights are damaged.", "Fetch it again.")
    if found.loss - found.entropy > SURPRISE_LIMIT:
        raise ConversionError(
            f"{what} is confidently wrong on ordinary code: {found.loss:.1f} nats per token where it expects "
            f"{found.entropy:.1f}. Its weights are arranged in an unknown way, or its tokenizer is another model's.",
            "Check that config.json and the tokenizer's files come from the same checkpoint as the weights.",
        )
    return found


def compare(
    built: Tensor,
    readings: Sequence[Reading],
    logits: Sequence[Tensor],
    chosen: int,
    what: str,
    limits: AgreementLimits = INT8_LIMITS,
) -> Verification:
    """Compare a build's logits (tokens, rows) with the float model's for each reading.

    Raises ConversionError when the build does not compute what the checkpoint computes.
    """
    right, reading = logits[chosen], readings[chosen]
    float_fit = check_checkpoint(right, reading.ids, "The checkpoint")
    build_fit = fit(built, reading.ids)
    error = relative_error(built, right)
    advice = "Convert the checkpoint again; if it stays so, the build can't be used with this version of CTranslate2."
    if not error <= (limits.error if _has_learned(float_fit.loss, right) else limits.untrained_error):
        raise ConversionError(
            f"{what} does not compute what its checkpoint computes: its logits are off by {error:.0%} of their spread, "
            f"where {limits.usual}.",
            advice,
        )
    for other, wrong in zip(readings, logits, strict=True):
        if other.ids != reading.ids or relative_error(wrong, right) < SAME:
            continue
        if not error <= limits.closer * relative_error(built, wrong):
            raise ConversionError(
                f"{what} fits {other.groups} groups of query, value and key weights as well as {reading.groups}, which "
                "is how its checkpoint stores them: the weights were taken apart wrongly.",
                advice,
            )
    if not build_fit.loss - float_fit.loss <= limits.loss:
        raise ConversionError(
            f"{what} predicts code worse than its checkpoint: {build_fit.loss:.2f} nats per token instead of "
            f"{float_fit.loss:.2f}.",
            advice,
        )
    return Verification(
        tokens=len(reading.ids),
        agreement=float((built.argmax(-1) == right.argmax(-1)).float().mean()),
        float_loss=float_fit.loss,
        build_loss=build_fit.loss,
    )


def _has_learned(loss: float, logits: Tensor) -> bool:
    return loss < math.log(logits.shape[-1]) - LEARNED
