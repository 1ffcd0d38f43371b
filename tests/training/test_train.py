"""A run that was interrupted ends where one that was not ends; the schedule spends the budget."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
import torch

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import corpus, data, train
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.data import Encoded, Vocabulary
from codegen_lsp.training.model import Shape, TrainableCodeGen
from codegen_lsp.training.train import Plan

SHAPE = Shape(vocabulary=400, width=32, layers=2, heads=4, rotary=8, positions=128)
PLAN = Plan(SHAPE, steps=12, length=64, rows=4, rows_at_once=2, validation_rows=4, bfloat16=False, device="cpu")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoded, Vocabulary]:
    texts = [d.text for d in corpus.read_package(corpus.library_package("json"))[0]]
    folder = tmp_path_factory.mktemp("data")
    code_tokenizer.save(code_tokenizer.train(texts, 400), folder)
    vocabulary = Vocabulary.of(code_tokenizer.load(folder))
    return data.encode(vocabulary.tokenizer, texts, folder, "train"), vocabulary


def run(plan: Plan, parts: tuple[Encoded, Vocabulary], folder: Path, stop_after: int = 1_000_000) -> list[str]:
    said: list[str] = []
    train.train(plan, parts[0], parts[0], parts[1], folder, said.append, lambda run: run.step >= stop_after)
    return said


def test_a_resumed_run_equals_an_uninterrupted_one(parts: tuple[Encoded, Vocabulary], tmp_path: Path) -> None:
    run(PLAN, parts, tmp_path / "whole")
    run(PLAN, parts, tmp_path / "parts", stop_after=5)
    said = run(PLAN, parts, tmp_path / "parts")
    assert said[0].startswith("resuming after 5 steps")
    whole, resumed = (train.load_model(tmp_path / name) for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    logs = [[json.loads(x) for x in (tmp_path / n / train.LOG).read_text().splitlines()] for n in ("whole", "parts")]
    assert logs[0][-1]["kind"] == logs[1][-1]["kind"] == "validation"
    assert logs[0][-1]["nats_per_token"] == logs[1][-1]["nats_per_token"]


def test_gradients_do_not_depend_on_how_a_batch_is_divided(parts: tuple[Encoded, Vocabulary], tmp_path: Path) -> None:
    for at_once, workers in ((4, 1), (1, 1), (1, 3)):
        plan = attrs.evolve(PLAN, rows_at_once=at_once, workers=workers, steps=3)
        run(plan, parts, tmp_path / f"{at_once} {workers}")
    whole, *divided = (train.load_model(tmp_path / name) for name in ("4 1", "1 1", "1 3"))
    for other in divided:
        for name, parameter in whole.named_parameters():
            torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-3, atol=1e-3)


def test_a_model_learns(parts: tuple[Encoded, Vocabulary], tmp_path: Path) -> None:
    run(attrs.evolve(PLAN, steps=60), parts, tmp_path)
    last = json.loads((tmp_path / train.LOG).read_text().splitlines()[-1])
    assert last["nats_per_token"] < math.log(400) - 1.0
    assert 0 < last["bits_per_byte"] < 8


def test_minutes_are_a_budget_that_resuming_does_not_renew(parts: tuple[Encoded, Vocabulary], tmp_path: Path) -> None:
    plan = attrs.evolve(PLAN, steps=None, minutes=0.02)
    run(plan, parts, tmp_path)
    state = torch.load(tmp_path / train.CHECKPOINT, weights_only=True)
    assert state["seconds"] >= 1.2
    log = (tmp_path / train.LOG).read_text()
    assert run(plan, parts, tmp_path)[-1] == "the budget is spent"
    assert torch.load(tmp_path / train.CHECKPOINT, weights_only=True)["step"] == state["step"]
    assert (tmp_path / train.LOG).read_text() == log


def test_another_shape_does_not_resume(parts: tuple[Encoded, Vocabulary], tmp_path: Path) -> None:
    run(PLAN, parts, tmp_path, stop_after=1)
    with pytest.raises(CorpusError, match="another shape"):
        run(attrs.evolve(PLAN, shape=attrs.evolve(SHAPE, layers=1)), parts, tmp_path)


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [train.rate(i / 1000, 0.01, 0.6) for i in range(1001)]
    assert 0 < rates[0] < 0.1
    assert rates[10] == rates[399] == 1.0
    assert rates[700] == pytest.approx(0.5)
    assert rates[1000] == 0.0
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_validation_counts_bytes_and_nats(parts: tuple[Encoded, Vocabulary]) -> None:
    """A model that guesses evenly costs log2(vocabulary) bits a token."""
    encoded, vocabulary = parts
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(0))
    got = train.validate(model, encoded, vocabulary, PLAN, 0.0, rows=6)
    assert got["nats_per_token"] == pytest.approx(math.log(400), rel=1e-4)
    supply = data.Rows(encoded, vocabulary, PLAN.length, 0.0, seed=1)
    targets = [supply.batch(1)[1] for _ in range(6)]
    size = sum(len(vocabulary.pieces[i]) for row in targets for i in row[0] if i >= 0)
    assert got["bits_per_byte"] == pytest.approx(math.log2(400) * 6 * PLAN.length / size, rel=1e-4)


def test_a_plan_has_one_budget() -> None:
    with pytest.raises(ValueError, match="minutes or steps"):
        Plan(SHAPE)
    with pytest.raises(ValueError, match="minutes or steps"):
        Plan(SHAPE, minutes=1, steps=1)
