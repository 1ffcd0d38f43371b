"""Values made of settings."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.settings import structure_settings
from codegen_lsp.suggest.options import load_params


def test_what_the_worker_is_told() -> None:
    settings, _ = structure_settings({"threads": 3, "device": "cuda", "compute_type": "float16", "cache.memory_mb": 9})
    assert load_params(settings, Path("/models/x")) == LoadParams(
        "/models/x", device="cuda", compute_type="float16", threads=3, cache_memory_mb=9, shared=True
    )
    settings, _ = structure_settings({"worker.shared": False})
    assert load_params(settings, Path("/models/x")) == LoadParams("/models/x")
    settings, _ = structure_settings({"ngrams": "on", "worker.shared": False})
    assert load_params(settings, Path("/models/x")) == LoadParams("/models/x", ngrams="on")
    settings, _ = structure_settings({"ngrams": "on", "ablate": ["ngrams"], "worker.shared": False})
    assert load_params(settings, Path("/models/x")) == LoadParams("/models/x", ngrams="off")
