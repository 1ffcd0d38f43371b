"""Adapters of larger models: trained from a float checkpoint, merged, installed, refreshed; refused with a reason."""

from __future__ import annotations

from tests import needs

needs.extra("adapters")

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

pytest.importorskip("peft", reason="needs the extra adapters")

from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import codegen_lsp
from codegen_lsp.checkpoints import agreement, store
from codegen_lsp.checkpoints.adaptation_record import read_record, work_folder
from codegen_lsp.checkpoints.architecture import read_architecture
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import CorpusError, ModelError
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.training import data
from codegen_lsp.training.adaptation import adapters
from codegen_lsp.training.adaptation.adapter_model import AdapterModel, read_adapters
from codegen_lsp.training.adaptation.adapters import ADAPTERS, AdapterFit, AdapterTraining, adapters_of, fitting
from codegen_lsp.training.adaptation.base import base_of, working_folder
from codegen_lsp.training.adaptation.job import AdaptationJob, ClusterOptions, Outcome, RunningJob
from codegen_lsp.training.adaptation.plan import prepare
from codegen_lsp.training.adaptation.stages import adapt
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, TokenTables
from codegen_lsp.training.state import load_weights
from codegen_lsp.training.train import train_from
from tests.checkpoints.conftest import make_checkpoint, small_tokenizers

__all__ = ["make_checkpoint", "small_tokenizers"]

FAMILIES = ("codegen", "qwen2")
CPU = torch.device("cpu")
NAME = "larger+mine"
STEPS = 20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def own_code(repository) -> Path:  # type: ignore[no-untyped-def]
    """A repository with some of this project's files."""
    files = {
        f"{package}/{path.name}": path.read_text(encoding="utf-8")
        for package in ("source", "suggest")
        for path in (Path(codegen_lsp.__file__).parent / package).glob("*.py")
    }
    made: Path = repository(files)
    return made


def begun(checkpoint: Path, tmp_path: Path) -> tuple[AdapterTraining, InstalledBuild]:
    """Return the training of a checkpoint's adapters, and its int8 build."""
    info = convert_checkpoint(checkpoint, tmp_path / "base", name="base")
    base = InstalledBuild("base", tmp_path / "base", info, bundled=False)
    training = adapters_of(checkpoint, base, "cpu", None)
    training.check_base(base)
    return training, base


def moved(training: AdapterTraining) -> AdapterModel:
    """Return a model whose adapters have an effect."""
    architecture = training.architecture
    model = AdapterModel(training.checkpoint, architecture, torch.float32, CPU)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=dice))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_build_computes_what_the_model_with_adapters_does(
    family: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(family)
    training, base = begun(checkpoint, tmp_path)
    model = moved(training)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = [5, 99, 17, 230, 41, 7, 300, 12]
    expected = model.logits(torch.tensor([ids]))[0]
    training.write_checkpoint(weights, checkpoint, tmp_path / "merged")
    assert read_architecture(tmp_path / "merged") == training.architecture
    convert_checkpoint(tmp_path / "merged", tmp_path / "build", name="mine")
    int8 = agreement.relative_error(build_logits(tmp_path / "build", ids), expected)
    before = agreement.relative_error(build_logits(base.path, ids), expected)
    assert int8 < agreement.UNTRAINED_ERROR_LIMIT / 2
    assert before > 3 * int8
    # A part of the change is that part of the weights' change.
    name = "model.layers.0.mlp.up_proj.weight" if family == "qwen2" else "transformer.h.0.mlp.fc_in.weight"
    training.write_checkpoint(training.blend(weights, 0.25), checkpoint, tmp_path / "quarter")
    folders = (checkpoint, tmp_path / "quarter", tmp_path / "merged")
    plain, quarter, merged = (load_file(folder / "model.safetensors")[name] for folder in folders)
    assert torch.allclose(quarter - plain, 0.25 * (merged - plain), atol=1e-6)
    assert (merged - plain).abs().max() > 1e-3
    training.keep(weights, tmp_path / "build")
    kept = read_adapters(tmp_path / "build" / ADAPTERS)
    assert kept.keys() == weights.keys()
    assert all(torch.equal(kept[name], weights[name]) for name in weights)
    # A refresh begins where the adapters are, and only beside the build that has them.
    built = InstalledBuild("mine", tmp_path / "build", base.info, bundled=False)
    again = adapters_of(checkpoint, built, "cpu", tmp_path / "build" / ADAPTERS)
    again.check_base(built)
    with pytest.raises(ModelError, match=r"is not that of base"):
        again.check_base(base)
    # peft itself reads them.
    untouched = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    other = PeftModel.from_pretrained(untouched, tmp_path / "build" / ADAPTERS)
    with torch.no_grad():
        assert torch.allclose(other(torch.tensor([ids])).logits[0], expected, atol=1e-4)
    with pytest.raises(ModelError, match=r"can't be refreshed"):
        adapters_of(checkpoint, base, "cpu", tmp_path / "nothing")


def corpus(vocabulary: int) -> EncodedCorpus:
    ids = np.tile(np.arange(3, 90, dtype=np.uint16) % vocabulary, 40)
    starts = np.arange(0, len(ids) + 1, 87 * 4).astype(np.int64)
    return EncodedCorpus(ids, starts, np.full(len(ids), 0.01, np.float16))


def configured(training: AdapterTraining, steps: int) -> TrainingConfig:
    return training.configured(
        TrainingConfig(
            None, steps=steps, decay=1.0, warm_up_steps=2, batch_tokens=256, pass_tokens=128, row_lengths=((0, 128),),
            muon_rate=0.0, mixture=1.0, validation_rows=2, validation_length=128, device="cpu", bfloat16=False,
        )
    )  # fmt: skip


def test_an_interrupted_training_ends_as_a_whole_one(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the activations are computed again, and the loss falls."""
    monkeypatch.setattr(adapters, "LEARNING_RATE", 1e-2)
    training, _ = begun(make_checkpoint("codegen25"), tmp_path)
    tables = training.tables(training.checkpoint)
    text, config = corpus(300), configured(training, 12)
    losses: list[float] = []

    def run(folder: Path, stop_at: int | None, *, memory: int) -> bool:
        monkeypatch.setattr(adapters, "_free", lambda device: memory)
        return train_from(
            config,
            training.begin(config, text, tables),
            text,
            folder,
            lambda line: None,
            lambda run: run.step == stop_at,
            enough=lambda run, model, found: bool(losses.append(found["mixed_nats_per_token"])),
        )

    assert run(tmp_path / "whole", None, memory=1 << 40)
    row = training.positions
    ample = fitting(training.architecture, row, 1 << 40, on_cuda=False)
    scarce = fitting(training.architecture, row, ample.bytes - 1, on_cuda=False)
    assert (ample.checkpointing, scarce.checkpointing) == (False, True)
    assert ample.dtype == scarce.dtype == torch.float32
    assert not run(tmp_path / "parts", 5, memory=scarce.bytes)
    assert run(tmp_path / "parts", None, memory=1 << 40)
    whole, parts = load_weights(tmp_path / "whole"), load_weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all("lora" in name for name in whole)
    for name, tensor in whole.items():
        assert torch.allclose(parts[name], tensor, atol=1e-5), name
    with torch.no_grad():
        begun_model = training.begin(config, text, tables).model
        ids = torch.tensor(text.ids[:129].astype(np.int64))[None]
        first = float(begun_model.loss(ids[:, :-1], ids[:, 1:])) / 128
    assert losses[-1] < first - 0.5


def run_job(job: AdaptationJob, stop: Callable[[], bool] = lambda: False) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return adapt(job, lambda message, share: None, said.append, stop), said


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_a_checkpoint_is_adapted_refreshed_and_removed(
    make_checkpoint: Callable[..., Path],
    own_code: Path,
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapters, "LEARNING_RATE", 1e-2)
    checkpoint = make_checkpoint("qwen2")
    job = AdaptationJob((own_code,), NAME, base=str(checkpoint), steps=STEPS, anyway=True, device="cpu")
    outcome, said = run_job(job)
    assert said[0].startswith("Estimate, a tenth of the time")
    assert outcome.build is not None
    record = read_record(outcome.build.path)
    assert record is not None
    assert (record.checkpoint, record.base) == (str(checkpoint), "checkpoint")
    assert record.figures["own files alone"].high < 0
    assert outcome.build.info.license == "mit"
    card = (outcome.build.path / "README.md").read_text(encoding="utf-8")
    assert "codegen-lsp models remove" in card
    assert f"the checkpoint in `{checkpoint}`" in card
    with pytest.raises(CorpusError, match="No file has changed"):
        run_job(attrs.evolve(job, refresh=True))
    changed = Path(next(file for file in record.files if file not in record.held_out))
    changed.write_text(changed.read_text() + "\n\ndef shout(text: str) -> str:\n    return text.upper()\n")
    again, _ = run_job(attrs.evolve(job, refresh=True))
    assert again.record is not None
    assert (again.record.refreshes, again.record.base) == (1, "checkpoint")
    assert again.record.tokens > record.tokens
    checkpoint.rename(tmp_path / "elsewhere")
    changed.write_text(changed.read_text() + "\n\ndef whisper(text: str) -> str:\n    return text.lower()\n")
    with pytest.raises(ModelError, match=r"no config\.json"):
        run_job(attrs.evolve(job, refresh=True))
    store.remove(NAME)
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []


PROGRAM = """
import os, signal, sys
from pathlib import Path
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.stages import adapt
root, base, name, steps, written = sys.argv[1:]
job = AdaptationJob((Path(root),), name, base=base, steps=int(steps), anyway=True, device="cpu")
def report(message, share):
    if Path(written).exists():
        os.kill(os.getpid(), signal.SIGKILL)
adapt(job, report, print, lambda: False)
"""


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_a_job_with_adapters_killed_at_a_stage_goes_on(
    make_checkpoint: Callable[..., Path], own_code: Path, empty_store: Path
) -> None:
    """At the stages that are other ones than those of a small model, for which `test_job` tries all."""
    checkpoint, work = make_checkpoint("codegen"), work_folder(empty_store, NAME)
    environment = os.environ | {"CODEGEN_LSP_MODELS": str(empty_store), "OMP_NUM_THREADS": "1"}
    for stage in ("base/checkpoint.json", "run/best.pt"):
        arguments = [str(own_code), str(checkpoint), NAME, str(STEPS), str(work / stage)]
        killed = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL, stage
        assert (work / stage).exists()
    made = (work / "base" / "model.bin").stat().st_mtime_ns
    assert not (empty_store / NAME).exists()
    job = AdaptationJob((own_code,), NAME, base=str(checkpoint), steps=STEPS, anyway=True, device="cpu")
    bases: list[int] = []
    outcome, said = run_job(job, stop=lambda: bool(bases.append((work / "base" / "model.bin").stat().st_mtime_ns)))
    assert set(bases) <= {made}
    assert said[0].startswith("Going on")
    assert outcome.build is not None
    assert not work.exists()


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_what_is_refused_leaves_no_working_files_and_no_speed_is_predicted(
    make_checkpoint: Callable[..., Path],
    own_code: Path,
    repository,  # type: ignore[no-untyped-def]
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = AdaptationJob((own_code,), NAME, base=str(make_checkpoint("qwen2")), minutes=0.0001, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(adapters, "fitting", lambda *_, on_cuda: AdapterFit(torch.float32, False, 1 << 60))
        with pytest.raises(CorpusError, match="of memory"):
            run_job(job)
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []
    with pytest.raises(CorpusError, match="files to train on"):
        run_job(attrs.evolve(job, paths=(repository({"one.py": "x = 1\n"}, "small"),)))
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []
    outcome, said = run_job(job, stop=lambda: True)
    assert outcome.interrupted
    assert said == []


def test_a_vocabulary_that_the_index_can_not_hold_is_trained_without_ngrams(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
    from codegen_lsp.training import data, workspace_gains

    words = {f"w{n}": n for n in range(70_000)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    encoded = data.encode(tokenizer, ["w69999", "w3"], tmp_path, "large")
    assert encoded.ids.tolist() == [69_999, 3]
    small = Tokenizer(models.WordLevel({"w0": 0, "w3": 1}, unk_token="w0"))
    assert data.encode(small, ["w3"], tmp_path, "small").ids.dtype == np.uint16
    assert workspace_gains.workspace_gains(encoded.ids, encoded.starts, SMALL_MODEL).shape == (2,)


def test_secrets_and_ignored_files_reach_no_working_file(
    make_checkpoint: Callable[..., Path],
    repository,  # type: ignore[no-untyped-def]
    empty_store: Path,
) -> None:
    secrets = [f"{number}k3q9x7w2z5v8{number}j4h6" for number in range(5)]
    files = {".gitignore": "ignored/\n"}
    for number in range(60):
        functions = "".join(f"def method_{number}_{n}(value):\n    return value * {n}\n\n\n" for n in range(25))
        files[f"module_{number}.py"] = f'API_TOKEN = "{secrets[number % 5]}"\n\n\n{functions}'
    root = repository(files)
    (root / "ignored").mkdir()
    (root / "ignored" / "local.py").write_text("IGNORED_CANARY = 'do not learn this'\n" * 30)
    job = AdaptationJob((root,), NAME, base=str(make_checkpoint("qwen2")), steps=STEPS, device="cpu")
    folder = working_folder(job)
    base = base_of(job, folder, lambda message, share: None)
    running = RunningJob(job, base, lambda message, share: None, lambda line: None, lambda: False)
    prepare(running, lambda files: None)
    tokenizer = Tokenizer.from_build(base.path, base.info)
    text = "".join(
        tokenizer.decode(np.asarray(data.read(folder / "encoded", name).ids).tolist())
        for name in ("own", "train", "validation")
    )
    assert "API_TOKEN" in text
    assert "def method_7_3(value)" in text
    everything = text.encode() + b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not [one for one in [*secrets, "IGNORED_CANARY"] if one.encode() in everything]


@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_without_ngrams_a_model_is_measured_alone(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen_lsp.training.adaptation import measuring

    _, base = begun(make_checkpoint("qwen2"), tmp_path)
    assert measuring.served_weights(base) is not None
    monkeypatch.setattr(measuring, "GAP", base.info.vocabulary_size)
    assert measuring.served_weights(base) is None
    text = corpus(300)
    costs = [
        measuring.measure(base.path, text, 3, text, files=2, weights=weights, threads=1)
        for weights in (None, measuring.SMALL_MODEL)
    ]
    assert np.array_equal(costs[0].own.mixed, costs[0].own.alone)
    # The first token of a file is left out beside n-grams.
    assert costs[0].own.alone == pytest.approx(costs[1].own.alone, rel=0.01)
    assert costs[0].own.size == pytest.approx(costs[1].own.size, rel=0.05)
    assert (costs[1].own.mixed < costs[1].own.alone).all()


def test_what_does_not_fit_is_refused_with_the_numbers(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, base = begun(make_checkpoint("codegen"), tmp_path)
    job = AdaptationJob((tmp_path,), NAME)
    training.check_resources(job, tmp_path)
    large = attrs.evolve(training.architecture, layers=32, width=4096, hidden=16384)
    ways = [fitting(large, 1024, free << 30, on_cuda=False) for free in (100, 30, 20, 1)]
    assert [(way.dtype, way.checkpointing) for way in ways] == [
        (torch.float32, False), (torch.float32, True), (torch.bfloat16, True), (torch.bfloat16, True),
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(adapters.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 28}))
        with pytest.raises(CorpusError, match=r"takes \d\.\d GiB of memory, 0\.2 are free"):
            training.check_resources(job, tmp_path)
        least = fitting(training.architecture, training.positions, 0, on_cuda=False).bytes
        patch.setattr(adapters.psutil, "virtual_memory", lambda: type("Memory", (), {"available": least * 3 // 2}))
        training.check_resources(job, tmp_path)
        with pytest.raises(CorpusError, match="of memory"):
            training.check_resources(attrs.evolve(job, cluster=ClusterOptions("local", 2)), tmp_path)
        patch.setenv("LOCAL_WORLD_SIZE", "2")
        assert adapters._free(CPU) == least * 3 // 4
    # Another checkpoint of the same shape is not the base's.
    other = tmp_path / "other"
    shutil.copytree(training.checkpoint, other)
    state = load_file(other / "model.safetensors")
    name = "transformer.h.0.mlp.fc_in.weight"
    save_file(state | {name: state[name].flip(0).contiguous()}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="is not that of base"):
        adapters_of(other, base, "cpu", None).check_base(base)


def test_checkpoints_that_transformers_computes_otherwise_are_refused(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base = InstalledBuild("base", tmp_path, None, bundled=False)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="8 groups"):
        adapters_of(make_checkpoint("codegen2"), base, "cpu", None)
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ModelError, match="mamba"):
        adapters_of(odd, base, "cpu", None)


def test_tables_are_those_of_any_tokenizer(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    training, base = begun(make_checkpoint("qwen2"), tmp_path)
    tables: TokenTables = training.tables(base.path)
    ids = tables.tokenizer.encode("def add(self):\n", add_special_tokens=False).ids
    assert b"".join(tables.pieces[id] for id in ids) == b"def add(self):\n"
    assert tables.end == base.info.end_of_text
