"""Small random models of each family in each format of weights: converted, verified, and run by each engine.

Greedy tokens are those of transformers for the same weights, but where it has two tokens as near as rounding to int8,
and logits are as close as that.
The package gguf can't quantize to the K types: blocks of them are made of random bits, one type for the whole file,
where a Q4_K_M file mixes Q4_K and Q6_K.
"""

from __future__ import annotations

from tests import needs

needs.extra("convert")

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
import transformers

from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.build_losses import native_logits
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.checkpoints.verify import verify_build
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, SamplingParams
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.engines.native.c_forward import CForwardPass
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer

FOLDERS = ("safetensors", "sharded-safetensors")
FILES = ("F16", "Q8_0", "Q4_K", "Q6_K")
FAMILIES = ("qwen2", "deepseek", "granite", "mellum", "smollm2")
HEADS = {
    "64 wide, shared": ("qwen2", 64, 2),
    "80 wide, each its own": ("granite", 80, 4),
    "80 wide, one for all": ("granite", 80, 1),
    "96 wide": ("deepseek", 96, 4),
    "128 wide, shared": ("mistral", 128, 2),
    "128 wide, one for all": ("mellum", 128, 1),
    "192 wide": ("smollm2", 192, 2),
    "256 wide, each its own": ("wide heads", 256, 4),
}
"""Families, widths of a head, and heads of keys and values. Granite Code 3B has heads 80 wide, each with its own keys,
others 64 or 128."""
BEGIN = {"deepseek": "<｜begin▁of▁sentence｜>"}
PROMPTS = torch.randint(0, 256, (3, 40), generator=torch.Generator().manual_seed(4)).tolist()
TEXT = torch.randint(0, 256, (160,), generator=torch.Generator().manual_seed(5)).tolist()
TOKENS = 16
NEAR_TIE = 0.15
"""Distance of two logits, in standard deviations, that rounding to int8 may turn around in models this small."""
LOGITS_APART = 0.08
"""Relative error of logits by the same rounding. 0.049 was the largest that was found."""


@pytest.fixture
def small_model(
    family: str,
    form: str,
    make_checkpoint: Any,
    small: SimpleNamespace,
    small_tokenizers: dict[str, Path],
    tmp_path: Path,
) -> tuple[Path, Any]:
    """A checkpoint in the form, and the model that transformers makes of its weights."""
    if form in FOLDERS:
        source = folder = make_checkpoint(family, form=form)
    else:
        needs.extra("export")
        from tests.checkpoints.gguf_source.gguf_files import shape_in_blocks, write_gguf

        shape, source = shape_in_blocks(small.OTHER_SHAPES[family], form), tmp_path / "mine.gguf"
        state = small.random_state(shape)
        values = write_gguf(source, shape, state, small_tokenizers[family], form, begin=BEGIN.get(family))
        folder = make_checkpoint(family, shape=shape, state=values)
    return source, transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def distances(model: Any, prompt: list[int], answer: list[int], forbidden: list[int]) -> list[float]:
    """Return how far each token is behind the one that transformers has for its place, in standard deviations."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    spread = logits.std(-1)
    logits[:, forbidden] = -torch.inf
    found: list[float] = ((logits.amax(-1) - logits[torch.arange(len(answer)), answer]) / spread).tolist()
    return found


def check(source: Path, float_model: Any, build: Path, engines: tuple[str, ...], monkeypatch: Any) -> None:
    convert_checkpoint(source, build, name="mine")
    assert verify_build(build, source).agreement > 0.8
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    with torch.no_grad():
        expected = float_model(torch.tensor([TEXT])).logits[0]
    forbidden = sorted({*tokenizer.special_ids, *range(info.vocabulary_size, float_model.config.vocab_size)})
    for engine in engines:
        with monkeypatch.context() as patched:
            if engine == "torch":
                patched.setattr(c_forward, "library", lambda: None)
            name = "ct2" if engine == "ct2" else "native"
            behind: list[float] = []
            found = build_logits(build, TEXT) if engine == "ct2" else torch.from_numpy(native_logits(build, TEXT))
            assert relative_error(found, expected) < LOGITS_APART, engine
            with closing(open_engine(LoadParams(str(build), engine=name, threads=1), build, info, tokenizer)) as opened:
                if engine == "C" and c_forward.library() is not None:
                    assert isinstance(opened._forward_pass, CForwardPass)  # type: ignore[attr-defined]
                for prompt in PROMPTS:
                    params = SamplingParams(max_tokens=TOKENS, end_tokens=frozenset())
                    made = opened.generate(prompt, params, CancellationToken(), lambda *_: False)
                    behind += distances(float_model, prompt, made.completions[0].tokens, forbidden)
        near_ties = [distance for distance in behind if distance > 0]
        assert len(behind) == TOKENS * len(PROMPTS)
        assert max(near_ties, default=0) < NEAR_TIE, engine
        assert len(near_ties) < 0.2 * len(behind), engine  # as `verify` demands of a build


@pytest.mark.parametrize("form", [*FOLDERS, *FILES])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_transformers(
    small_model: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*small_model, tmp_path / "build", ("C", "torch", "ct2"), monkeypatch)


@pytest.mark.parametrize("heads", HEADS)
def test_heads_of_every_width(
    heads: str, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, width, kv_heads = HEADS[heads]
    shape = attrs.evolve(small.OTHER_SHAPES[family], heads=4, kv_heads=kv_heads, head_width=width, rotary=width)
    source = make_checkpoint(family, shape=shape)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    assert model.config.head_dim == width
    check(source, model, tmp_path / "build", ("C", "torch", "ct2"), monkeypatch)


@pytest.mark.parametrize("form", FOLDERS)
@pytest.mark.parametrize("family", ["starcoder", "starcoder 7B", "santacoder"])
def test_models_that_ct2_alone_runs(
    small_model: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*small_model, tmp_path / "build", ("ct2",), monkeypatch)
