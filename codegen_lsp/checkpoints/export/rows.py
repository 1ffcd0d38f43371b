"""Orders of the rows of attention weights.

Models differ in which two entries of a head are rotated together: adjacent ones (CodeGen, and Llama in GGUF), or one of
each half (Phi, Llama in transformers, int8 builds). The rows of query and key that make these entries are reordered.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_projection(fused: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value, each (width, width) and ordered by head, of CodeGen's fused projection.

    Its rows are `groups` groups of query, value and key rows.
    """
    width = fused.shape[1]
    query, value, key = fused.view(groups, 3, width // groups, width).unbind(1)
    return query.reshape(width, width), key.reshape(width, width), value.reshape(width, width)


def pairs_to_halves(matrix: Tensor, heads: int, rotary: int) -> Tensor:
    """Reorder the rotated rows of each head, from adjacent pairs to one of each half. `matrix` is (width, inputs)."""
    return _reordered(matrix, heads, torch.arange(rotary).view(-1, 2).T.flatten())


def halves_to_pairs(matrix: Tensor, heads: int, rotary: int) -> Tensor:
    """Reorder the rotated rows of each head, from one of each half to adjacent pairs. `matrix` is (width, inputs)."""
    return _reordered(matrix, heads, torch.arange(rotary).view(2, -1).T.flatten())


def _reordered(matrix: Tensor, heads: int, order: Tensor) -> Tensor:
    """Return a matrix whose first rows of each head are in another order."""
    head_width = len(matrix) // heads
    whole = torch.cat((order, torch.arange(len(order), head_width)))
    return matrix.view(heads, head_width, -1)[:, whole].reshape(matrix.shape)
