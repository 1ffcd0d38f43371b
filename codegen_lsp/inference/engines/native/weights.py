"""Weights of a decoder, from the `model.bin` of a build.

The quantized matrices are used in place, in the mapped file; norms and biases are small and copied. The variables say
what the model is. Two kinds of block are supported: GPT-J's, with attention and MLP in parallel behind one
LayerNorm (CodeGen1, CodeGen2), and Llama's (CodeGen2.5), which is also that of Qwen2: several heads may have the same
keys and values, and the products may have biases. Everything else that CTranslate2 can store is refused by name.
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import GROUPS
from codegen_lsp.inference.engines.native.arrays import Floats, address
from codegen_lsp.inference.engines.native.matrices import FourBitMatrix, Matrix, QuantizedMatrix
from codegen_lsp.inference.engines.native.model_file import CONVERT_AGAIN, Variable, map_file, read_variables

OTHER_ENGINE = "Set `engine` to `auto` or `ct2`."

GELU_TANH, SWISH = 1, 2
"""CTranslate2's numbers for the activations that CodeGen's models have."""
LINEAR_SCALING, DIVIDED_FREQUENCIES = 0, 1
"""CTranslate2's numbers for the scaling of positions by a factor, and of the frequency of each pair by its own."""


@frozen
class Norm:
    """LayerNorm, or RMSNorm if there is no beta. Both are (width,)."""

    gamma: Floats
    beta: Floats | None


@frozen
class LayerWeights:
    """One layer. Matrices are (outputs, inputs); biases may be missing."""

    attention_norm: Norm
    mlp_norm: Norm | None
    """None in a GPT-J block, whose MLP has the same input as its attention."""
    qkv_proj: QuantizedMatrix
    """Rows of query, key and value, each ordered by head."""
    qkv_bias: Floats | None
    o_proj: QuantizedMatrix
    o_bias: Floats | None
    up_proj: QuantizedMatrix
    up_bias: Floats | None
    gate_proj: QuantizedMatrix | None
    """In a Llama block: the activation of its output multiplies the output of `up_proj`."""
    gate_bias: Floats | None
    down_proj: QuantizedMatrix
    down_bias: Floats | None


@frozen
class ModelWeights:
    """All weights of a decoder."""

    block_type: Literal["codegen", "llama"]
    heads: int
    kv_heads: int
    """Heads of keys and values; each serves heads / kv_heads heads. Equal to `heads` in a GPT-J block."""
    head_width: int
    """Entries of a head."""
    width: int
    """Entries of a hidden state."""
    rotary: int
    """Entries of each head that have rotary embeddings."""
    rotary_interleaved: bool
    """True if a rotated pair is two neighbouring entries, instead of one of each half."""
    rotary_base: float
    rotary_factor: float
    """Number by which positions are divided: linear scaling, which makes a context longer than it was in training."""
    rotary_divisors: Floats | None
    """Numbers by which the frequencies of the rotated pairs are divided, (rotary / 2,); None where none are."""
    epsilon: float
    embedding: QuantizedMatrix
    layers: tuple[LayerWeights, ...]
    norm: Norm
    lm_head: QuantizedMatrix
    """(padded vocabulary size, width)."""
    lm_head_bias: Floats | None
    pages: mmap.mmap
    """The mapped file, in which the quantized matrices lie."""

    def forget_pages(self) -> None:
        """Drop the pages of the mapped file from this process; those that are read again come from the system's cache.

        To be called when the matrices have been packed: after that, only a few rows of the embedding are read.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)

    def bytes_after(self, values: NDArray[Any]) -> int:
        """Return how many bytes beyond these values may be read.

        That is up to the end of the last mapped page for values in the mapped file, 0 for others.
        """
        start = address(np.frombuffer(self.pages, np.int8))
        end = start + math.ceil(len(self.pages) / mmap.PAGESIZE) * mmap.PAGESIZE
        first = address(values)
        return end - (first + values.nbytes) if start <= first < end else 0

    @property
    def attention_width(self) -> int:
        """Entries of the queries of a token, and of the output of its attention."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Entries of the keys of a token, and of its values."""
        return self.kv_heads * self.head_width

    @property
    def mlp_width(self) -> int:
        """Entries between the two products of an MLP."""
        return self.layers[0].up_proj.shape[0]

    @property
    def padded_vocab_size(self) -> int:
        """Number of logits; more than the tokenizer's tokens if the embedding has padding rows."""
        return self.lm_head.shape[0]

    @property
    def token_bytes(self) -> int:
        """Memory of the keys and values of one token, in bytes."""
        return len(self.layers) * 2 * self.kv_width * 4

    @property
    def step_bytes(self) -> int:
        """Bytes of quantized weights that one decode step reads: all but the embedding."""
        return sum(matrix.nbytes for matrix in self._multiplied())

    @property
    def step_weights(self) -> int:
        """Number of weights that one decode step multiplies by: all but the embedding, norms and biases."""
        return sum(math.prod(matrix.shape) for matrix in self._multiplied())

    @property
    def groups(self) -> set[int]:
        """Numbers of columns that share a scale in the 4-bit matrices; empty if there are none."""
        matrices = (self.embedding, *self._multiplied())
        return {matrix.group for matrix in matrices if isinstance(matrix, FourBitMatrix)}

    @property
    def has_four_bits(self) -> bool:
        """Return whether any matrix is in 4 bits."""
        return bool(self.groups)

    def _multiplied(self) -> list[QuantizedMatrix]:
        """Return the matrices of all products."""
        return [self.lm_head] + [
            matrix
            for layer in self.layers
            for matrix in (layer.qkv_proj, layer.o_proj, layer.up_proj, layer.gate_proj, layer.down_proj)
            if matrix is not None
        ]


def read_weights(directory: Path) -> ModelWeights:
    """Map the weights of a build.

    Raises: ModelError when model.bin is missing, truncated, too new or something else, when the model is not int8, and
    when its architecture is not one of CodeGen's.
    """
    path = directory / "model.bin"
    pages = map_file(path)
    return _Assembler(directory, read_variables(path, pages), _epsilon(directory)).assemble(pages)


@frozen
class _Sizes:
    """Entries of a hidden state, of all queries, and of all keys."""

    width: int
    attended: int
    kv_width: int


class _Assembler:
    """Builder of a ModelWeights from variables. Raises: ModelError for models that the engine can't compute."""

    def __init__(self, directory: Path, variables: dict[str, Variable], epsilon: float | None) -> None:
        self._directory = directory
        self._variables = variables
        self._epsilon = epsilon

    def assemble(self, pages: mmap.mmap) -> ModelWeights:
        """Check all variables and return the weights."""
        self._refuse_variants()
        heads = self._whole("num_heads", 0)
        embedding = self._matrix("embeddings")
        rows, width = embedding.shape
        attention = "layer_0/self_attention"
        kv_heads = self._whole(f"{attention}/num_heads_kv", heads)
        attended = self._matrix(f"{attention}/linear_1", width).shape[1]
        if heads <= 0 or kv_heads <= 0 or width == 0 or heads % kv_heads or attended == 0 or attended % heads:
            raise self._damaged(f"{heads} attention heads, and {kv_heads} of keys, over {attended} of {width} values")
        head_width = attended // heads
        llama = self._whole("activation", -1) == SWISH
        if not llama and (kv_heads, attended) != (heads, width):
            raise self._refused(f"num_heads_kv {kv_heads} and attention over {attended} values in a GPT-J block")
        sizes = _Sizes(width, attended, kv_heads * head_width)
        count = self._count_layers()
        hidden = self._matrix("layer_0/ffn/linear_0", None, width).shape[0]
        layers = tuple(self._layer(f"layer_{index}", sizes, hidden, llama) for index in range(count))
        norm = self._norm("layer_norm", width)
        epsilon = self._epsilon if self._epsilon is not None else (1e-5 if norm.beta is not None else 1e-6)
        lm_head = self._matrix("projection", rows, width)
        rotary = self._whole(f"{attention}/rotary_dim", 0) or head_width
        if rotary % 2 or not 0 < rotary <= head_width:
            raise self._damaged(f"a rotary width of {rotary}")
        rotary_base = self._scalar(f"{attention}/rotary_base", 10000.0)
        if rotary_base <= 1 or not 0 < epsilon < 1:
            raise self._damaged(f"a rotary base of {rotary_base} and an epsilon of {epsilon}")
        return ModelWeights(
            block_type="llama" if llama else "codegen",
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_width,
            width=width,
            rotary=rotary,
            rotary_interleaved=bool(self._scalar(f"{attention}/rotary_interleave", 1)),
            rotary_base=rotary_base,
            rotary_factor=self._rotary_factor(attention),
            rotary_divisors=self._rotary_divisors(attention, rotary // 2),
            epsilon=epsilon,
            embedding=embedding,
            layers=layers,
            norm=norm,
            lm_head=lm_head,
            lm_head_bias=self._vector("projection/bias", rows),
            pages=pages,
        )

    def _count_layers(self) -> int:
        count = 0
        while f"decoder/layer_{count}/self_attention/linear_0/weight" in self._variables:
            count += 1
        if not count:
            raise self._refused("no layers")
        return count

    def _refuse_variants(self) -> None:
        if self._scalar("activation", -1) not in (GELU_TANH, SWISH):
            raise self._refused(f"activation {self._scalar('activation', -1)}")
        if not self._scalar("pre_norm", 1):
            raise self._refused("norms after the blocks")
        for name in ("alibi", "scale_embeddings", "start_from_zero_embedding"):
            if self._scalar(name, 0):
                raise self._refused(name)
        unknown = ("queries_scale", "relative", "q_norm", "k_norm", "v_norm", "sliding_window")
        if "decoder/position_encodings/encodings" in self._variables:
            raise self._refused("learned positions, as in GPTBigCode (SantaCoder, StarCoder)")
        for name in self._variables:
            if (
                any(part.startswith(unknown) for part in name.split("/"))
                or "position_encodings" in name
                or "/attention/" in name
            ):
                raise self._refused(name)

    def _rotary_factor(self, attention: str) -> float:
        """Return the factor of linear scaling. Kinds of scaling that are not supported are refused."""
        kind = self._whole(f"{attention}/rotary_scaling_type", -1)
        if kind in (-1, DIVIDED_FREQUENCIES):
            return 1.0
        factor = self._scalar(f"{attention}/rotary_scaling_factor", 1.0)
        if kind != LINEAR_SCALING:
            raise self._refused(f"rotary scaling of the kind {kind}")
        if factor < 1:
            raise self._damaged(f"rotary scaling by {factor}")
        return factor

    def _rotary_divisors(self, attention: str, pairs: int) -> Floats | None:
        """Return the divisors of the frequencies. They must be the same for texts of all lengths."""
        if self._whole(f"{attention}/rotary_scaling_type", -1) != DIVIDED_FREQUENCIES:
            return None
        long, short = (f"{attention}/rotary_scaling_{length}_factor" for length in ("long", "short"))
        divisors, others = (self._finite(name, self._required(name), pairs) for name in (long, short))
        lengths = [f"{attention}/{name}" for name in ("original_max_position_embeddings", "max_position_embeddings")]
        if not np.array_equal(divisors, others) or any(self._scalar(name, 0) for name in lengths):
            raise self._refused("rotary scaling that depends on the length of the text")
        if divisors.min() <= 0:
            raise self._damaged("rotary scaling with divisors that are not positive")
        return divisors

    def _layer(self, name: str, sizes: _Sizes, hidden: int, llama: bool) -> LayerWeights:
        attention, mlp, width = f"{name}/self_attention", f"{name}/ffn", sizes.width
        fused = sizes.attended + 2 * sizes.kv_width
        up, gate = ("linear_0_noact", "linear_0") if llama else ("linear_0", None)
        return LayerWeights(
            attention_norm=self._norm(f"{attention}/layer_norm" if llama else f"{name}/shared_layer_norm", width),
            mlp_norm=self._norm(f"{mlp}/layer_norm", width) if llama else None,
            qkv_proj=self._matrix(f"{attention}/linear_0", fused, width),
            qkv_bias=self._vector(f"{attention}/linear_0/bias", fused),
            o_proj=self._matrix(f"{attention}/linear_1", width, sizes.attended),
            o_bias=self._vector(f"{attention}/linear_1/bias", width),
            up_proj=self._matrix(f"{mlp}/{up}", hidden, width),
            up_bias=self._vector(f"{mlp}/{up}/bias", hidden),
            gate_proj=self._matrix(f"{mlp}/{gate}", hidden, width) if gate else None,
            gate_bias=self._vector(f"{mlp}/{gate}/bias", hidden) if gate else None,
            down_proj=self._matrix(f"{mlp}/linear_1", width, hidden),
            down_bias=self._vector(f"{mlp}/linear_1/bias", width),
        )

    def _matrix(self, name: str, rows: int | None = None, columns: int | None = None) -> QuantizedMatrix:
        """Return a matrix of this shape, of any number of rows or columns where None is given."""
        weight, scales = self._required(f"{name}/weight"), self._variables.get(f"decoder/{name}/weight_scale")
        if weight.type != "int8" or scales is None:
            raise OtherEngineError(
                f"{self._directory} is not an int8 build: {name} is {weight.type}.",
                "Convert the model again, or set `engine` to `ct2`.",
            )
        if weight.values.ndim != 2:
            raise self._damaged(f"{name} of shape {weight.values.shape}")
        matrix = (
            self._four_bits(name, weight.values, scales)
            if scales.values.ndim == 2
            else self._int8(name, weight.values, scales)
        )
        if rows not in (None, matrix.shape[0]) or columns not in (None, matrix.shape[1]):
            raise self._damaged(f"{name} of shape {matrix.shape}")
        return matrix

    def _int8(self, name: str, values: NDArray[np.int8], scales: Variable) -> Matrix:
        found = self._finite(f"{name}/weight_scale", scales, len(values))
        if not (found > 0).all():
            raise self._damaged(f"{name} with scales that are not positive")
        return Matrix(values, found)

    def _four_bits(self, name: str, values: NDArray[np.int8], scales: Variable) -> FourBitMatrix:
        rows, groups = scales.values.shape
        columns = 2 * values.shape[1]
        if scales.type != "float16" or rows != len(values) or columns not in [groups * group for group in GROUPS]:
            raise self._damaged(
                f"{name} of {columns} columns in 4 bits with {scales.type} scales of shape {(rows, groups)}"
            )
        if not np.isfinite(scales.values).all():
            raise self._damaged(f"{name} with scales that are no numbers")
        return FourBitMatrix(values.view(np.uint8), scales.values)

    def _norm(self, name: str, width: int) -> Norm:
        return Norm(
            self._finite(f"{name}/gamma", self._required(f"{name}/gamma"), width), self._vector(f"{name}/beta", width)
        )

    def _vector(self, name: str, size: int) -> Floats | None:
        variable = self._variables.get(f"decoder/{name}")
        return None if variable is None else self._finite(name, variable, size)

    def _finite(self, name: str, variable: Variable, size: int) -> Floats:
        """Return a vector of this size, all of whose values are numbers."""
        if variable.values.shape != (size,):
            raise self._damaged(f"{name} of shape {variable.values.shape}")
        floats = variable.floats()
        if not np.isfinite(floats).all():
            raise self._damaged(f"{name} with values that are no numbers")
        return floats

    def _required(self, name: str) -> Variable:
        try:
            return self._variables[f"decoder/{name}"]
        except KeyError:
            raise self._refused(f"no {name}") from None

    def _scalar(self, name: str, default: float) -> float:
        variable = self._variables.get(f"decoder/{name}")
        if variable is None or variable.values.size != 1:
            return default
        value = float(variable.floats().item())
        if not math.isfinite(value):
            raise self._damaged(f"{name} of {value}")
        return value

    def _whole(self, name: str, default: int) -> int:
        value = float(self._scalar(name, default))
        if not value.is_integer():
            raise self._damaged(f"{name} of {value}")
        return int(value)

    def _refused(self, what: str) -> ModelError:
        return OtherEngineError(
            f"The native engine can't run the model in {self._directory}: it has {what}.", OTHER_ENGINE
        )

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"The model in {self._directory} is damaged: it has {what}.", CONVERT_AGAIN)


def _epsilon(directory: Path) -> float | None:
    """Return the epsilon of the norms from `config.json`; None if it has none."""
    path = directory / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        value = config.get("layer_norm_epsilon")
        return None if value is None else float(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} can't be read: {error}.", CONVERT_AGAIN) from error
