"""Configuration of a training run."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class TrainingConfig:
    """Hyperparameters and budget; exactly one of `minutes` and `steps` is the budget.

    The learning rate has a warm-up, a plateau and a linear decay to zero (WSD; Hu et al., arXiv 2404.06395). The decay
    takes the last `decay` of the budget, or that much time from the plateau's last checkpoint if it is later.
    """

    shape: Any
    """Dimensions of the model: a `ModelShape`, where its weights are to be made."""
    minutes: float | None = None
    steps: int | None = None
    decay: float = 0.4
    """Length of the decay as a share of the budget."""
    warm_up_steps: int = 50
    batch_tokens: int = 8192
    """Tokens per optimiser step."""
    pass_tokens: int = 2048
    """Tokens per forward pass; gradients of a step's passes are summed."""
    workers: int = 1
    """Concurrent forward passes on a CPU, each on one thread. With more than one the order of summation varies, so the
    last bits of the gradients may differ between runs."""
    row_lengths: tuple[tuple[float, int], ...] = ((0, 1024),)
    """Pairs (tokens seen, row length from then on), ascending."""
    untie_tokens: float = 0
    """Tokens seen until the embedding is untied from the output matrix."""
    infill: float = 0.3
    """Share of samples that are infilling samples; being shorter, they hold about half that share of the tokens."""
    mixture: float = 0.0
    """Last share of the budget that is trained on the mixture with n-grams; needs a corpus with gains."""
    muon_rate: float = 0.01
    """Learning rate of NorMuon; 0 trains the blocks' matrices with AdamW, too. For small batches that takes half the
    time a step: the orthogonalisation costs as much as a pass over some thousand tokens."""
    adam_rate: float = 0.002
    beta2_half_life: float = 4e6
    """Half-life in tokens of AdamW's second moments."""
    weight_decay: float = 0.02
    """Weight decay in the first epoch."""
    later_weight_decay: float = 0.1
    """Weight decay from the second epoch on."""
    average: float = 0.05
    """Time constant of the averaged weights (EMA) as a share of the decay."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    log_steps: int = 10
    checkpoint_seconds: float = 600.0
    validate_seconds: float = 600.0
    validation_rows: int = 48
    validation_length: int = 1024
    last_validation: int = 4
    """Factor of `validation_rows` after the last step."""
    device: str = "auto"
    bfloat16: bool = True
    """Compute matrix products in bfloat16; weights stay float32."""

    def __attrs_post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        if not 0 < self.decay <= 1:
            raise ValueError("decay must be above 0 and at most 1")
        for _, length in self.row_lengths:
            if self.batch_tokens % self.pass_tokens or self.pass_tokens % length:
                raise ValueError("batch_tokens must be a multiple of pass_tokens, and that of every row length")

    @property
    def budget(self) -> float:
        """The budget in seconds or steps."""
        return float(self.steps) if self.steps is not None else 60 * float(self.minutes or 0)
