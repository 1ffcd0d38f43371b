"""An interrupted run ends where an uninterrupted one does; the decay can start from any plateau."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import json
import math
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import corpus, data, export, packages, schedule, state, train
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, TokenTables
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.ngram_gains import write_gains
from codegen_lsp.training.validation import validate

SHAPE = ModelShape(vocabulary=400, width=32, layers=2, heads=4, rotary=8, positions=128)
CONFIG = TrainingConfig(
    SHAPE,
    steps=12,
    warm_up_steps=2,
    batch_tokens=256,
    pass_tokens=128,
    row_lengths=((0, 32), (512, 64)),
    untie_tokens=1024,
    validation_rows=4,
    validation_length=64,
    bfloat16=False,
    device="cpu",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a tokenised corpus with gains."""
    texts = [file.text for file in corpus.read_package(packages.library_package("json")).files]
    made = tmp_path_factory.mktemp("data")
    code_tokenizer.save(code_tokenizer.train(texts, 400), made)
    write_gains(data.encode(code_tokenizer.load(made), texts, made, "train"), made, "train")
    return made


@pytest.fixture(scope="module")
def tables(folder: Path) -> TokenTables:
    return TokenTables.of(code_tokenizer.load(folder))


@pytest.fixture(scope="module")
def encoded(folder: Path) -> EncodedCorpus:
    return data.read(folder, "train")


@pytest.fixture
def run(encoded: EncodedCorpus, tables: TokenTables):  # type: ignore[no-untyped-def]
    def run(config: TrainingConfig, out: Path, stop_after: int = 1_000_000) -> list[str]:
        messages: list[str] = []
        train.train(config, encoded, encoded, tables, out, messages.append, lambda run: run.step >= stop_after)
        return messages

    return run


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / train.LOG).read_text().splitlines()]


def assert_same_weights(one: Path, other: Path) -> None:
    models = [state.load_model(path) for path in (one, other)]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("stop_after", [3, 5, 10])
def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path: Path, stop_after: int) -> None:  # type: ignore[no-untyped-def]
    """Interrupted while tied, after untying, and during the decay."""
    run(CONFIG, tmp_path / "whole")
    run(CONFIG, tmp_path / "parts", stop_after=stop_after)
    assert run(CONFIG, tmp_path / "parts")[0].startswith(f"resuming after {stop_after} steps")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert log_of(tmp_path / "whole")[-1]["nats_per_token"] == log_of(tmp_path / "parts")[-1]["nats_per_token"]


def test_a_run_killed_while_writing_resumes_from_the_checkpoint_before(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(CONFIG, tmp_path / "whole")
    run(CONFIG, tmp_path / "killed", stop_after=2)
    run(CONFIG, tmp_path / "killed", stop_after=4)
    checkpoint = tmp_path / "killed" / state.PLATEAU
    for damage in (checkpoint.unlink, lambda: checkpoint.write_bytes(b"half")):
        damage()
        assert run(CONFIG, tmp_path / "killed", stop_after=2)[0].startswith("resuming after 2 steps")
    checkpoint.with_suffix(".partial").write_bytes(b"half")
    run(CONFIG, tmp_path / "killed")
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_larger_budget_goes_on_from_the_plateau(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    longer = attrs.evolve(CONFIG, steps=20)
    run(longer, tmp_path / "whole")
    run(CONFIG, tmp_path / "raised")
    assert run(longer, tmp_path / "raised")[0].startswith("resuming after 8 steps")
    assert_same_weights(tmp_path / "whole", tmp_path / "raised")
    assert run(longer, tmp_path / "raised")[-1] == "the budget is spent"


def test_the_decay_starts_at_once_from_a_later_plateau(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(attrs.evolve(CONFIG, steps=100), tmp_path, stop_after=15)
    run(CONFIG, tmp_path)
    last = log_of(tmp_path)[-1]
    assert last["step"] == 20
    assert last["weights"] == "averaged"


def test_exported_weights_are_the_averaged_ones_and_untied(run, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(attrs.evolve(CONFIG, untie_tokens=1e9), tmp_path / "run")
    model = state.load_model(tmp_path / "run")
    content = state.read(tmp_path / "run" / state.COOLDOWN)
    assert content is not None
    assert content["tied"]
    torch.testing.assert_close(model.output.weight.detach(), content["average"]["output.weight"])
    torch.testing.assert_close(model.embedding.weight, model.output.weight * model.embedding_scale)
    assert (content["average"]["output.weight"] != content["model"]["output.weight"]).any()
    assert export.export(model, folder, tmp_path / "hf") < export.TOLERANCE


def test_gradients_do_not_depend_on_how_a_batch_is_divided(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for pass_tokens, workers in ((256, 1), (64, 1), (64, 3)):
        config = attrs.evolve(CONFIG, pass_tokens=pass_tokens, workers=workers, steps=3)
        run(config, tmp_path / f"{pass_tokens} {workers}")
    whole, *divided = (state.load_model(tmp_path / name) for name in ("256 1", "64 1", "64 3"))
    for other in divided:
        for name, parameter in whole.named_parameters():
            torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-2, atol=1e-2)


def test_a_model_learns(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(attrs.evolve(CONFIG, steps=60, mixture=0.1), tmp_path)
    last = log_of(tmp_path)[-1]
    assert last["nats_per_token"] < math.log(400) - 1.0
    assert 0 < last["bits_per_byte"] < 8


def test_minutes_are_a_budget_that_resuming_does_not_renew(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = attrs.evolve(CONFIG, steps=None, minutes=0.02)
    run(config, tmp_path)
    content = state.read(tmp_path / state.COOLDOWN)
    assert content is not None
    assert content["seconds"] >= 1.2
    log = (tmp_path / train.LOG).read_text()
    assert run(config, tmp_path)[-1] == "the budget is spent"
    assert (tmp_path / train.LOG).read_text() == log


def test_another_shape_does_not_resume(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(CONFIG, tmp_path, stop_after=1)
    with pytest.raises(CorpusError, match="another shape"):
        run(attrs.evolve(CONFIG, shape=attrs.evolve(SHAPE, layers=1)), tmp_path)


def test_a_folder_without_checkpoint_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no checkpoint"):
        state.load_model(tmp_path)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rising = [schedule.learning_rate_factor(step, 10, 0.0) for step in range(20)]
    assert 0 < rising[0] < 0.2
    assert all(a <= b for a, b in pairwise(rising))
    assert rising[9] == rising[19] == 1.0
    falling = [schedule.learning_rate_factor(100, 10, i / 10) for i in range(11)]
    assert falling[5] == pytest.approx(0.5)
    assert falling[10] == 0.0


def test_rows_grow_with_the_tokens_seen() -> None:
    lengths = ((0, 256), (100, 512), (200, 1024))
    assert [schedule.row_length(tokens, lengths) for tokens in (0, 99, 100, 199, 200, 1e9)] == [
        256, 256, 512, 512, 1024, 1024,
    ]  # fmt: skip


def test_regularisation_begins_with_the_second_epoch_and_the_mixture_comes_last() -> None:
    config = attrs.evolve(CONFIG, mixture=0.1, decay=0.4)
    assert [schedule.weight_decay(config, epoch) for epoch in range(3)] == [0.02, 0.1, 0.1]
    assert [schedule.trains_mixture(config, progress) for progress in (0.0, 0.7, 0.8)] == [False, False, True]
    assert not schedule.trains_mixture(CONFIG, 1.0)


def test_validation_counts_bytes_and_nats(encoded: EncodedCorpus, tables: TokenTables) -> None:
    """A uniform model costs log2(vocabulary) bits a token."""
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.output.weight.zero_()
    got = validate(model, encoded, tables, CONFIG, 0.0, rows=6)
    assert got["nats_per_token"] == pytest.approx(math.log(400), rel=1e-4)
    sampler = data.RowSampler(encoded, tables, 0.0, seed=1)
    targets = [sampler.batch(1, CONFIG.validation_length).targets for _ in range(6)]
    size = sum(len(tables.pieces[i]) for row in targets for i in row[0] if i >= 0)
    assert got["bits_per_byte"] == pytest.approx(math.log2(400) * 6 * CONFIG.validation_length / size, rel=1e-4)


def test_a_configuration_has_one_budget_and_fitting_lengths() -> None:
    with pytest.raises(ValueError, match="minutes or steps"):
        TrainingConfig(SHAPE)
    with pytest.raises(ValueError, match="minutes or steps"):
        TrainingConfig(SHAPE, minutes=1, steps=1)
    with pytest.raises(ValueError, match="multiple"):
        attrs.evolve(CONFIG, row_lengths=((0, 100),))
    with pytest.raises(ValueError, match="decay"):
        attrs.evolve(CONFIG, decay=0.0)


def test_files_are_reshuffled_every_epoch(encoded: EncodedCorpus, tables: TokenTables) -> None:
    sampler = data.RowSampler(encoded, tables, 0.0)
    rows = len(encoded.ids) // 64 + 2
    orders = []
    for _ in range(2):
        orders.append(np.concatenate([sampler.row(64)[0] for _ in range(rows)]))
    assert sampler.position.epoch >= 1
    assert (orders[0][:1000] != orders[1][:1000]).any()
