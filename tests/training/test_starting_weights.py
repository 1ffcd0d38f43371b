"""A build's weights come back as the model that they were exported from."""

from __future__ import annotations

from pathlib import Path

from tests import needs

needs.extra("train")

import pytest
import torch

from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.store import bundled_directory
from codegen_lsp.training import export
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.starting_weights import trainable_model


def silent(message: str, share: float) -> None: ...


def test_the_weights_of_the_embedded_model_compute_its_logits() -> None:
    with open_source(str(bundled_directory() / "codegen-lsp-python"), None, silent) as source:
        model = trainable_model(source)
        ids = source.tokenizer.encode("import os\n\n\ndef main(path):\n    with open(path) as file:\n        return f")
        expected = source.logits(ids)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(torch.tensor([ids]))[0], expected, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_gives_exactly_the_weights_that_were_exported(tmp_path: Path) -> None:
    shape = ModelShape(vocabulary=512, width=64, layers=2, heads=4, rotary=16, positions=128)
    model = TrainableCodeGen(shape)
    model.initialise(torch.Generator().manual_seed(3))
    model.untie()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)) * 0.05)
    learned = code_tokenizer.train(["def f(x):\n    return x\n" * 20], 512)
    code_tokenizer.save(learned, tmp_path / "tokenizer", 128)
    model.output.weight.data[learned.get_vocab_size() :] = 0
    export.export(model, tmp_path / "tokenizer", tmp_path / "hf")
    from codegen_lsp.checkpoints.checkpoint_source import read_source
    from codegen_lsp.checkpoints.export.source import ExportSource
    from codegen_lsp.checkpoints.weights import Weights
    from codegen_lsp.inference.build import BuildInfo

    read = read_source(tmp_path / "hf", "x")
    info = BuildInfo("x", "codegen", "x", "x", 128, 512, 2, 4, 64, 0)
    with Weights(tmp_path / "hf") as weights:
        found = trainable_model(ExportSource(tmp_path, info, read.architecture, weights, learned, False))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("block", ["llama"])
def test_another_architecture_is_refused(block: str) -> None:
    from attrs import evolve

    from codegen_lsp.errors import ModelError

    with open_source(str(bundled_directory() / "codegen-lsp-python"), None, silent) as source:
        other = evolve(source, architecture=evolve(source.architecture, block=block))
        with pytest.raises(ModelError, match="another architecture"):
            trainable_model(other)
