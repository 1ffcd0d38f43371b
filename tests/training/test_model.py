"""The trainable form computes what transformers' CodeGen computes, and its loss is the cross entropy."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from codegen_lsp.errors import ConversionError
from codegen_lsp.training import corpus, export, model, packages
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

SHAPES = [
    ModelShape(vocabulary=300, width=64, layers=2, heads=4, rotary=16, positions=128),
    ModelShape(vocabulary=300, width=64, layers=1, heads=4, rotary=8, positions=256),
    ModelShape(vocabulary=300, width=256, layers=1, heads=8, rotary=32, positions=256),
]


def random_model(shape: ModelShape) -> TrainableCodeGen:
    """A model in which every weight, norm and bias matters."""
    made = TrainableCodeGen(shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + 0.05)
    return made


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [file.text for file in corpus.read_package(packages.library_package("json")).files]
    code_tokenizer.save(code_tokenizer.train(texts, 300), folder, 256)
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_exported_logits_equal_the_trained_ones(shape: ModelShape, tokenizer_folder: Path, tmp_path: Path) -> None:
    trained = random_model(shape)
    length = min(192, shape.positions)
    assert export.export(trained, tokenizer_folder, tmp_path / "hf") < 1e-4
    assert export.logits_difference(trained, tmp_path / "hf", length) < 1e-4
    names = {path.name for path in (tmp_path / "hf").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == ["CodeGenForCausalLM"]
    assert not list(tmp_path.glob("*.partial"))


def test_an_export_with_a_wrong_layout_is_not_handed_on(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "interleaved", lambda matrix, shape: matrix)
    with pytest.raises(ConversionError, match="logits differ"):
        export.export(random_model(SHAPES[0]), tokenizer_folder, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_the_chunked_loss_and_its_gradients_are_those_of_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LOSS_CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*size, generator=generator) for size in ((20, 8), (11, 8), (11,)))
    targets = torch.randint(11, (20,), generator=generator)
    targets[[0, 13]] = -1
    ours = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    theirs = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    got = model.output_loss(*ours, targets)
    expected = F.cross_entropy(F.linear(*theirs), targets, ignore_index=-1, reduction="sum")
    (3 * got).backward()
    (3 * expected).backward()
    torch.testing.assert_close(got, expected)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    with torch.no_grad():
        torch.testing.assert_close(model.output_loss(hidden, weight, bias, targets), expected.detach())


def test_no_token_sees_a_later_one() -> None:
    trained = random_model(SHAPES[0])
    ids = torch.randint(300, (1, 40), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 30:] = 0
    torch.testing.assert_close(trained.logits(ids)[:, :30], trained.logits(changed)[:, :30])


def test_the_loss_of_the_mixture_and_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LOSS_CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*size, generator=generator) for size in ((20, 8), (11, 8), (11,)))
    targets = torch.randint(11, (20,), generator=generator)
    targets[[0, 13]] = -1
    gains = torch.rand(20, generator=generator) * (torch.rand(20, generator=generator) < 0.5)
    ours = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    theirs = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    got = model.output_loss(*ours, targets, gains)
    p = F.linear(*theirs).softmax(1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    expected = -((p + gains).log() * (targets >= 0)).sum()
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    with torch.no_grad():
        torch.testing.assert_close(model.output_loss(hidden, weight, bias, targets, gains), expected.detach())


def test_a_fresh_model_is_about_a_unigram_model() -> None:
    fresh = TrainableCodeGen(SHAPES[0])
    unigrams = torch.arange(1, 301).float()
    unigrams /= unigrams.sum()
    fresh.initialise(torch.Generator().manual_seed(0), unigrams)
    probabilities = fresh.logits(torch.tensor([[1, 2, 3]])).softmax(-1)
    assert (probabilities / unigrams).log().abs().max() < 1.0


def test_untying_does_not_change_the_model() -> None:
    fresh = TrainableCodeGen(SHAPES[0])
    fresh.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        fresh.output.weight.mul_(2)
    ids = torch.tensor([[1, 2, 3]])
    before = fresh.logits(ids)
    fresh.untie()
    torch.testing.assert_close(fresh.logits(ids), before)
    assert not fresh.tied


@pytest.mark.parametrize(
    "wrong", [{"width": 250}, {"heads": 2, "width": 64}, {"width": 512, "heads": 4}, {"rotary": 128}, {"rotary": 7}]
)
def test_shapes_that_codegen_tools_would_misread_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"heads|head width|rotary"):
        ModelShape(**wrong)
