"""Check the content of a config.json before anything is computed from it.

Anybody can publish a repository. Sizes beyond those of any model would make the computation of shapes and of memory
take for ever, and a number in place of a truth value would be read as one.
"""

from __future__ import annotations

import math
from typing import Any

from codegen_lsp.errors import ConversionError

MOST_LAYERS = 1 << 10
LARGEST_SIZE = 1 << 20
"""Bound of widths and heads. The largest open models have a width of 18,432 and an MLP of 65,536."""
MOST_TOKENS = 1 << 24
"""Bound of the vocabulary and of the context."""

BOUNDS = {
    **dict.fromkeys(("num_hidden_layers", "n_layer"), MOST_LAYERS),
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"), LARGEST_SIZE),
    **dict.fromkeys(("head_dim", "n_embd", "n_inner", "n_head", "rotary_dim"), LARGEST_SIZE),
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "n_positions"), MOST_TOKENS),
}
"""Whole numbers of config.json, and the largest that each may be."""
POSITIVE = ("rms_norm_eps", "layer_norm_epsilon", "rope_theta")
TRUTH_VALUES = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window", "multi_query")

GENERATES = ("ForCausalLM", "LMHeadModel")
"""Endings of the classes in transformers that predict the next token."""


def check_config(config: dict[str, Any], origin: object) -> None:
    """Raise ConversionError when a value is none of its kind, or the weights are not those of a plain language model.

    `origin` names the file in messages. Values that are missing or null are not reported here.
    """
    for key, bound in BOUNDS.items():
        value = config.get(key)
        if value is not None and not (_is_whole(value) and 0 < value <= bound):
            raise _wrong(origin, key, value, f"a whole number from 1 to {bound:,}")
    for key in POSITIVE:
        if (value := config.get(key)) is not None and not _is_positive(value):
            raise _wrong(origin, key, value, "a positive number")
    for key in TRUTH_VALUES:
        if (value := config.get(key)) is not None and not isinstance(value, bool):
            raise _wrong(origin, key, value, "true or false")
    for key in ("rope_scaling", "rope_parameters"):
        _check_rope(config.get(key), key, origin)
    _check_kind(config, origin)


def own_code(config: dict[str, Any]) -> str:
    """Return a sentence on the Python code that a repository brings for its model; empty if it brings none."""
    return (
        " It comes with Python code of its own, and no code of a repository is ever run."
        if config.get("auto_map")
        else ""
    )


def _check_rope(scaling: Any, key: str, origin: object) -> None:
    if scaling is None:
        return
    if not isinstance(scaling, dict):
        raise _wrong(origin, key, scaling, "an object")
    for name in ("factor", "rope_theta"):
        if (value := scaling.get(name)) is not None and not _is_positive(value):
            raise _wrong(origin, f"{name} of {key}", value, "a positive number")


def _check_kind(config: dict[str, Any], origin: object) -> None:
    """Raise ConversionError for quantized weights, and for models that don't generate text."""
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        by = f" by {method}" if isinstance(method, str) else ""
        raise ConversionError(
            f"{origin} says that the weights are quantized{by:.40}; only float weights and GGUF files can be read.",
            "Use the repository that this one was made from.",
        )
    classes = config.get("architectures")
    if isinstance(classes, list) and classes and not any(str(one).endswith(GENERATES) for one in classes):
        raise ConversionError(
            f"{origin} declares {classes[0]!s:.60}, which does not generate text.",
            "Choose a model for causal language modelling.",
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _wrong(origin: object, key: str, value: object, expected: str) -> ConversionError:
    return ConversionError(
        f"{origin} has {str(value)[:40]!r} for {key}, where {expected} is needed.",
        "The file is damaged, or of no model: use another repository or folder.",
    )
