"""Both engines give the same logits for builds of all families, and the native one the attention of transformers."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import transformers

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.attention import attention_weights
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.engines.native.forward import Chunk, ForwardPass
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import KERNELS, is_exact
from codegen_lsp.inference.engines.native.weights import read_weights

FAMILIES = ["codegen", "codegen2", "codegen25", "qwen2", "deepseek", "granite", "wide heads"]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_engines_compute_the_same(family: str, make_checkpoint, small: SimpleNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shape = (small.SHAPES | small.OTHER_SHAPES)[family]
    state = small.random_state(shape, seed=3)
    build = tmp_path / "build"
    convert_checkpoint(make_checkpoint(family, state=state), build, name="small")
    ids = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    theirs = build_logits(build, ids).numpy()
    weights = read_weights(build)
    assert weights.block_type == shape.block
    assert weights.epsilon == pytest.approx(shape.epsilon)
    assert (weights.rotary, weights.heads) == (shape.rotary, shape.heads)
    for kernel in filter(is_exact, KERNELS):
        forward_pass = TorchForwardPass(weights, kernel)
        cache = forward_pass.new_cache(len(ids))
        hidden = [forward_pass.forward(ids[:150], cache, 0), forward_pass.forward(ids[150:], cache, 150)]
        ours = forward_pass.logits(np.concatenate(hidden))
        wrong = TorchForwardPass(attrs.evolve(weights, rotary_interleaved=True), kernel)
        turned = wrong.logits(wrong.forward(ids, cache, 0))
        spread = np.linalg.norm(theirs - theirs.mean(-1, keepdims=True))
        assert np.linalg.norm(ours - theirs) < 0.02 * spread
        assert (ours.argmax(-1) == theirs.argmax(-1)).mean() >= 0.98
        assert np.linalg.norm(turned - theirs) > 5 * np.linalg.norm(ours - theirs)


ATTENTION = {
    **{f"torch, {kernel.__name__}": partial(TorchForwardPass, kernel=kernel) for kernel in KERNELS if is_exact(kernel)},  # type: ignore[attr-defined]
    **{
        variant: partial(CForwardPass, found=found, threads=2)
        for variant in c_forward.VARIANTS
        if (found := c_forward.library((variant,))) is not None
    },
}


def attentions_of_transformers(
    small: SimpleNamespace, shape: Architecture, state: dict[str, torch.Tensor], ids: list[int]
) -> Floats:
    """Return (layers, heads, tokens, tokens). transformers' CodeGen has four groups, so CodeGen2 is stored in four."""
    config = {key: value for key, value in small.config_of(shape).items() if key not in ("model_type", "architectures")}
    config |= {"attn_implementation": "eager"}
    model: Any
    if shape.block == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    else:
        state = state if shape.qkv_groups == 4 else small.regrouped(state, shape.qkv_groups, 4)
        config.pop("head_dim", None)
        model = transformers.CodeGenForCausalLM(transformers.CodeGenConfig(**config))
    tied = {"lm_head.weight": state["model.embed_tokens.weight"]} if shape.tied else {}
    model.load_state_dict(state | tied, strict=True)
    with torch.no_grad():
        found = model.eval()(torch.tensor([ids]), output_attentions=True).attentions
    result: Floats = torch.stack([layer[0] for layer in found]).numpy()
    return result


@pytest.mark.parametrize("implementation", ATTENTION)
@pytest.mark.parametrize("family", [*FAMILIES[:3], "granite", "wide heads"])
def test_attention_is_that_of_transformers_by_layer_and_head(
    family: str, implementation: str, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """The heads are in the order of transformers, and a text in several chunks attends as one in one."""
    shape = attrs.evolve((small.SHAPES | small.OTHER_SHAPES)[family], layers=3)
    state = small.random_state(shape, seed=5)
    build = tmp_path / "build"
    convert_checkpoint(make_checkpoint(family, state=state, shape=shape), build, name="small")
    ids = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(2)).tolist()
    weights = read_weights(build)
    forward_pass: ForwardPass = ATTENTION[implementation](weights)
    found = np.zeros((shape.layers, shape.heads, len(ids), len(ids)), dtype=np.float32)
    cache = forward_pass.new_cache(len(ids))
    for at, end in ((0, 7), (7, 100), (100, len(ids))):

        def on_layer(layer: int, entered: Floats, at: int = at, end: int = end) -> None:
            queries = forward_pass.queries(layer, entered, at)
            found[layer, :, at:end, :end] = attention_weights(queries, cache[layer, : shape.kv_heads, :end])

        chunk = Chunk(ids[at:end], cache, at, every=True, on_layer=on_layer)
        while chunk.layer < forward_pass.layers:
            forward_pass.advance(chunk)
    expected = attentions_of_transformers(small, shape, state, ids)
    assert np.allclose(found.sum(-1), 1, atol=1e-4)
    assert not np.triu(found, 1).any()
    # Rounding to int8 moves every weight a little; any other head, layer, order of a pair or position moves it far.
    for layer, head in np.ndindex(shape.layers, shape.heads):
        distances = np.abs(expected - found[layer, head]).sum(-1).mean(-1)
        own = distances[layer, head]
        others = np.delete(distances.ravel(), layer * shape.heads + head)
        assert own < 0.1
        assert own < 0.2 * others.min()
