"""Whether a build says what its float checkpoint says, and whether the checkpoint itself was read as it was trained.

Everything is judged on one snippet of source code:

- The build's logits must be close to the float model's. Rounding to int8 was measured at a relative error of 0.01 to
  0.04, another arrangement of the same weights at about 1 (`docs/models.md` has the table).
- Weights whose attention hardly matters differ little when they are arranged wrongly. So the build must also be much
  closer to the right arrangement than to the other one.
- A trained model is about as surprised by real code as it expects to be. One that is much more surprised gets its
  weights in the wrong arrangement, or tokens it was not trained with.
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

SNIPPET = '''\
import argparse
import csv
from collections import defaultdict
from pathlib import Path


class Ledger:
    """Amounts by account, read from CSV files."""

    def __init__(self, currency="EUR"):
        self.currency = currency
        self.entries = defaultdict(list)

    def add(self, account, amount):
        if amount == 0:
            raise ValueError("amount must not be zero")
        self.entries[account].append(amount)

    def balance(self, account):
        return sum(self.entries[account])

    def __len__(self):
        return len(self.entries)


def read_ledger(path):
    ledger = Ledger()
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            ledger.add(row["account"], float(row["amount"]))
    return ledger


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    ledger = read_ledger(args.path)
    for account in sorted(ledger.entries):
        print(account, ledger.balance(account))


if __name__ == "__main__":
    main()
'''
"""Ordinary Python, which every checkpoint has seen much of, `nl` ones too."""

ERROR_LIMIT = 0.4
"""Largest relative error of the build's logits: ten times what int8 was measured to cost, and under half of what any
wrong arrangement of weights with working attention gave."""

UNTRAINED_ERROR_LIMIT = 0.1
"""The same for a model that has learned nothing: it has no loss to go by, and none of the outlying activations that
make int8 coarser in large trained models."""

CLOSER = 0.5
"""The build must be at most this much as far from its own arrangement of the weights as from any other."""

SAME = 1e-6
"""Relative error under which two arrangements are one and the same."""

LOSS_LIMIT = 0.5
"""Nats per token that a build may lose. Vector-wise int8 costs large models up to 0.3 (Dettmers et al., LLM.int8(),
2022, table 1)."""

SURPRISE_LIMIT = 3.0
"""Nats by which a model's loss may exceed the entropy of its own predictions. Well trained models are near 0, random
ones at the variance of their logits (1 to 2.3 measured)."""

LEARNED = 2.0
"""Nats below an even guess from where on a model counts as trained, so that its loss can tell arrangements apart."""

CLEARLY = 0.1
"""Nats per token by which one reading must beat the declared one to overrule it."""


@frozen
class Fit:
    """How well predictions fit the snippet: mean over tokens, in nats."""

    loss: float
    entropy: float


def fit(logits: Tensor, ids: Sequence[int]) -> Fit:
    """Cross-entropy of `logits` (tokens, rows) against the tokens that follow, and their own entropy."""
    log_probabilities = logits[:-1].float().log_softmax(-1)
    targets = torch.tensor(list(ids[1:]))[:, None]
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return Fit(float(-log_probabilities.gather(1, targets).mean()), float(entropy.mean()))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Distance of two sets of logits (tokens, rows), relative to the spread of the expected ones. A constant added to
    all logits of a position changes no prediction, so each position is centred first."""
    found = found.float() - found.float().mean(-1, keepdim=True)
    expected = expected.float() - expected.float().mean(-1, keepdim=True)
    return float((found - expected).norm() / expected.norm().clamp(min=1e-9))


def possible_groupings(declared: int, heads: int) -> list[int]:
    """The declared number of qkv groups first, then the other one that CodeGen checkpoints have, if heads allow."""
    return [declared, *(groups for groups in (4, 8) if declared and groups != declared and heads % groups == 0)]


def choose_reading(readings: Sequence[Reading], logits: Sequence[Tensor]) -> int:
    """Which reading a checkpoint was trained for, by its place; the first one is the declared one.

    That is the declared one, unless the model is trained and another reading predicts the snippet clearly better: then
    what the checkpoint's config.json or the catalogue says is wrong. A random model can't tell. Readings that cut the
    text into different tokens are compared by what the whole text costs.
    """
    costs = [
        fit(found, reading.ids).loss * (len(reading.ids) - 1) for reading, found in zip(readings, logits, strict=True)
    ]
    best = min(range(len(costs)), key=lambda index: costs[index])
    tokens = len(readings[best].ids) - 1
    trained = _has_learned(costs[best] / tokens, logits[best])
    return best if trained and costs[0] - costs[best] > CLEARLY * tokens else 0


def check_checkpoint(logits: Tensor, ids: Sequence[int], what: str) -> Fit:
    """How well the float model fits the snippet. Raises ConversionError when it is confidently wrong: then weights or
    tokenizer are not read as they were trained."""
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
    built: Tensor, readings: Sequence[Reading], logits: Sequence[Tensor], chosen: int, what: str
) -> Verification:
    """Compare a build's logits (tokens, rows) with the float model's for each reading.

    Raises ConversionError when the build does not compute what the checkpoint computes.
    """
    right, reading = logits[chosen], readings[chosen]
    float_fit = check_checkpoint(right, reading.ids, "The checkpoint")
    build_fit = fit(built, reading.ids)
    error = relative_error(built, right)
    advice = "Convert the checkpoint again; if it stays so, the build can't be used with this version of CTranslate2."
    if not error <= (ERROR_LIMIT if _has_learned(float_fit.loss, right) else UNTRAINED_ERROR_LIMIT):
        raise ConversionError(
            f"{what} does not compute what its checkpoint computes: its logits are off by {error:.0%} of their spread, "
            f"where int8 costs about 3%.",
            advice,
        )
    for other, wrong in zip(readings, logits, strict=True):
        if other.ids != reading.ids or relative_error(wrong, right) < SAME:
            continue
        if not error <= CLOSER * relative_error(built, wrong):
            raise ConversionError(
                f"{what} fits {other.groups} groups of query, value and key weights as well as {reading.groups}, which "
                "is how its checkpoint stores them: the weights were taken apart wrongly.",
                advice,
            )
    if not build_fit.loss - float_fit.loss <= LOSS_LIMIT:
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
