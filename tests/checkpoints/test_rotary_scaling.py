"""Scalings of rotary positions: the frequencies of transformers, and the same logits in every engine."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from codegen_lsp.checkpoints import ct2_writer
from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.architecture import Architecture, read_architecture
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.rotary_scaling import UnsupportedError, read_rotary
from codegen_lsp.checkpoints.verify import verify_build
from codegen_lsp.errors import ConversionError, OtherEngineError
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.attention import attention_weights, rotated_queries
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.engines.native.forward import Chunk, ForwardPass
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import choose_kernel
from codegen_lsp.inference.engines.native.weights import read_weights

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
SCALINGS: dict[str, dict[str, Any]] = {
    "llama3": LLAMA3,
    "llama3, as published": LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192},
    "yarn": YARN,
    "yarn of 2023": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    "yarn with betas": YARN | {"beta_fast": 16, "beta_slow": 2, "truncate": False},
    "yarn with its attention": YARN | {"attention_factor": 1.3},
    "yarn with mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 0.5},
    "longrope": {
        "rope_type": "longrope",
        "long_factor": [1.0 + pair / 3 for pair in range(8)],
        "short_factor": [1.0 + pair / 3 for pair in range(8)],
        "original_max_position_embeddings": 128,
        "factor": 4.0,
    },
}
WHOLE = ("llama3", "yarn", "longrope")
"""Scalings that are converted and run; the others differ in their numbers only."""
IDS = torch.randint(0, 380, (450,), generator=torch.Generator().manual_seed(6)).tolist()


def config_with(scaling: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "rope_theta": 500.0,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "rope_scaling": dict(scaling),
        **others,
    }


@pytest.mark.parametrize("kind", SCALINGS)
def test_frequencies_are_those_of_transformers(kind: str) -> None:
    config = config_with(SCALINGS[kind])
    rotary = read_rotary(config, 16)
    theirs = transformers.LlamaConfig(**config)
    name = SCALINGS[kind].get("rope_type", SCALINGS[kind].get("type"))
    frequencies, attention = ROPE_INIT_FUNCTIONS[name](theirs, "cpu")
    ours = 500.0 ** (-np.arange(0, 16, 2) / 16) / np.array(rotary.divisors)
    np.testing.assert_allclose(ours, frequencies.numpy(), rtol=1e-5)
    assert rotary.attention_factor == pytest.approx(attention)
    assert len(set(rotary.divisors)) > 2 or kind == "llama3, as published"


def logits_of_transformers(config: dict[str, Any], state: dict[str, torch.Tensor]) -> torch.Tensor:
    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    qwen = config["model_type"] == "qwen2"
    model: Any = (
        transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
        if qwen
        else transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    )
    tied = {"lm_head.weight": state["model.embed_tokens.weight"]} if config["tie_word_embeddings"] else {}
    model.load_state_dict(state | tied, strict=True)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.tensor([IDS])).logits[0]
    return logits


def read_shape(folder: Path, config: dict[str, Any]) -> Architecture:
    (folder / "config.json").write_text(json.dumps(config))
    return read_architecture(folder)


@pytest.fixture(params=WHOLE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["qwen2", "wide heads"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scaled(kind: str, width: int) -> dict[str, Any]:
    """Return a scaling, whose lists fit heads of a width."""
    return {
        key: [1.0 + pair / 3 for pair in range(width // 2)] if isinstance(value, list) else value
        for key, value in SCALINGS[kind].items()
    }


@pytest.fixture
def shape(family: str, small: SimpleNamespace) -> Architecture:
    """A low base, so that the scaling matters in a short text."""
    found: Architecture = attrs.evolve(small.OTHER_SHAPES[family], rotary_base=500.0)
    return found


@pytest.fixture
def config(kind: str, shape: Architecture, small: SimpleNamespace) -> dict[str, Any]:
    return small.config_of(shape) | {"rope_scaling": scaled(kind, shape.head_width)}


def test_logits_are_those_of_transformers(
    shape: Architecture, config: dict[str, Any], small: SimpleNamespace, tmp_path: Path
) -> None:
    state = small.random_state(shape)
    read = read_shape(tmp_path, config)
    found, plain = (float_logits(state, one, [Reading(tuple(IDS), 0)])[0] for one in (read, shape))
    expected = logits_of_transformers(config, state)
    assert relative_error(found, expected) < 2e-4
    assert relative_error(plain, expected) > 0.1


def logits_by(forward_pass: ForwardPass) -> Floats:
    cache = forward_pass.new_cache(len(IDS))
    parts, at = [], 0
    for length in (1, 7, 100, 342):
        parts.append(forward_pass.forward(IDS[at : at + length], cache, at))
        at += length
    return forward_pass.logits(np.concatenate(parts))


def test_every_engine_computes_what_transformers_computes(
    family: str,
    shape: Architecture,
    config: dict[str, Any],
    make_checkpoint: Any,
    small: SimpleNamespace,
    tmp_path: Path,
) -> None:
    source = make_checkpoint(family, shape=shape, config={"rope_scaling": config["rope_scaling"]})
    build = tmp_path / "build"
    convert_checkpoint(source, build, name="mine")
    assert verify_build(build, source).agreement > 0.8
    expected = logits_of_transformers(config, small.random_state(shape))
    assert relative_error(build_logits(build, IDS), expected) < 0.05
    weights = read_weights(build)
    passes: list[ForwardPass] = [TorchForwardPass(weights, choose_kernel())]
    passes += [
        CForwardPass(weights, found, 2)
        for variant in c_forward.VARIANTS
        if (found := c_forward.library((variant,))) is not None
    ]
    for forward_pass in passes:
        found = torch.from_numpy(logits_by(forward_pass))
        assert relative_error(found, expected) < 0.05


def test_attention_is_explained_with_the_scaling(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    """The weights that an explanation computes again are those of transformers."""
    shape = attrs.evolve(small.OTHER_SHAPES["wide heads"], rotary_base=500.0, layers=1)
    state, scaling = small.random_state(shape), {"rope_scaling": YARN}
    convert_checkpoint(make_checkpoint("wide heads", shape=shape, config=scaling), tmp_path / "build", name="mine")
    config = {key: value for key, value in small.config_of(shape, **scaling).items() if key != "architectures"}
    model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, attn_implementation="eager"))
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        expected = model.eval()(torch.tensor([IDS[:200]]), output_attentions=True).attentions[0][0].numpy()
    weights, entered = read_weights(tmp_path / "build"), []
    forward_pass = TorchForwardPass(weights, choose_kernel())
    cache = forward_pass.new_cache(200)
    forward_pass.advance(Chunk(IDS[:200], cache, 0, on_layer=lambda layer, x: entered.append(x)))
    found = attention_weights(forward_pass.queries(0, entered[0], 0), cache[0, : weights.kv_heads])
    assert np.abs(found - expected).max() < 0.05
    unscaled = attrs.evolve(weights, rotary_divisors=None)
    assert np.abs(rotated_queries(unscaled, 0, entered[0], 0) - rotated_queries(weights, 0, entered[0], 0)).max() > 0.1


@pytest.mark.parametrize(
    ("scaling", "reason"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "kind dynamic, whose frequencies depend on the length"),
        (SCALINGS["longrope"] | {"long_factor": [2.0] * 8}, "kind longrope, whose frequencies depend on the length"),
        ({"rope_type": "proportional"}, "kind proportional"),
    ],
)
def test_scalings_that_are_not_supported_are_named(scaling: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        read_rotary(config_with(scaling), 16)


@pytest.mark.parametrize(
    "scaling",
    [
        {key: value for key, value in LLAMA3.items() if key != "factor"},
        LLAMA3 | {"low_freq_factor": 4.0},
        LLAMA3 | {"factor": -8.0},
        YARN | {"attention_factor": 0.0},
        YARN | {"factor": float("nan")},
        SCALINGS["longrope"] | {"long_factor": [1.0] * 7, "short_factor": [1.0] * 7},
    ],
)
def test_a_scaling_with_wrong_numbers_is_refused(
    scaling: dict[str, Any], small: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=r"config.json (is incomplete|has .* where a positive number is needed)"):
        read_shape(tmp_path, small.config_of(small.OTHER_SHAPES["deepseek"]) | {"rope_scaling": scaling})


def test_the_native_engine_refuses_what_depends_on_the_length(
    make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ct2_writer.divided_frequencies

    def with_others(divisors: Sequence[float]) -> dict[str, Any]:
        return made(divisors) | {"rotary_scaling_short_factor": np.ones(len(divisors), np.float32)}

    monkeypatch.setattr(ct2_writer, "divided_frequencies", with_others)
    source = make_checkpoint("wide heads", config={"rope_scaling": LLAMA3 | {"factor": 1.01}})
    convert_checkpoint(source, tmp_path / "build", name="mine")
    with pytest.raises(OtherEngineError, match="depends on the length of the text"):
        read_weights(tmp_path / "build")
