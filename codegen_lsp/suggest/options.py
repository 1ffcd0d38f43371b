"""From the settings to the parameters of the layers below."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.settings import Settings


def load_params(settings: Settings, build: Path) -> LoadParams:
    """Return the parameters with which the worker loads a build."""
    return LoadParams(
        build=str(build),
        engine=settings.engine,
        device=settings.device,
        compute_type=settings.compute_type,
        threads=settings.threads,
        cache_memory_mb=settings.cache.memory_mb or None,
        ngrams="off" if "ngrams" in settings.ablate else settings.ngrams,
        shared=settings.worker.shared,
    )
