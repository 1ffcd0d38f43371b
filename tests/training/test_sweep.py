"""A sweep trains each candidate once for the steps that its measured speed allows; its plot can be drawn."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import attrs
import pytest

from codegen_lsp.training import pipeline, plot, sweep
from codegen_lsp.training.model import ModelShape

TINY = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "urllib"))
SHAPE = ModelShape(vocabulary=512, width=64, layers=1, heads=4, rotary=16, positions=256)
ROWS = ((0, 64), (0.5, 128))
CANDIDATES = (
    sweep.SweepCandidate("one", SHAPE, row_lengths=ROWS),
    sweep.SweepCandidate("two", attrs.evolve(SHAPE, layers=2), "mark", row_lengths=ROWS),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    pipeline.run(pipeline.Job(folder, TINY, steps=20, device="cpu"), lambda _: None, last="train")
    return folder


def test_candidates_are_trained_once_and_compared_on_the_same_text(made: Path) -> None:
    base = pipeline.training_config(pipeline.Job(made, TINY, steps=1, device="cpu"))
    (made / "sweep").mkdir()
    for name, speed in (("one", 4096.0), ("two", 2048.0)):
        (made / "sweep" / f"{name}.speed.json").write_text(json.dumps(speed))
    said: list[str] = []
    results = list(sweep.run(made, CANDIDATES, 0.05, base, said.append))
    assert [result.candidate for result in results] == ["one", "two"]
    assert results[0].tokens == 2 * results[1].tokens == int(0.05 * 60 * 4096 / 1024) * 1024
    assert all(2 < result.bits_per_byte < 8 for result in results)
    assert {path.name for path in (made / "sweep").iterdir()} >= {"word-512", "mark-512"}
    messages = len(said)
    assert list(sweep.run(made, CANDIDATES, 0.05, base, said.append)) == results
    assert len(said) == messages
    assert sweep.table(results).count("\n") == 3


def test_the_plot_shows_run_and_sweep(made: Path, tmp_path: Path) -> None:
    needs.extra("plot")
    found = [
        sweep.SweepResult("a", 1.0, 1_000_000, 10, 1.0, 4.0, 2.0),
        sweep.SweepResult("b", 1.0, 2_000_000, 10, 1.0, 4.0, 1.9),
    ]
    plot.draw(pipeline.training_log(made), found, tmp_path / "curves.svg")
    words = "".join(ElementTree.parse(tmp_path / "curves.svg").getroot().itertext())
    assert "bits per byte, held out" in words
    assert "million tokens seen" in words
