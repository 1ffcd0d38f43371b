"""Values made of settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.settings import PromptSettings, Settings, structure_settings
from codegen_lsp.suggest.options import load_params, options_for
from tests.played_model import describe


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


@pytest.mark.parametrize(
    ("wanted", "rate", "changed", "characters"),
    [
        ("auto", 100_000.0, {}, 4_000),
        ("auto", None, {}, 4_000),
        # 2,400 tokens of 3.5 characters in the second of a cold prompt; the document takes up to 7,500 characters.
        ("auto", 2_400.0, {}, 900),
        ("auto", 300.0, {}, 0),
        ("auto", None, {"small": True}, 0),
        ("on", 300.0, {"small": True}, 4_000),
        ("off", None, {}, 0),
        ("on", None, {"takes_files": False}, 0),
        ("on", None, {"remote": True}, 0),
    ],
)
def test_other_files_get_the_rest_of_the_second_that_a_prompt_may_take(
    wanted: str, rate: float | None, changed: dict[str, bool], characters: int
) -> None:
    model = evolve(
        describe("infill"),
        context_length=32_768,
        prefill_tokens_per_second=rate,
        **{"takes_files": True} | changed,  # type: ignore[arg-type]
    )
    settings = Settings(prompt=PromptSettings(related_files=wanted))
    assert options_for(settings, "python", model).related_characters == characters
    assert options_for(evolve(settings, ablate=("related_files",)), "python", model).related_characters == 0
    assert options_for(settings, "python", None).related_characters == 0
