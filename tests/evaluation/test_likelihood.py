"""Bits per byte."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.errors import ModelError
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.evaluation.likelihood import (
    FileCost,
    bits_per_byte,
    cost,
    costs,
    float_costs,
    loss_of,
    windows,
)
from codegen_lsp.inference.build import BuildInfo, read_info
from codegen_lsp.inference.engines.base import CancellationToken, Engine
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer
from tests import needs

TEXT = inspect.getsource(textwrap)[:6000]


@pytest.fixture(scope="module")
def info(embedded_build: Path) -> BuildInfo:
    return read_info(embedded_build)


@pytest.fixture(scope="module")
def tokenizer(embedded_build: Path, info: BuildInfo) -> Tokenizer:
    return Tokenizer.from_build(embedded_build, info)


@pytest.fixture(scope="module")
def engine(embedded_build: Path, info: BuildInfo, tokenizer: Tokenizer) -> Iterator[Engine]:
    opened = open_engine(LoadParams(str(embedded_build), threads=1), embedded_build, info, tokenizer)
    yield opened
    opened.close()


@given(st.integers(1, 60), st.integers(4, 20))
def test_each_token_is_fresh_once_with_half_a_window_before_it(count: int, length: int) -> None:
    ids = list(range(count))
    fresh: list[int] = []
    for number, window in enumerate(windows(ids, length)):
        assert len(window.ids) <= length
        assert window.ids == list(range(window.ids[0], window.ids[-1] + 1))
        assert number == 0 or len(window.ids) - window.fresh >= length // 2
        fresh += window.ids[len(window.ids) - window.fresh :]
    assert fresh == ids[1:]


def test_a_model_that_halves_every_choice_takes_one_bit_a_token(info: BuildInfo, tokenizer: Tokenizer) -> None:
    document = SourceDocument("p", "p.py", "python", TEXT + "é")
    found = cost(document, info, tokenizer, lambda ids: [math.log(0.5)] * (len(ids) - 1))
    assert found.bits == pytest.approx(len(tokenizer.encode(document.text)))
    assert found.size == len(TEXT) + 2


def test_windows_hardly_change_what_a_text_costs(engine: Engine, info: BuildInfo, tokenizer: Tokenizer) -> None:
    ids = [info.end_of_text, *tokenizer.encode(TEXT)][:1000]
    whole = sum(engine.score(ids, CancellationToken()))
    cut = sum(sum(engine.score(window.ids, CancellationToken())[-window.fresh :]) for window in windows(ids, 400))
    assert cut == pytest.approx(whole, rel=0.1)


def test_figures_are_sums_over_sums() -> None:
    document = SourceDocument("p", "p.py", "python", "")
    files = [FileCost(document, 10.0, 10), FileCost(document, 90.0, 30)]
    floats = [FileCost(document, 8.0, 10), FileCost(document, 72.0, 30)]
    figure, loss = bits_per_byte(files), loss_of(files, floats)
    assert figure is not None
    assert (figure.value, figure.cases) == (2.5, 2)
    assert loss is not None
    assert (loss.value, loss.low, loss.high) == pytest.approx((0.25, 0.25, 0.25))
    assert bits_per_byte([]) is None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, embedded_build: Path) -> Path:
    """A small random CodeGen with the embedded tokenizer, as transformers saves it."""
    needs.extra("convert")
    import torch
    from transformers import CodeGenConfig, CodeGenForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("checkpoint")
    file = str(embedded_build / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, eos_token="<|endoftext|>")
    config = CodeGenConfig(
        vocab_size=len(tokenizer), n_positions=512, n_ctx=512, n_embd=64, n_layer=2, n_head=4, rotary_dim=16,
        bos_token_id=0, eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    CodeGenForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_float_costs_are_those_of_transformers_and_close_to_the_builds(checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from transformers import CodeGenForCausalLM

    from codegen_lsp.checkpoints.convert import convert_checkpoint

    info = convert_checkpoint(checkpoint, tmp_path / "build", name="small-random")
    tokenizer = Tokenizer.from_build(tmp_path / "build", info)
    engine = open_engine(LoadParams(str(tmp_path / "build"), threads=1), tmp_path / "build", info, tokenizer)
    document = SourceDocument("p", "p.py", "python", TEXT[:1200])
    (built,), (floating,) = (
        list(costs([document], info, tokenizer, engine)),
        list(float_costs([document], info, tokenizer, checkpoint)),
    )
    engine.close()
    model = CodeGenForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = torch.tensor([[info.end_of_text, *tokenizer.encode(document.text)]])
    assert ids.shape[1] <= info.context_length
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
    assert floating.bits == pytest.approx(loss * (ids.shape[1] - 1) / np.log(2), rel=1e-4)
    assert built.bits == pytest.approx(floating.bits, rel=0.01)


def test_another_models_weights_are_refused(
    checkpoint: Path, info: BuildInfo, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "encode", lambda text: list(text.encode()))
    with pytest.raises(ModelError, match="other tokens"):
        list(float_costs([SourceDocument("p", "p.py", "python", TEXT)], info, tokenizer, checkpoint))
