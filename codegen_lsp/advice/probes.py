"""Small models with random weights, whose times tell what a machine's passes cost.

Each is a few layers of a kind of model, or little else than an output layer. All but the smallest are larger than the
processor's cache, so that their weights are read from memory as those of large models are. They differ in what
dominates their time, so that `speed.fit` can tell the costs apart.
"""

from __future__ import annotations

import math
from pathlib import Path

from attrs import evolve

from codegen_lsp.checkpoints.architecture import Architecture

CONTEXT = 2048
LEAST_BYTES = 128 << 20
"""Weights of a probe: larger than the cache of most processors, and enough that large models are not predicted too fast
(`docs/lab.md`)."""
CACHE_MULTIPLE = 1.5
"""Of weights that are read in turn, a cache of two thirds of their size holds few when they are wanted again."""
MOST_CACHE = 192 << 20
"""Larger caches are not outgrown: a probe would take too much memory."""

FIXED = Architecture(
    block="codegen", layers=2, heads=4, width=256, hidden=1024, rotary=32, rows=1024, context=CONTEXT, epsilon=1e-5,
    qkv_groups=4,
)  # fmt: skip
"""A model with hardly any weights: the costs beside them."""
NARROW = Architecture(
    block="codegen", layers=6, heads=16, width=1024, hidden=4096, rotary=32, rows=2048, context=CONTEXT, epsilon=1e-5,
    qkv_groups=4,
)  # fmt: skip
"""Layers of CodeGen 350M."""
WIDE = Architecture(
    block="codegen", layers=2, heads=16, width=2048, hidden=8192, rotary=64, rows=2048, context=CONTEXT, epsilon=1e-5,
    qkv_groups=4,
)  # fmt: skip
"""Layers of CodeGen2 1B: fewer and larger ones."""
GROUPED = Architecture(
    block="llama", layers=6, heads=14, width=896, hidden=4864, rotary=64, rows=2048, context=CONTEXT, epsilon=1e-6,
    kv_heads=2, qkv_bias=True, tied=True,
)  # fmt: skip
"""Layers of Qwen2.5-Coder 0.5B, whose heads share keys and values."""
HEAD = Architecture(
    block="llama", layers=1, heads=16, width=1024, hidden=2816, rotary=64, rows=65536, context=CONTEXT, epsilon=1e-6,
    tied=True,
)  # fmt: skip
"""An output layer of many rows."""


def probes(cache_bytes: int) -> dict[str, Architecture]:
    """Return the probes by name, for a processor with a cache of this size."""
    least = max(LEAST_BYTES, int(min(cache_bytes, MOST_CACHE) * CACHE_MULTIPLE))
    large = {"narrow": NARROW, "wide": WIDE, "grouped": GROUPED}
    grown = {name: _with_layers(architecture, least) for name, architecture in large.items()}
    return {"fixed": FIXED} | grown | {"head": evolve(HEAD, rows=max(HEAD.rows, math.ceil(least / HEAD.width)))}


def _with_layers(architecture: Architecture, least: int) -> Architecture:
    """Return an architecture with as many layers as its weights need to be that many bytes."""
    one = evolve(architecture, layers=1).int8_bytes
    each = evolve(architecture, layers=2).int8_bytes - one
    return evolve(architecture, layers=max(architecture.layers, math.ceil(least / each)))


def cache_size(cpu: Path = Path("/sys/devices/system/cpu/cpu0")) -> int:
    """Return the bytes of the largest cache that this processor has, as Linux tells; 32 MiB where it doesn't."""
    found = []
    for file in cpu.glob("cache/index*/size"):
        text = file.read_text(encoding="ascii", errors="replace").strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 0)
        if unit and text[:-1].isdigit():
            found.append(int(text[:-1]) * unit)
    return max(found, default=32 << 20)
