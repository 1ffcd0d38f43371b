"""Attention weights, computed again to explain what each layer and head looks at.

The forward pass keeps none: they would be the largest array of a long prompt. The keys of all tokens are in the KV
cache, so the weights of a layer follow from its input alone. A query is projected in numpy, with activations rounded to
255 steps as in the library; the products are sums in float32 instead of integers, which differ in the last bits.
"""

from __future__ import annotations

import numpy as np

from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.forward import rotary_angles
from codegen_lsp.inference.engines.native.matrices import QuantizedMatrix
from codegen_lsp.inference.engines.native.weights import ModelWeights, Norm

SMALLEST = 1e-10
"""Lower bound of the largest magnitude, for activations that are all zero; the same as in the library."""
ROWS_AT_ONCE = 1024
"""Rows of a matrix that are converted to floats together: 25 MB at a width of 6,144."""


def rotated_queries(weights: ModelWeights, layer: int, hidden: Floats, offset: int) -> Floats:
    """Return the queries of a layer, (heads, tokens, head width): see `ForwardPass.queries`.

    Entries are in the order of the checkpoint, as the C library writes its keys.
    """
    found = weights.layers[layer]
    normed = _normed(hidden, found.attention_norm, weights.epsilon)
    count, heads, rotary = len(hidden), weights.heads, weights.rotary
    projected = _product(normed, found.qkv_proj, weights.attention_width)
    if found.qkv_bias is not None:
        projected += found.qkv_bias[: weights.attention_width]
    query = projected.reshape(count, heads, weights.head_width)
    angles = rotary_angles(weights, offset + count)[offset:, None]
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, second = (
        (query[..., 0:rotary:2], query[..., 1:rotary:2])
        if weights.rotary_interleaved
        else (query[..., : rotary // 2], query[..., rotary // 2 : rotary])
    )
    turned = first * cosines - second * sines, second * cosines + first * sines
    first[...], second[...] = turned
    scaled: Floats = query.transpose(1, 0, 2) * np.float32(weights.head_width**-0.5)
    return scaled


def attention_weights(queries: Floats, keys: Floats) -> Floats:
    """Return how much each query attends to each key: (heads, tokens, all tokens); a row sums to 1.

    `keys` are (kv heads, all tokens, head width), each of which serves as many heads in a row; the queries are those of
    the last tokens, and attend to no later ones.
    """
    heads, count, width = queries.shape
    kv_heads, total = keys.shape[:2]
    grouped = queries.reshape(kv_heads, heads // kv_heads * count, width)
    scores: Floats = np.matmul(grouped, keys.transpose(0, 2, 1)).reshape(heads, count, total)
    scores[:, :, total - count :] += np.triu(np.full((count, count), -np.inf, dtype=np.float32), 1)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def _normed(x: Floats, norm: Norm, epsilon: float) -> Floats:
    if norm.beta is None:
        scaled: Floats = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(epsilon)) * norm.gamma
        return scaled
    centred = x - x.mean(-1, keepdims=True)
    by = np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(epsilon))
    result: Floats = centred / by * norm.gamma + norm.beta
    return result


def _product(x: Floats, matrix: QuantizedMatrix, rows: int) -> Floats:
    """Return the products with the first `rows` rows of a matrix: (tokens, rows)."""
    largest = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(SMALLEST))
    rounded = np.rint(x / largest * np.float32(127))
    product: Floats = np.empty((len(x), rows), dtype=np.float32)
    for at in range(0, rows, ROWS_AT_ONCE):
        end = min(at + ROWS_AT_ONCE, rows)
        product[:, at:end] = rounded @ matrix.floats(at, end).T
    product *= largest / np.float32(127)
    return product
