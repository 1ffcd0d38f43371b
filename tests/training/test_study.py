"""A study trains each candidate once, for as many steps as its measured speed allows, and its picture can be drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import attrs
import pytest

from codegen_lsp.training import picture, pipeline, study
from codegen_lsp.training.model import Shape

TINY = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "urllib"))
SHAPE = Shape(vocabulary=512, width=64, layers=1, heads=4, rotary=16, positions=256)
CANDIDATES = (study.Candidate("one", SHAPE), study.Candidate("two", attrs.evolve(SHAPE, layers=2), "mark"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studied")
    pipeline.run(pipeline.Job(folder, TINY, steps=20, device="cpu"), lambda _: None, last="train")
    return folder


def test_candidates_are_judged_on_the_same_text_and_once(made: Path) -> None:
    base = pipeline.plan_of(pipeline.Job(made, TINY, steps=1, device="cpu"))
    (made / "study").mkdir()
    for name, speed in (("one", 4096.0), ("two", 2048.0)):
        (made / "study" / f"{name}.speed.json").write_text(json.dumps(speed))
    said: list[str] = []
    trials = list(study.run(made, CANDIDATES, 0.05, base, said.append))
    assert [trial.candidate for trial in trials] == ["one", "two"]
    assert trials[0].tokens == 2 * trials[1].tokens == int(0.05 * 60 * 4096 / 1024) * 1024
    assert all(2 < trial.bits_per_byte < 8 for trial in trials)
    assert {path.name for path in (made / "study").iterdir()} >= {"word-512", "mark-512"}
    spoken = len(said)
    assert list(study.run(made, CANDIDATES, 0.05, base, said.append)) == trials
    assert len(said) == spoken
    assert study.table(trials).count("\n") == 3


def test_the_picture_shows_run_and_study(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the curves, is not installed")
    found = [study.Trial("a", 1.0, 1_000_000, 10, 1.0, 4.0, 2.0), study.Trial("b", 1.0, 2_000_000, 10, 1.0, 4.0, 1.9)]
    picture.draw(pipeline.training_log(made), found, tmp_path / "curves.svg")
    words = "".join(ElementTree.parse(tmp_path / "curves.svg").getroot().itertext())
    assert "bits per byte, held out" in words
    assert "million tokens seen" in words
