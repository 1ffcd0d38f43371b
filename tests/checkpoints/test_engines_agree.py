"""Both engines give the same logits for builds of all families."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
import torch

from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.inference.engines.native.torch_forward import TorchForwardPass
from codegen_lsp.inference.engines.native.torch_kernels import KERNELS, is_exact
from codegen_lsp.inference.engines.native.weights import read_weights


@pytest.mark.parametrize("family", ["codegen", "codegen2", "codegen25"])
def test_both_engines_compute_the_same(family: str, make_checkpoint, small: SimpleNamespace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shape = small.SHAPES[family]
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
