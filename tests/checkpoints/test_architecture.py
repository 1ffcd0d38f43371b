"""Architectures that config.json declares: Mistral's block is Llama's where no token is out of its window."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
import transformers

from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.architecture import MISTRAL_WINDOW, Architecture, read_architecture
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.errors import ConversionError

CONTEXT = 512
UNSTATED = object()


@pytest.fixture
def config(small: SimpleNamespace) -> dict[str, Any]:
    found: dict[str, Any] = small.config_of(small.OTHER_SHAPES["mistral"], model_type="mistral")
    return found


def read(folder: Path, config: dict[str, Any], window: object, context: int = CONTEXT) -> Architecture:
    stated = {} if window is UNSTATED else {"sliding_window": window}
    (folder / "config.json").write_text(json.dumps(config | stated | {"max_position_embeddings": context}))
    return read_architecture(folder)


@pytest.mark.parametrize(
    ("window", "context"), [(None, 1 << 17), (CONTEXT, CONTEXT), (4096, CONTEXT), (UNSTATED, MISTRAL_WINDOW)]
)
def test_a_mistral_whose_window_is_never_left_is_a_llama(
    window: object, context: int, config: dict[str, Any], small: SimpleNamespace, tmp_path: Path
) -> None:
    assert read(tmp_path, config, window, context) == attrs.evolve(small.OTHER_SHAPES["mistral"], context=context)


@pytest.mark.parametrize(
    ("window", "context", "reason"),
    [
        (CONTEXT - 1, CONTEXT, "sliding_window 511, shorter than the context of 512 tokens"),
        (4096, 32768, "sliding_window 4096, shorter than the context of 32768 tokens"),
        (UNSTATED, 32768, "sliding_window 4096 .transformers' default, as config.json states none., shorter than"),
        (0, CONTEXT, "sliding_window 0 is not a number of tokens"),
        (-1, CONTEXT, "sliding_window -1 is not a number of tokens"),
        (True, CONTEXT, "sliding_window True is not a number of tokens"),
        ("512", CONTEXT, "sliding_window '512' is not a number of tokens"),
    ],
)
def test_other_windows_are_refused(
    window: object, context: int, reason: str, config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=reason):
        read(tmp_path, config, window, context)


def test_the_windows_are_those_of_transformers(config: dict[str, Any], small: SimpleNamespace, tmp_path: Path) -> None:
    """The last token of a full context is the first that a window of one token less changes."""
    assert transformers.MistralConfig().sliding_window == MISTRAL_WINDOW
    state = small.random_state(small.OTHER_SHAPES["mistral"])
    ids = torch.randint(0, 380, (CONTEXT,), generator=torch.Generator().manual_seed(6)).tolist()
    (ours,) = float_logits(state, read(tmp_path, config, CONTEXT), [Reading(tuple(ids), 0)])

    def theirs(window: int | None) -> torch.Tensor:
        settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
        model: Any = transformers.MistralForCausalLM(transformers.MistralConfig(**settings, sliding_window=window))
        model.load_state_dict(state, strict=True)
        with torch.no_grad():
            found: torch.Tensor = model.eval()(torch.tensor([ids])).logits[0]
        return found

    for window in (None, CONTEXT):
        assert relative_error(ours, theirs(window)) < 1e-4
    shorter = theirs(CONTEXT - 1)
    assert relative_error(ours[:-1], shorter[:-1]) < 1e-4
    assert relative_error(ours[-1:], shorter[-1:]) > 1e-3
