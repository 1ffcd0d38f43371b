"""The model of a float checkpoint as a module of transformers.

transformers gets the dimensions and the weights, and reads no file itself. From a folder it would also follow settings
of config.json that run or download code (`attn_implementation` names a package of kernels on the Hub), load adapters
that lie there, and fill in missing weights with random ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CodeGenConfig,
    CodeGenForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as hf_logging

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.weights import DOWNLOAD_AGAIN, Weights, check_shapes, read_json
from codegen_lsp.errors import ConversionError

CLASSES: dict[str, tuple[Any, Any]] = {
    "codegen": (CodeGenConfig, CodeGenForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
"""Classes of configuration and model, by `model_type`."""

CODEGEN_SETTINGS = (
    "activation_function", "layer_norm_epsilon", "n_ctx", "n_embd", "n_head", "n_inner", "n_layer", "n_positions",
    "rotary_dim", "vocab_size",
)  # fmt: skip
LLAMA_SETTINGS = (
    "attention_bias", "head_dim", "hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings",
    "mlp_bias", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "original_max_position_embeddings",
    "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "vocab_size",
)  # fmt: skip
"""Settings of config.json that decide what a model computes; no dropout, as a resumed or divided run must compute what
a whole one does."""


def float_model(checkpoint: Path, architecture: Architecture, dtype: torch.dtype | None) -> Any:
    """Return the model in a checkpoint's folder, with weights of `dtype`; None for the type that the files have.

    Raises ConversionError when weights are missing or damaged, or transformers does not accept the dimensions.
    """
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = _config(checkpoint, architecture)
    _, model_class = CLASSES[config.model_type]
    shapes = architecture.shapes()
    with Weights(checkpoint) as weights:
        check_shapes(weights, shapes)
        state = {name: weights[name] for name in shapes}
        return model_class.from_pretrained(None, config=config, state_dict=state, dtype=dtype or "auto")


def _config(checkpoint: Path, architecture: Architecture) -> Any:
    path = checkpoint / "config.json"
    declared = read_json(path)
    config_class, _ = CLASSES[declared["model_type"]]
    names = CODEGEN_SETTINGS if architecture.block == "codegen" else LLAMA_SETTINGS
    settings = {name: declared[name] for name in names if name in declared}
    try:
        return config_class(**settings, tie_word_embeddings=architecture.tied)
    except Exception as error:  # transformers has several classes for settings of a wrong type
        reason = " ".join(str(error).split())
        raise ConversionError(
            f"transformers does not accept the settings in {path}: {reason}", DOWNLOAD_AGAIN
        ) from error
