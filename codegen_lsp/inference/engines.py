"""Which engine runs a build, by name, platform and device. Engines are imported only when they are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engine import Engine
from codegen_lsp.inference.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer

if TYPE_CHECKING:
    from codegen_lsp.inference.ct2 import Ct2Engine
    from codegen_lsp.inference.incremental import IncrementalEngine

ENGINES = ("ct2", "incremental")
MOST_THREADS = 8
"""Decoding reads all weights once per token, so memory bandwidth ends the gain of threads long before this many."""


def open_engine(params: LoadParams, directory: Path, info: BuildInfo, tokenizer: Tokenizer) -> Engine:
    """Open the engine that the parameters ask for. Raises ModelError."""
    if params.engine not in ("auto", *ENGINES):
        raise ModelError(
            f"There is no engine {params.engine!r}.", f"Set `engine` to one of: auto, {', '.join(ENGINES)}."
        )
    return engine_class(params.engine)(
        directory,
        info,
        tokenizer,
        device=params.device,
        compute_type=params.compute_type,
        threads=params.threads or default_threads(),
        cache_bytes=default_cache_bytes(info) if params.cache_memory_mb is None else params.cache_memory_mb * 2**20,
    )


def engine_class(name: str) -> type[Ct2Engine] | type[IncrementalEngine]:
    """The engine of that name; `auto` is ct2."""
    if name == "incremental":
        from codegen_lsp.inference.incremental import IncrementalEngine

        return IncrementalEngine
    from codegen_lsp.inference.ct2 import Ct2Engine

    return Ct2Engine


def default_cache_bytes(info: BuildInfo) -> int:
    """Room for two prompts of the model's full context, but not less than 256 MiB, nor more than a quarter of memory.

    With less than one prompt's room every request would read its whole prompt again.
    """
    context = info.context_length * info.layers * info.width * 2 * 4
    memory: int = psutil.virtual_memory().total
    return min(max(2 * context, 256 * 2**20), memory // 4)


def default_threads() -> int:
    """Physical cores that this process may use, at most 8."""
    return max(1, min(usable_cores(), MOST_THREADS))


def usable_cores() -> int:
    """Physical cores, fewer when the process is bound to some of them."""
    cores: int = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    try:
        bound = len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no affinity
        return cores
    return min(cores, bound)
