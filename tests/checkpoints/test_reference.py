"""The reference forward pass gives the logits of transformers, for the models that transformers supports."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codegen_lsp.checkpoints.architecture import read_architecture
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.weights import Weights

BIGCODES = ["starcoder", "starcoder 7B", "santacoder"]
IDS = tuple(torch.randint(300, (57,), generator=torch.Generator().manual_seed(3)).tolist())


def transformers_logits(config: dict[str, Any], state: dict[str, torch.Tensor], ids: tuple[int, ...]) -> torch.Tensor:
    import transformers

    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    if config["model_type"] == "llama":
        model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    elif config["model_type"] == "qwen2":
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
    elif config["model_type"] == "gpt_bigcode":
        model = transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(**settings))
    else:
        settings.pop("head_dim", None)
        model = transformers.CodeGenForCausalLM(transformers.CodeGenConfig(**settings))
    embedding = "transformer.wte.weight" if config["model_type"] == "gpt_bigcode" else "model.embed_tokens.weight"
    tied = {"lm_head.weight": state[embedding]} if model.config.tie_word_embeddings else {}
    model.load_state_dict(state | tied, strict=True)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.parametrize("family", ["codegen", "codegen25"])
def test_same_logits_as_transformers(family: str, make_checkpoint: Any, small: SimpleNamespace) -> None:
    shape = small.SHAPES[family]
    state = small.random_state(shape)
    with Weights(make_checkpoint(family, state=state)) as weights:
        (found,) = float_logits(weights, shape, [Reading(IDS, shape.qkv_groups)])
    expected = transformers_logits(small.config_of(shape), state, IDS)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("kind", ["qwen2", "deepseek", "granite", "wide heads", *BIGCODES])
def test_same_logits_as_transformers_of_other_models(kind: str, small: SimpleNamespace, tmp_path: Path) -> None:
    shape = small.OTHER_SHAPES[kind]
    state, config = small.random_state(shape), small.config_of(shape)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_architecture(tmp_path) == shape
    (found,) = float_logits(state, shape, [Reading(IDS, 0)])
    expected = transformers_logits(config, state, IDS)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.std()))


def test_eight_groups_are_four_groups_stored_otherwise(make_checkpoint: Any, small: SimpleNamespace) -> None:
    """transformers supports four groups only, so it gets the same model stored in four."""
    shape = small.SHAPES["codegen2"]
    state = small.random_state(shape)
    with Weights(make_checkpoint("codegen2", state=state)) as weights:
        eight, four = float_logits(weights, shape, [Reading(IDS, 8), Reading(IDS, 4)])
    config = small.config_of(shape)
    expected = transformers_logits(config, small.regrouped(state, 8, 4), IDS)
    assert torch.allclose(eight, expected, atol=1e-4 * float(expected.std()))
    as_stored = transformers_logits(config, state, IDS)
    assert torch.allclose(four, as_stored, atol=1e-4 * float(as_stored.std()))
    assert not torch.allclose(eight, four, atol=0.1 * float(expected.std()))


def test_readings_of_different_length_share_a_pass(make_checkpoint: Any, small: SimpleNamespace) -> None:
    shape = small.SHAPES["codegen"]
    seen: list[float] = []
    with Weights(make_checkpoint("codegen")) as weights:
        long, short = float_logits(weights, shape, [Reading(IDS, 4), Reading(IDS[:11], 4)], seen.append)
    assert torch.allclose(long[:11], short, atol=1e-4)
    assert seen == [0.5, 1.0]
