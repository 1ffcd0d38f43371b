"""The measurements run on a tiny corpus and agree with what they measure."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from pathlib import Path

import attrs
import pytest

from codegen_lsp.training import data, measure, pipeline, tokenizer

TINY = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "urllib"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    pipeline.run(pipeline.Job(folder, TINY, steps=2, device="cpu"), lambda _: None, last="train")
    return folder


def test_tokenizers_are_compared_on_held_out_files(made: Path) -> None:
    found = measure.compare_tokenizers(made, 512)
    assert set(found) == set(tokenizer.DESIGNS)
    assert all(1.5 < characters < 8 for characters in found.values())


def test_loss_is_what_the_training_logged(made: Path) -> None:
    config = pipeline.training_config(pipeline.Job(made, TINY, steps=2))
    found = measure.held_out_loss(made, config, 4 * config.validation_rows)
    last = pipeline.training_log(made)[-1]
    assert found["plain"]["nats_per_token"] == pytest.approx(last["nats_per_token"], rel=1e-3)
    assert found["infilling"]["nats_per_token"] == pytest.approx(last["infill_nats_per_token"], rel=1e-3)


def test_validation_ends_with_the_held_out_text(made: Path) -> None:
    config = pipeline.training_config(pipeline.Job(made, TINY, steps=2))
    encoded = data.read(made / "encoded", "validation")
    assert len(encoded.ids) < 10_000 * config.validation_length
    assert measure.held_out_loss(made, config, 10_000)["plain"]["bits_per_byte"] > 0


def test_throughput_is_measured_step_by_step() -> None:
    config = pipeline.training_config(pipeline.Job(Path(), TINY, steps=2, device="cpu", threads=2))
    rates = list(measure.throughput(config, 64, 2))
    assert len(rates) == 2
    assert min(rates) > 0


def test_the_command_prints_and_asks_for_a_folder(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["loss", str(made), "--preset", "tiny", "--rows", "2"]) == 0
    assert capsys.readouterr().out.startswith("plain: ")
    with pytest.raises(SystemExit):
        measure.main(["loss"])
