"""The architecture that a GGUF file declares, in the terms of transformers' config.json."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from codegen_lsp.checkpoints.gguf_source.header import FETCH_AGAIN, GgufHeader
from codegen_lsp.checkpoints.rotary_scaling import BETA_FAST, BETA_SLOW
from codegen_lsp.errors import ConversionError

ARCHITECTURES = ("llama", "qwen2")
"""Values of `general.architecture` that can be converted; transformers gives them the same names."""
LARGEST_SIZE = 1 << 24
"""Bound of widths, heads, layers and tokens, beyond any model's."""
LEAST_TENSORS = 9
"""Matrices and norms of a layer."""
MULTIPLIERS = ("embedding_scale", "residual_scale", "attention.scale", "logit_scale")
"""Keys of models that multiply their states, as Granite 3 does."""

DIVISORS = "rope_freqs.weight"
"""Tensor with the divisors of the rotary frequencies."""
YARN_ADJUSTMENTS = ("attn_factor", "yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor")
"""Keys behind `rope.scaling.` that change the scaling, unless they are 1."""

OTHER_MODEL = "Choose a model that docs/models.md lists, or run this file with llama.cpp and use it by `remote.url`."


def declared_config(header: GgufHeader) -> dict[str, Any]:
    """Return the content of a config.json for the model in a GGUF file.

    Raises ConversionError when its architecture is another one, or has a variant that is not supported.
    """
    kind = header.metadata.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise ConversionError(
            f"{header.path} has the architecture {kind!r}; known are {' and '.join(ARCHITECTURES)}.", OTHER_MODEL
        )
    read = _Keys(header, kind)
    layers, width, heads = read.size("block_count"), read.size("embedding_length"), read.size("attention.head_count")
    if layers * LEAST_TENSORS > len(header.tensors):
        raise ConversionError(
            f"{header.path} declares {layers} layers, but has only {len(header.tensors)} tensors.", FETCH_AGAIN
        )
    head_width = read.size("attention.key_length", width // heads)
    if head_width == 0 or read.size("attention.value_length", head_width) != head_width:
        raise read.unsupported("values of another width than keys")
    if read.size("rope.dimension_count", head_width) != head_width:
        raise read.unsupported("rotary positions in a part of each head")
    if header.metadata.get(f"{kind}.expert_count"):
        raise read.unsupported("a mixture of experts")
    if header.metadata.get(f"{kind}.attention.sliding_window"):
        raise read.unsupported("a sliding window")
    for key in MULTIPLIERS:
        if header.metadata.get(f"{kind}.{key}") not in (None, 0, 1):
            raise read.unsupported(f"the multiplier {key}")
    biases = {part: f"blk.0.{part}.bias" in header.tensors for part in ("attn_q", "attn_output", "ffn_gate")}
    if kind == "llama" and biases["attn_q"] != biases["attn_output"]:
        raise read.unsupported("biases in some of the attention's products only")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ConversionError(f"{header.path} lacks the tensor token_embd.weight.", FETCH_AGAIN)
    return {
        "model_type": kind,
        "hidden_size": width,
        "intermediate_size": read.size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": read.size("attention.head_count_kv", heads),
        "head_dim": head_width,
        "max_position_embeddings": read.size("context_length"),
        "rms_norm_eps": read.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": read.number("rope.freq_base", 10000.0),
        "rope_scaling": _scaling(read, head_width),
        "vocab_size": embedding.shape[0],
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": biases["attn_q"],
        "mlp_bias": biases["ffn_gate"],
    }


def _scaling(read: _Keys, width: int) -> dict[str, Any] | None:
    """Return the scaling of rotary positions; None if there is none. Old files have `rope.scale_linear`.

    llama.cpp's converter writes Llama 3.1's scaling as a divisor for each pair of entries.
    """
    kind = read.given("rope.scaling.type")
    factor = read.number("rope.scaling.factor", read.number("rope.scale_linear", 1.0))
    for key in YARN_ADJUSTMENTS:
        if read.number(f"rope.scaling.{key}", 1.0) != 1:
            raise read.unsupported(f"a rotary scaling with {key}")
    divisors = read.divisors(width)
    if divisors is not None:
        if kind not in (None, "none", "linear") or factor not in (0, 1):
            raise read.unsupported(f"rope_freqs.weight beside a rotary scaling of the kind {kind}")
        return {"rope_type": "longrope", "long_factor": divisors, "short_factor": divisors, "attention_factor": 1.0}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": read.size("rope.scaling.original_context_length"),
            "beta_fast": read.number("rope.scaling.yarn_beta_fast", BETA_FAST),
            "beta_slow": read.number("rope.scaling.yarn_beta_slow", BETA_SLOW),
        }
    if kind in (None, "linear"):
        return {"rope_type": "linear", "factor": factor} if factor not in (0, 1) else None
    if kind != "none":
        raise read.unsupported(f"a rotary scaling of the kind {kind}")
    return None


class _Keys:
    """The keys of an architecture, which begin with its name."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self._header = header
        self._architecture = architecture

    def given(self, key: str) -> Any:
        return self._header.metadata.get(f"{self._architecture}.{key}")

    def size(self, key: str, default: int | None = None) -> int:
        """Return a positive integer. Raises ConversionError when it is missing or no such number."""
        found = self.given(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, int) or not 0 < found <= LARGEST_SIZE:
            raise self._wrong(key, found)
        return found

    def number(self, key: str, default: float | None = None) -> float:
        found = self.given(key)
        if found is None and default is not None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise self._wrong(key, found)
        return float(found)

    def divisors(self, width: int) -> list[float] | None:
        """Return the divisors of the frequencies of heads of this width; None if the file has none.

        Raises ConversionError when they are of another number or type.
        """
        tensor = self._header.tensors.get(DIVISORS)
        if tensor is None:
            return None
        if tensor.shape != (width // 2,) or tensor.type is not GGMLQuantizationType.F32:
            raise self.unsupported(f"{DIVISORS} of the shape {tensor.shape} and the type {tensor.type.name}")
        with self._header.path.open("rb") as file:
            file.seek(tensor.start)
            found: list[float] = np.frombuffer(file.read(tensor.bytes), "<f4").tolist()
        return found

    def unsupported(self, variant: str) -> ConversionError:
        return ConversionError(f"{self._header.path} has {variant}, which is not supported.", OTHER_MODEL)

    def _wrong(self, key: str, found: object) -> ConversionError:
        shown = "is missing" if found is None else f"is {str(found)[:40]}"
        return ConversionError(
            f"{self._header.path}: {self._architecture}.{key} {shown}, where one positive number is needed.",
            FETCH_AGAIN,
        )
