"""Sizes of a checkpoint's architecture, and numbers that follow from them: parameters, memory, shapes of weights.

Does not import torch, so that the command line can show the needs of a model before anything is fetched.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from attrs import Factory, frozen

from codegen_lsp.checkpoints.config_checks import check_config, own_code
from codegen_lsp.checkpoints.rotary_scaling import ROTARY_BASE, UnsupportedError, read_rotary
from codegen_lsp.checkpoints.weights import read_json
from codegen_lsp.errors import ConversionError

BlockType = Literal["codegen", "llama", "gpt_bigcode"]
"""Transformer block: CodeGen1, CodeGen2 and the embedded model share one; CodeGen2.5 has Llama's, which is also that of
Qwen2 and of many small models, with some of `kv_heads`, biases, a tied head and other rotary positions. GPTBigCode's is
GPT-2's with one head of keys and values, and with learned positions (SantaCoder, StarCoder)."""

LEARNED_POSITIONS = "transformer.wpe.weight"
"""Name in transformers of GPTBigCode's positions, which stay float32."""

COUNTED_CONTEXT = 4096
"""Tokens of a longer context that count as needed memory. A prompt of an editor has 7,500 characters with the default
settings, 2,100 to 3,000 tokens of code, and its answer at most some hundred more."""

Family = Literal["codegen", "codegen2", "codegen25", "llama", "qwen2", "gpt_bigcode"]
"""Family of checkpoints. CodeGen's have one kind of tokenizer and one infill format each, the others their own."""

CODEGENS: tuple[Family, ...] = ("codegen", "codegen2", "codegen25")
"""CodeGen's own families."""

TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""Names in transformers of GELU's approximation by tanh."""

MISTRAL_WINDOW = 4096
"""Tokens that a token of Mistral attends to where config.json has no `sliding_window`, in transformers. Models without
a window state null."""

CHOOSE_ANOTHER = "Choose a model that docs/models.md lists, or run this one with another server and set `remote.url`."


@frozen
class Architecture:
    """Sizes of a decoder."""

    block: BlockType
    layers: int
    heads: int
    width: int
    hidden: int
    """Width of the MLP."""
    rotary: int
    """Entries of each head that are rotated by position; 0 where positions are learned."""
    rows: int
    """Rows of the embedding, padding included."""
    context: int
    """Tokens, prompt and answer together."""
    epsilon: float
    """Added to the variance by LayerNorm or RMSNorm."""
    qkv_groups: int = 0
    """Number of groups of [query | value | key] rows in CodeGen's fused projection; 0 for Llama, which stores three
    matrices, and for GPTBigCode, whose rows are those of query, key and value."""
    kv_heads: int = Factory(lambda self: self.heads, takes_self=True)
    """Heads of keys and values; each serves heads / kv_heads heads."""
    head_width: int = Factory(lambda self: self.width // self.heads, takes_self=True)
    qkv_bias: bool = False
    """Whether the projections of query, key and value have biases. This and the next ones are Llama's; GPTBigCode has
    all biases."""
    o_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    """Whether the embedding is also the output layer."""
    rotary_base: float = ROTARY_BASE
    rotary_factor: float = 1.0
    """Number by which positions are divided (linear scaling)."""
    rotary_divisors: tuple[float, ...] = ()
    """Numbers by which the frequencies of the rotated pairs are divided; empty where none are."""
    attention_factor: float = 1.0
    """Number by which cosines and sines are multiplied (YaRN)."""
    exact_gelu: bool = False
    """True where GPTBigCode's activation is the exact GELU instead of its approximation by tanh."""

    @property
    def is_codegens(self) -> bool:
        """Return whether the block is as in one of CodeGen's checkpoints."""
        return (
            self.kv_heads == self.heads
            and self.attention_width == self.width
            and not (self.qkv_bias or self.o_bias or self.mlp_bias or self.tied)
            and (self.rotary_base, self.rotary_factor, self.rotary_divisors) == (ROTARY_BASE, 1.0, ())
        )

    @property
    def attention_width(self) -> int:
        """Entries of the queries of a token."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Entries of the keys of a token, and of its values."""
        return self.kv_heads * self.head_width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight of a checkpoint, by its name in transformers."""
        width, hidden = self.width, self.hidden
        if self.block == "gpt_bigcode":
            return self._bigcode_shapes()
        if self.block == "llama":
            outer: dict[str, tuple[int, ...]] = {
                "model.embed_tokens.weight": (self.rows, width),
                "model.norm.weight": (width,),
            }
            if not self.tied:
                outer["lm_head.weight"] = (self.rows, width)
            prefix = "model.layers"
            layer: dict[str, tuple[int, ...]] = {
                "input_layernorm.weight": (width,),
                "post_attention_layernorm.weight": (width,),
            }
            products = {
                "self_attn.q_proj": (self.attention_width, width, self.qkv_bias),
                "self_attn.k_proj": (self.kv_width, width, self.qkv_bias),
                "self_attn.v_proj": (self.kv_width, width, self.qkv_bias),
                "self_attn.o_proj": (width, self.attention_width, self.o_bias),
                "mlp.gate_proj": (hidden, width, self.mlp_bias),
                "mlp.up_proj": (hidden, width, self.mlp_bias),
                "mlp.down_proj": (width, hidden, self.mlp_bias),
            }
            for name, (outputs, inputs, has_bias) in products.items():
                layer[f"{name}.weight"] = (outputs, inputs)
                if has_bias:
                    layer[f"{name}.bias"] = (outputs,)
        else:
            outer = {
                "transformer.wte.weight": (self.rows, width),
                "transformer.ln_f.weight": (width,),
                "transformer.ln_f.bias": (width,),
                "lm_head.weight": (self.rows, width),
                "lm_head.bias": (self.rows,),
            }
            prefix = "transformer.h"
            layer = {
                "ln_1.weight": (width,),
                "ln_1.bias": (width,),
                "attn.qkv_proj.weight": (3 * width, width),
                "attn.out_proj.weight": (width, width),
                "mlp.fc_in.weight": (hidden, width),
                "mlp.fc_in.bias": (hidden,),
                "mlp.fc_out.weight": (width, hidden),
                "mlp.fc_out.bias": (width,),
            }
        inner = {f"{prefix}.{i}.{name}": shape for i in range(self.layers) for name, shape in layer.items()}
        return outer | inner

    def _bigcode_shapes(self) -> dict[str, tuple[int, ...]]:
        width, hidden = self.width, self.hidden
        outer: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (self.rows, width),
            LEARNED_POSITIONS: (self.context, width),
            "transformer.ln_f.weight": (width,),
            "transformer.ln_f.bias": (width,),
        }
        if not self.tied:
            outer["lm_head.weight"] = (self.rows, width)
        layer: dict[str, tuple[int, ...]] = {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "attn.c_attn.weight": (self.attention_width + 2 * self.kv_width, width),
            "attn.c_attn.bias": (self.attention_width + 2 * self.kv_width,),
            "attn.c_proj.weight": (width, self.attention_width),
            "attn.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "mlp.c_fc.weight": (hidden, width),
            "mlp.c_fc.bias": (hidden,),
            "mlp.c_proj.weight": (width, hidden),
            "mlp.c_proj.bias": (width,),
        }
        return outer | {f"transformer.h.{i}.{name}": shape for i in range(self.layers) for name, shape in layer.items()}

    @property
    def parameters(self) -> int:
        """Number of weights, including embedding and output layer."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def matrices(self) -> list[tuple[int, ...]]:
        """Return the shape of every weight that is quantized: all but norms, biases and learned positions."""
        return [shape for name, shape in self.shapes().items() if len(shape) == 2 and name != LEARNED_POSITIONS]

    @property
    def int8_bytes(self) -> int:
        """Size of the int8 build's weights: a byte for each matrix entry, a float32 scale for each row of a matrix,
        and float32 for the rest."""
        quantized = sum(rows * columns for rows, columns in self.matrices())
        scales = sum(rows for rows, _ in self.matrices())
        return quantized + 4 * (scales + self.parameters - quantized)

    @property
    def memory_bytes(self) -> int:
        """Memory to run the int8 build on a CPU: its weights and the float32 KV cache of one context, of which
        `COUNTED_CONTEXT` tokens count where it is longer.

        The process (interpreter and libraries) takes about 250 MiB more.
        """
        return self.int8_bytes + 2 * 4 * self.layers * self.kv_width * min(self.context, COUNTED_CONTEXT)

    def four_bit_bytes(self, group: int) -> int:
        """Return the size of a 4-bit build's weights: half a byte for each entry of a matrix that groups divide, and a
        float16 scale for each group. The embedding stays int8 unless it is the output layer, too."""
        embedding = None if self.tied else next(iter(self.shapes()))
        kept = (embedding, LEARNED_POSITIONS)
        saved = sum(
            shape[0] * shape[1] // 2 + 4 * shape[0] - 2 * shape[0] * shape[1] // group
            for name, shape in self.shapes().items()
            if len(shape) == 2 and shape[1] % group == 0 and name not in kept
        )
        return self.int8_bytes - saved

    def four_bit_memory_bytes(self, group: int) -> int:
        """Memory to run the 4-bit build on a CPU, counted as `memory_bytes`."""
        return self.memory_bytes - self.int8_bytes + self.four_bit_bytes(group)

    @property
    def has_four_bits(self) -> bool:
        """Return whether a 4-bit build can be run: the native engine alone runs them."""
        return self.block != "gpt_bigcode"

    @property
    def conversion_bytes(self) -> int:
        """Memory to convert: the int8 weights, the rearranged qkv matrices in the checkpoint's type (at most float32),
        and float32 copies of the largest matrix while it is quantized."""
        rearranged = 0 if self.block == "gpt_bigcode" else self.layers
        qkv = (self.attention_width + 2 * self.kv_width) * self.width * rearranged * 4
        return self.int8_bytes + qkv + 3 * 4 * max(rows * columns for rows, columns in self.matrices())


def read_architecture(directory: Path) -> Architecture:
    """Read the architecture from a checkpoint's config.json.

    Raises ConversionError when config.json is missing or incomplete, or the architecture is not supported.
    """
    path = directory / "config.json"
    config = read_json(path)
    check_config(config, path)
    kind = config.get("model_type")
    try:
        if kind == "codegen":
            return _codegen(config)
        if kind in ("llama", "qwen2", "mistral"):
            return _llama(config)
        if kind == "gpt_bigcode":
            return _gpt_bigcode(config)
    except UnsupportedError as error:
        raise ConversionError(f"{path} declares what is not supported: {error}.", CHOOSE_ANOTHER) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{path} is incomplete: {type(error).__name__} {error}.", "Fetch the checkpoint again."
        ) from error
    raise ConversionError(
        f"{path} declares the architecture {kind!r}; known are codegen (CodeGen, CodeGen2), llama (CodeGen2.5), "
        f"qwen2, mistral and gpt_bigcode.{own_code(config)}",
        CHOOSE_ANOTHER,
    )


def _codegen(config: dict[str, Any]) -> Architecture:
    width, heads = int(config["n_embd"]), int(config["n_head"])
    if width % heads:
        raise ValueError(f"n_embd {width} is not a multiple of n_head {heads}")
    if config.get("activation_function", "gelu_new") != "gelu_new":
        raise UnsupportedError(f"activation_function {config['activation_function']} is not gelu_new")
    return Architecture(
        block="codegen",
        layers=int(config["n_layer"]),
        heads=heads,
        width=width,
        hidden=int(config.get("n_inner") or 4 * width),
        rotary=int(config.get("rotary_dim") or width // heads),
        rows=int(config["vocab_size"]),
        context=int(config["n_positions"]),
        epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        qkv_groups=_declared_groups(config, heads),
    )


def _declared_groups(config: dict[str, Any], heads: int) -> int:
    """Return the number of qkv groups: 8 for CodeGen2's 1B and 3.7B, which were trained on eight shards, else 4.

    Only the config.json of those two has a `head_dim` of 128 or 256; CTranslate2 uses the same criterion.
    """
    declared = 8 if config.get("head_dim") in (128, 256) else 4
    if heads % declared:
        raise ValueError(f"n_head {heads} is not a multiple of {declared}, the number of qkv groups")
    return declared


def _llama(config: dict[str, Any]) -> Architecture:
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    if heads % kv_heads:
        raise ValueError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    head_width = int(config.get("head_dim") or width // heads)
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedError(f"hidden_act {config['hidden_act']} is not silu")
    if config.get("use_sliding_window"):
        raise UnsupportedError("use_sliding_window")
    context = int(config["max_position_embeddings"])
    if config.get("model_type") == "mistral":
        _check_window(config, context)
    qwen = config.get("model_type") == "qwen2"
    biased = bool(config.get("attention_bias"))
    rotary = read_rotary(config, head_width)
    return Architecture(
        block="llama",
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        width=width,
        hidden=int(config["intermediate_size"]),
        rotary=head_width,
        rows=int(config["vocab_size"]),
        context=context,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        kv_heads=kv_heads,
        head_width=head_width,
        qkv_bias=qwen or biased,
        o_bias=biased and not qwen,
        mlp_bias=bool(config.get("mlp_bias")),
        tied=bool(config.get("tie_word_embeddings")),
        rotary_base=rotary.base,
        rotary_factor=rotary.factor,
        rotary_divisors=rotary.divisors,
        attention_factor=rotary.attention_factor,
    )


def _check_window(config: dict[str, Any], context: int) -> None:
    """Raise UnsupportedError when Mistral's tokens attend to fewer than `context` tokens; else its block is Llama's."""
    window = config.get("sliding_window", MISTRAL_WINDOW)
    if window is None:
        return
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise ValueError(f"sliding_window {window!r} is not a number of tokens")
    if window < context:
        stated = "" if "sliding_window" in config else " (transformers' default, as config.json states none)"
        raise UnsupportedError(f"sliding_window {window}{stated}, shorter than the context of {context} tokens")


def _gpt_bigcode(config: dict[str, Any]) -> Architecture:
    width, heads = int(config["n_embd"]), int(config["n_head"])
    if width % heads:
        raise ValueError(f"n_embd {width} is not a multiple of n_head {heads}")
    if not config.get("multi_query", True):
        raise UnsupportedError("multi_query false")
    activation = config.get("activation_function", TANH_GELU[-1])
    if activation not in (*TANH_GELU, "gelu"):
        raise UnsupportedError(f"activation_function {activation} is not GELU")
    if not config.get("scale_attn_weights", True) or config.get("add_cross_attention"):
        raise UnsupportedError("scale_attn_weights false, or add_cross_attention")
    return Architecture(
        block="gpt_bigcode",
        layers=int(config["n_layer"]),
        heads=heads,
        width=width,
        hidden=int(config.get("n_inner") or 4 * width),
        rotary=0,
        rows=int(config["vocab_size"]),
        context=int(config["n_positions"]),
        epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        kv_heads=1,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        tied=bool(config.get("tie_word_embeddings", True)),
        exact_gelu=activation == "gelu",
    )
