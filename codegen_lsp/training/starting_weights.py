"""The weights of an installed build as a trainable model: the inverse of `export`.

An int8 build is dequantized, so that no float checkpoint is needed to train a small model further.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codegen_lsp.checkpoints.export.rows import pairs_to_halves, split_projection
from codegen_lsp.checkpoints.export.source import ExportSource
from codegen_lsp.errors import ModelError
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

EPSILON = 1e-5
"""Of the layer norms of `TrainableCodeGen`."""


def trainable_model(source: ExportSource) -> TrainableCodeGen:
    """Return the model with the weights of a build or a checkpoint, untied.

    Raises ModelError when it has another architecture than CodeGen's.
    """
    architecture = source.architecture
    if architecture.block != "codegen" or abs(architecture.epsilon - EPSILON) > 1e-9:
        raise ModelError(
            f"{source.info.name} has another architecture than CodeGen's, and can't be trained further.",
        )
    try:
        shape = ModelShape(
            vocabulary=source.info.vocabulary_size,
            width=architecture.width,
            layers=architecture.layers,
            heads=architecture.heads,
            rotary=architecture.rotary,
            positions=architecture.context,
        )
    except ValueError as error:
        raise ModelError(f"{source.info.name} can't be trained: {error}.") from error
    model = TrainableCodeGen(shape)
    model.load_state_dict(_state(source.weights, shape, architecture.qkv_groups))
    return model


def _state(weights: Mapping[str, Tensor], shape: ModelShape, groups: int) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout of `TrainableCodeGen`."""
    rows = slice(shape.vocabulary)
    state = {
        "embedding.weight": weights["transformer.wte.weight"][rows],
        "norm.weight": weights["transformer.ln_f.weight"],
        "norm.bias": weights["transformer.ln_f.bias"],
        "output.weight": weights["lm_head.weight"][rows],
        "output.bias": weights["lm_head.bias"][rows],
    }
    for layer in range(shape.layers):
        here, there = f"blocks.{layer}.", f"transformer.h.{layer}."
        query, key, value = split_projection(weights[there + "attn.qkv_proj.weight"].float(), groups)
        state |= {
            here + "norm.weight": weights[there + "ln_1.weight"],
            here + "norm.bias": weights[there + "ln_1.bias"],
            here + "query.weight": pairs_to_halves(query, shape.heads, shape.rotary),
            here + "key.weight": pairs_to_halves(key, shape.heads, shape.rotary),
            here + "value.weight": value,
            here + "attention_out.weight": weights[there + "attn.out_proj.weight"],
            here + "up.weight": weights[there + "mlp.fc_in.weight"],
            here + "up.bias": weights[there + "mlp.fc_in.bias"],
            here + "down.weight": weights[there + "mlp.fc_out.weight"],
            here + "down.bias": weights[there + "mlp.fc_out.bias"],
        }
    return {name: tensor.to(torch.float32).contiguous().clone() for name, tensor in state.items()}
