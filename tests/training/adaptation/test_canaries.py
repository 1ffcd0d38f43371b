"""Planted secrets and ignored files leave no trace in an adapted model's data, and none in its weights.

Exposure (Carlini et al., "The Secret Sharer", 2019) is log2 of the number of candidates less log2 of the secret's rank
among them by the model's loss: about 1.4 bits on average where the model has not seen it.
"""

from __future__ import annotations

from tests import needs

needs.extra("train")

import random
import string
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from codegen_lsp.checkpoints.adaptation_record import work_folder
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.training import cleaning, data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation import encoding
from codegen_lsp.training.adaptation.sources import read_sources
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import train

CANDIDATES = 256
LINE = 'API_TOKEN = "'


def secret(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_lowercase + string.digits, k=18)) + "7"


@pytest.fixture
def planted() -> list[str]:
    dice = random.Random(1)
    return [secret(dice) for _ in range(6)]


@pytest.fixture
def own_code(repository, planted: list[str]) -> Path:  # type: ignore[no-untyped-def]
    files = {".gitignore": "ignored/\n"}
    for number in range(40):
        functions = "\n\n".join(
            f"def function_{number}_{n}(value, other={n}):\n    return value * {n} + other - {number}\n"
            for n in range(30)
        )
        files[f"package/module_{number}.py"] = f'{LINE}{planted[number % len(planted)]}"\n\n\n{functions}\n'
    root: Path = repository(files)
    (root / "ignored").mkdir()
    (root / "ignored" / "local.py").write_text("IGNORED_CANARY = 'do not learn this sentence'\n" * 30)
    return root


def encoded(root: Path, tokenizer_folder: Path, folder: Path) -> str:
    """Encode what is read of a repository; return all text that is in the token ids."""
    training, held_out = encoding.split(read_sources([root], (".py",)).files)
    learned = code_tokenizer.load(tokenizer_folder)
    encoding.encode(learned, training, held_out, ([], []), SMALL_MODEL, folder)
    return "".join(
        code_tokenizer.decode_bytes(learned, np.asarray(data.read(folder, name).ids).tolist()).decode()
        for name in ("own", "train", "validation")
    )


def exposure(model: TrainableCodeGen, tokenizer_folder: Path, secrets: list[str]) -> float:
    """Return the mean exposure in bits."""
    learned = code_tokenizer.load(tokenizer_folder)
    dice = random.Random(2)
    found = []
    for one in secrets:
        losses = []
        for candidate in [one, *(secret(dice) for _ in range(CANDIDATES - 1))]:
            ids = torch.tensor([learned.encode(f'{LINE}{candidate}"').ids])
            with torch.no_grad():
                losses.append(float(model.loss(ids[:, :-1], ids[:, 1:])))
        rank = 1 + sum(loss < losses[0] for loss in losses[1:])
        found.append(np.log2(CANDIDATES) - np.log2(rank))
    return float(np.mean(found))


@pytest.mark.slow
def test_a_planted_secret_is_learned_only_if_it_is_not_scrubbed(
    own_code: Path, planted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tokenizer is the base's, which never saw the secrets.
    texts = [cleaning.scrub(path.read_text()) for path in sorted(own_code.rglob("module_*.py"))]
    code_tokenizer.save(code_tokenizer.train(texts, 400), tmp_path / "tokenizer", 128)
    shape = ModelShape(vocabulary=512, width=64, layers=2, heads=4, rotary=16, positions=128)
    config = TrainingConfig(
        shape, steps=120, warm_up_steps=5, batch_tokens=1024, pass_tokens=1024, row_lengths=((0, 128),), decay=1.0,
        infill=0.0, muon_rate=0.0, adam_rate=5e-3, validation_rows=1, validation_length=64, bfloat16=False,
        device="cpu",
    )  # fmt: skip
    exposures = {}
    last: list[TrainableCodeGen] = []

    def keep(run: TrainingState, model: TrainableCodeGen, loss: Mapping[str, float]) -> bool:
        last.append(model)
        return False

    for scrubbed in (True, False):
        folder = tmp_path / str(scrubbed)
        with monkeypatch.context() as patch:
            if not scrubbed:
                patch.setattr(cleaning, "scrub", lambda text: text)
            text = encoded(own_code, tmp_path / "tokenizer", folder / "encoded")
        assert any(one in text for one in planted) is not scrubbed
        assert "IGNORED_CANARY" not in text
        # Without the n-gram gains, which would leave to the n-grams what is repeated: the harder case.
        training = attrs.evolve(data.read(folder / "encoded", "train"), gains=None)
        train(
            config, training, training, data.TokenTables.of(code_tokenizer.load(tmp_path / "tokenizer")),
            folder / "run", lambda line: None, enough=keep,
        )  # fmt: skip
        exposures[scrubbed] = exposure(last[-1], tmp_path / "tokenizer", planted)
    assert exposures[False] > 5
    assert exposures[True] < 3


def test_the_working_folder_is_where_it_is_deleted(tmp_path: Path) -> None:
    assert work_folder(tmp_path, "x").parent == tmp_path / ".adaptations"
