"""Prompts of the families as their models were trained on them: the answer follows from both sides of the cursor."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer as FastTokenizer

from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.rpc.messages import GenerateParams, LoadParams, StopRules
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer
from tests.trained_families import FAMILIES, FRUITS, FUNCTIONS, SHARDED, document, lessons, middle

pytestmark = pytest.mark.slow
ENGINES = ("native", "native, torch's kernels", "ct2")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_answer_follows_from_the_text_on_both_sides(
    family: str, engine: str, trained_family: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens are the greedy ones of transformers for the prompt that the family's documentation has."""
    folder = trained_family(family)
    checkpoint, build = folder / "checkpoint", folder / "build"
    assert len(list(checkpoint.glob("*.safetensors"))) > (family == SHARDED)
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    if engine != ENGINES[0]:
        monkeypatch.setattr(c_forward, "library", lambda: None)
    opened = open_engine(LoadParams(str(build), engine=engine.split(",")[0], threads=1), build, info, tokenizer)
    model = TextModel(info, tokenizer, opened)
    float_model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    infills = info.infill != "none"
    published = list(lessons(FAMILIES[family], FastTokenizer.from_file(str(checkpoint / "tokenizer.json"))))
    for number, (function, fruit) in enumerate(itertools.product(FUNCTIONS, FRUITS if infills else FRUITS[:1])):
        before, after = document(function, fruit)
        asked, answer = published[number]
        assert model.prompt(before, after, 1_000, heal=False).ids == asked
        with torch.no_grad():
            greedy = float_model.generate(torch.tensor([asked]), max_new_tokens=len(answer), do_sample=False)
        assert greedy[0, len(asked) :].tolist() == answer
        params = GenerateParams("d", before + " ", after, stop=StopRules(max_tokens=20))
        (found,) = model.generate(params, CancellationToken()).candidates
        assert found.text == middle(function, fruit, infills)[1:]
    opened.close()
