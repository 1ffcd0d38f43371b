"""Loss of a model on held-out files."""

from __future__ import annotations

import math

import torch

from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, RowSampler, TokenTables
from codegen_lsp.training.model import TrainableModel

ROWS_PER_PASS = 16


@torch.no_grad()
def validate(
    model: TrainableModel,
    encoded: EncodedCorpus,
    tables: TokenTables,
    config: TrainingConfig,
    infill: float,
    rows: int,
) -> dict[str, float]:
    """Return the loss over at most `rows` rows of held-out files, in nats per token and bits per byte.

    Where the corpus has gains, `mixed_nats_per_token` is the loss of the mixture with n-grams, up to a constant that
    depends on the rows alone. `infill` is 0 for plain text and 1 for infilling samples only. The loss includes the
    end-of-file tokens; the bytes are those of the counted targets.
    """
    device = next(model.parameters()).device
    sampler = RowSampler(encoded, tables, infill, seed=1)
    nats = mixed = counted = size = 0.0
    while rows > 0 and not sampler.position.epoch:
        taken = min(rows, ROWS_PER_PASS if device.type == "cuda" else 1)
        batch = sampler.batch(taken, config.validation_length)
        rows -= taken
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
            inputs, targets = (torch.from_numpy(part).to(device) for part in (batch.inputs, batch.targets))
            nats += float(model.loss(inputs, targets))
            if batch.gains is not None and not infill:
                mixed += float(model.loss(inputs, targets, torch.from_numpy(batch.gains).to(device)))
        counted += int((batch.targets >= 0).sum())
        size += int(tables.sizes[batch.targets[batch.targets >= 0]].sum())
    found = {"nats_per_token": nats / counted, "bits_per_byte": nats / math.log(2) / size}
    return found if encoded.gains is None or infill else found | {"mixed_nats_per_token": mixed / counted}
