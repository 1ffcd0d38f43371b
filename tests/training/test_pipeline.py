"""The tiny preset runs all stages without a network, and a second call has nothing left to do."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import importlib.util
import json
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest

from codegen_lsp.training import __main__ as command
from codegen_lsp.training import corpus, pipeline

pytestmark = pytest.mark.slow
TINY = attrs.evolve(pipeline.PRESETS["tiny"], library_packages=("json", "logging", "importlib", "urllib"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    pipeline.run(pipeline.Job(folder, TINY, steps=30, device="cpu"), lambda _: None, last="export")
    return folder


def test_every_stage_leaves_its_result(made: Path) -> None:
    manifest = json.loads((made / "corpus" / "manifest.json").read_text())
    assert {p["split"] for p in manifest["packages"]} == {"train", "validation"}
    assert {p["license"] for p in manifest["packages"]} == {"PSF-2.0"}
    assert list(corpus.documents(made / "corpus" / "validation.jsonl"))
    entries = pipeline.training_log(made)
    assert entries[-1]["kind"] == "validation"
    assert entries[-1]["nats_per_token"] < np.log(512) - 0.5
    assert json.loads((made / "hf" / "config.json").read_text())["vocab_size"] == 512


def test_transformers_generates_with_it(made: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made / "hf")
    model = AutoModelForCausalLM.from_pretrained(made / "hf")
    assert type(model).__name__ == "CodeGenForCausalLM"
    ids = tokenizer("<fim_suffix>\n<fim_prefix>import ", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert out.shape[1] > ids["input_ids"].shape[1]


def test_what_is_there_is_not_done_again(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file() and path.parent.name != "hf"}
    said: list[str] = []
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), said.append, last="encode")
    assert said == ["== fetch", "== corpus", "== tokenizer", "== encode"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_finished_training_is_not_trained_further(made: Path) -> None:
    weights = (made / "hf" / "model.safetensors").read_bytes()
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), lambda _: None, last="export")
    assert (made / "hf" / "model.safetensors").read_bytes() == weights


@pytest.mark.skipif(
    importlib.util.find_spec("codegen_lsp.checkpoints.convert") is None, reason="nothing converts checkpoints here"
)
def test_the_build_is_made_of_the_exported_model(made: Path) -> None:
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), lambda _: None)
    assert (made / "build" / "model.bin").stat().st_size > 100_000
    assert (made / "build" / "tokenizer.json").exists()
    card = (made / "build" / "README.md").read_text(encoding="utf-8")
    assert "codegen-lsp eval lines --corpus DIR --cases 2 --shown" in card
    assert "| what int8 costs | +" in card or "| what int8 costs | -" in card
    assert card == (made / "hf" / "README.md").read_text(encoding="utf-8")


def test_a_build_is_evaluated_once(made: Path) -> None:
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), lambda _: None)
    said: list[str] = []
    (made / "notes.md").write_text("Trained in one sitting.\n")
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), said.append)
    assert said[-1] == "== evaluate"
    assert "Trained in one sitting." in (made / "build" / "README.md").read_text(encoding="utf-8")
    result = made / "evaluation" / "lines.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"weights": "of another build"}))
    pipeline.run(pipeline.Job(made, TINY, steps=30, device="cpu"), said.append)
    assert said[-1] == "codegen-lsp eval lines --corpus DIR --cases 2 --shown"


def test_a_stopped_training_goes_on_another_time(made: Path, tmp_path: Path) -> None:
    for name in ("corpus", "tokenizer", "encoded"):
        shutil.copytree(made / name, tmp_path / name)
    job = pipeline.Job(tmp_path, TINY, steps=30, device="cpu")
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 10

    assert not pipeline.run(job, lambda _: None, last="export", stop=stop)
    assert not (tmp_path / "hf").exists()
    assert pipeline.run(job, lambda _: None, last="export")
    last, uninterrupted = (pipeline.training_log(folder)[-1] for folder in (tmp_path, made))
    assert last["step"] == uninterrupted["step"] == 30
    assert last["nats_per_token"] == pytest.approx(uninterrupted["nats_per_token"], rel=0.01)


def test_the_command_reports_what_went_wrong_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    listing = tmp_path / "packages.txt"
    listing.write_text("no-such-package==1.0\n")
    arguments = ["--out", str(tmp_path / "out"), "--steps", "1", "--packages", str(listing), "--until", "fetch"]
    assert command.main(arguments) == 1
    assert "no-such-package==1.0" in capsys.readouterr().err


def test_presets_fit_their_shape() -> None:
    for preset in pipeline.PRESETS.values():
        config = pipeline.training_config(pipeline.Job(Path(), preset, minutes=1.0))
        assert config.budget == 60
        assert max(length for _, length in config.row_lengths) <= config.shape.positions
