"""Schedules: learning rate, row length, weight decay and the objective as functions of a run's progress."""

from __future__ import annotations

from codegen_lsp.training.config import TrainingConfig


def learning_rate_factor(step: int, warm_up_steps: int, decay_progress: float) -> float:
    """Return the factor on the learning rate: linear warm-up by steps, then linear decay to zero.

    `decay_progress` is the share of the decay that has passed, 0 on the plateau.
    """
    warm_up = min(1.0, (step + 1) / max(warm_up_steps, 1))
    return warm_up * max(1.0 - decay_progress, 0.0)


def row_length(tokens: float, row_lengths: tuple[tuple[float, int], ...]) -> int:
    """Return the row length after `tokens` tokens."""
    return [length for begin, length in row_lengths if tokens >= begin][-1]


def weight_decay(config: TrainingConfig, epoch: int) -> float:
    """Return the weight decay in an epoch, counted from 0."""
    return config.weight_decay if epoch == 0 else config.later_weight_decay


def trains_mixture(config: TrainingConfig, decay_progress: float) -> bool:
    """Return True in the last part of the decay, which is trained on the mixture with n-grams."""
    return decay_progress > 1 - min(config.mixture / config.decay, 1.0) if config.mixture else False
