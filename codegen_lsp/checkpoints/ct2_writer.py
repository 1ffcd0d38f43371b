"""Write a checkpoint's weights as an int8 model of CTranslate2.

CTranslate2's loaders do the conversion. They get the weights from the memory-mapped files instead of from a
transformers model, so that a checkpoint is never in memory as a whole, needs no class of transformers, and none of its
code runs. Corrected here: the number of qkv groups, which CTranslate2 guesses from a name in config.json, and the
vocabulary, whose gaps it would close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ctranslate2.converters.converter import Converter
from ctranslate2.converters.transformers import CodeGenLoader, GPTBigCodeMHALoader, LlamaLoader
from ctranslate2.specs.attention_spec import RotaryScalingType
from ctranslate2.specs.model_spec import PyTorchVariable, visit_spec
from numpy.typing import NDArray

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.checkpoint_source import CheckpointSource
from codegen_lsp.checkpoints.vocabulary import padded_vocabulary
from codegen_lsp.checkpoints.weights import CheckpointWeights

QUANTIZATION = "int8_float32"
"""int8 matrices, and float32 norms and biases. With plain `int8`, norms and biases of a float16 checkpoint would stay
float16, in which CPUs don't compute."""


def write_model(
    weights: CheckpointWeights, read: CheckpointSource, output: Path, on_weight: Callable[[float], None]
) -> None:
    """Write model.bin, config.json and vocabulary.json of an int8 build to `output`, which must not exist."""
    _SpecConverter(weights, read, on_weight).convert(str(output), quantization=QUANTIZATION)


class _SpecConverter(Converter):  # type: ignore[misc]  # ctranslate2 has no types
    """CTranslate2's steps load, validate, quantize and save, with weights that stay on disk."""

    def __init__(self, weights: CheckpointWeights, read: CheckpointSource, on_weight: Callable[[float], None]) -> None:
        self._weights = weights
        self._read = read
        self._on_weight = on_weight

    def _load(self) -> Any:
        architecture, tokenizer = self._read.architecture, self._read.tokenizer
        end = tokenizer.id_to_token(self._read.end)
        loader = _loader(architecture)
        names = SimpleNamespace(
            bos_token=end, eos_token=end, unk_token=end, rows=padded_vocabulary(tokenizer, architecture.rows)
        )
        with torch.no_grad():
            spec = loader(_as_modules(self._weights, architecture), names)
        spec.config.layer_norm_epsilon = architecture.epsilon
        spec.validate()
        self._watch(spec)
        return spec

    def _watch(self, spec: Any) -> None:
        """Replace the weights that will be quantized by ones that are copied before and report progress."""
        total = len(self._read.architecture.matrices())
        done = 0

        def quantized() -> None:
            nonlocal done
            done += 1
            self._on_weight(min(1.0, done / total))

        def replace(part: Any, path: str, value: object) -> None:
            key = path.rsplit("/", 1)[-1]
            if isinstance(value, PyTorchVariable) and hasattr(part, f"{key}_scale"):
                setattr(part, key, _MappedWeight(value.tensor, quantized))

        visit_spec(spec, replace)


class _MappedWeight(PyTorchVariable):  # type: ignore[misc]
    """A weight that is quantized from a copy.

    CTranslate2 scales in place; a float32 weight would be scaled in the memory map, whose pages would all become
    private copies.
    """

    def __init__(self, tensor: torch.Tensor, quantized: Callable[[], None]) -> None:
        super().__init__(tensor)
        self._quantized = quantized

    def to(self, dtype: str) -> _MappedWeight:
        return _MappedWeight(self.tensor.to(getattr(torch, dtype)), self._quantized)

    def numpy(self) -> NDArray[Any]:
        self._quantized()
        return np.array(self.tensor.numpy())


def divided_frequencies(divisors: Sequence[float]) -> dict[str, Any]:
    """Return the variables of an attention layer with these divisors: in CTranslate2's terms a scaling by LongRoPE
    whose divisors are the same for every length."""
    values = np.array(divisors, np.float32)
    return {
        "rotary_scaling_type": np.int8(RotaryScalingType.Su),
        "rotary_scaling_long_factor": values,
        "rotary_scaling_short_factor": values,
    }


def _loader(architecture: Architecture) -> Any:
    """Return CTranslate2's loader of a block."""
    if architecture.block == "llama":
        return _LlamaLoader(architecture)
    return _BigCodeLoader() if architecture.block == "gpt_bigcode" else _CodeGenLoader(architecture.qkv_groups)


class _CodeGenLoader(CodeGenLoader):  # type: ignore[misc]
    def __init__(self, groups: int) -> None:
        self._groups = groups

    def set_decoder(self, spec: Any, module: Any, rotary_dim: int, num_heads: int, embed_dim: int, mp_num: int) -> None:
        super().set_decoder(spec, module, rotary_dim, num_heads, embed_dim, self._groups)

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


class _LlamaLoader(LlamaLoader):  # type: ignore[misc]
    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def get_model_spec(self, model: Any) -> Any:
        spec = super().get_model_spec(model)
        for layer in spec.decoder.layer:
            # CTranslate2's loader leaves it out, and then assumes the width divided by the heads.
            vars(layer.self_attention)["head_dim"] = np.dtype("int32").type(self._architecture.head_width)
            if self._architecture.rotary_divisors:
                vars(layer.self_attention).update(divided_frequencies(self._architecture.rotary_divisors))
        return spec

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


class _BigCodeLoader(GPTBigCodeMHALoader):  # type: ignore[misc]
    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        rows: list[str] = tokenizer.rows
        return rows


def _as_modules(weights: CheckpointWeights, architecture: Architecture) -> SimpleNamespace:
    """Return the weights as a tree of attributes such as `transformer.h[0].ln_1.weight`, with the settings that
    CTranslate2's loaders read."""
    root = SimpleNamespace()
    for name in architecture.shapes():
        *path, leaf = name.split(".")
        part = root
        for step in path:
            part = vars(part).setdefault(step, SimpleNamespace(bias=None))
        weight = weights[name]
        if architecture.attention_factor != 1 and ".q_proj." in name:
            weight = weight.float() * architecture.attention_factor**2
        setattr(part, leaf, weight)
    decoder, layers = ("model", "layers") if architecture.block == "llama" else ("transformer", "h")
    if architecture.tied:
        root.lm_head = root.model.embed_tokens if architecture.block == "llama" else root.transformer.wte
    stack = vars(getattr(vars(root)[decoder], layers))
    setattr(vars(root)[decoder], layers, [stack[str(index)] for index in range(architecture.layers)])
    root.config = SimpleNamespace(
        n_layer=architecture.layers,
        n_head=architecture.heads,
        n_embd=architecture.width,
        rotary_dim=architecture.rotary,
        activation_function="gelu" if architecture.exact_gelu else "gelu_new",
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        rms_norm_eps=architecture.epsilon,
        rope_theta=architecture.rotary_base,
        rope_scaling=_scaling(architecture),
    )
    return root


def _scaling(architecture: Architecture) -> dict[str, Any] | None:
    """Return the scaling of rotary positions in the form of config.json; None if there is none."""
    if architecture.rotary_factor == 1:
        return None
    return {"rope_type": "linear", "factor": architecture.rotary_factor, "rope_theta": architecture.rotary_base}
