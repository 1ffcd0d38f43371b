"""A training in a real Ray cluster of two workers, one of which is killed, ends as that of one process.

Each test runs in a process of its own, since Ray reads its environment when it is imported.
"""

from __future__ import annotations

from tests import needs

needs.extra("train")

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import psutil
import pytest
import torch

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import read_record
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.training import data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation.job import AdaptationJob, ClusterOptions
from codegen_lsp.training.adaptation.stages import adapt
from codegen_lsp.training.adaptation.trainee import AllWeights
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.state import load_weights
from codegen_lsp.training.train import train_from

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas")),
        reason=needs.reason("ray"),
    ),
]
SHAPE = ModelShape(vocabulary=400, width=32, layers=2, heads=4, rotary=8, positions=128)
CONFIG = TrainingConfig(
    SHAPE, steps=60, decay=1.0, warm_up_steps=2, batch_tokens=256, pass_tokens=64, row_lengths=((0, 64),),
    infill=0.1, mixture=1.0, muon_rate=0.0, checkpoint_seconds=0.0, validate_seconds=1e6, validation_rows=2,
    validation_length=64, bfloat16=False, device="cpu",
)  # fmt: skip
TWO = ClusterOptions("local", 2)
PROGRAM = """
import sys
from pathlib import Path
from codegen_lsp.deploy.environment import prepare
prepare(None)
from tests.training.adaptation import test_ray_training
getattr(test_ray_training, sys.argv[1])(*map(Path, sys.argv[2:]))
"""


def in_a_process(function: Any, *paths: Path) -> None:
    """Run a function of this module in a process of its own, and show what it wrote if it fails."""
    command = [sys.executable, "-c", PROGRAM, function.__name__, *map(str, paths)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def workers() -> list[psutil.Process]:
    """Return the training workers of Ray that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def train_alone_and_on_a_cluster(folder: Path) -> None:
    from codegen_lsp.training.adaptation.ray_training import ClusterTask, cluster, train_on_cluster

    texts = [path.read_text() for path in Path(code_tokenizer.__file__).parent.glob("*.py")]
    code_tokenizer.save(code_tokenizer.train(texts, 400), folder / "tokenizer")
    ids = np.random.default_rng(0).integers(4, 300, size=3000).astype(np.uint16)
    text = EncodedCorpus(ids, np.arange(0, 3001, 300), np.full(3000, 0.01, np.float16))
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(1))
    model.untie()
    trainee = AllWeights(model)
    tables = data.TokenTables.of(code_tokenizer.load(folder / "tokenizer"))
    whole = attrs.evolve(CONFIG, checkpoint_seconds=1e6)
    assert train_from(whole, trainee.begin(whole, text, tables), text, folder / "alone", lambda line: None)
    expected = load_weights(folder / "alone")

    files = {path.name: path.read_bytes() for path in (folder / "tokenizer").iterdir()}
    messages: list[str] = []
    killed: list[int] = []

    def report(message: str, share: float) -> None:
        messages.append(message)
        if share > 0.05 and not killed and len(found := workers()) == 2:
            killed.append(found[-1].pid)
            found[-1].kill()

    (folder / "run").mkdir()
    task = ClusterTask(trainee, CONFIG, text, text, files, patience=3, threads=1)
    with cluster(TWO, 1) as cuda:
        assert not cuda
        assert train_on_cluster(TWO, task, folder / "run", "trial", report, lambda: False)
    assert killed, messages
    assert any("resuming after" in message for message in messages), messages
    found = load_weights(folder / "run")
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-4), name
    assert (folder / "run" / "best.pt").exists()
    assert not list((folder / "ray").rglob("*.pt"))


def test_a_training_whose_worker_is_killed_ends_as_that_of_one_process(tmp_path: Path) -> None:
    in_a_process(train_alone_and_on_a_cluster, tmp_path)


def ask_nobody() -> None:
    from codegen_lsp.errors import ClusterError
    from codegen_lsp.training.adaptation.ray_training import cluster

    with (
        pytest.raises(ClusterError, match=r"No Ray cluster can be joined"),
        cluster(ClusterOptions("127.0.0.1:9", 2), 1),
    ):
        pass


def test_a_cluster_that_does_not_answer_is_refused() -> None:
    in_a_process(ask_nobody)


def adapt_on_a_cluster(root: Path, base: Path) -> None:
    job = AdaptationJob(
        (root,), "tiny+cluster", base=str(base), steps=20, anyway=True, device="cpu", threads=2, cluster=TWO
    )
    outcome = adapt(job, lambda message, share: None, lambda line: None, lambda: False)
    assert outcome.build is not None


@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_a_model_is_adapted_on_a_cluster_and_installed_here(repository, tiny_base: Path, empty_store: Path) -> None:  # type: ignore[no-untyped-def]
    import codegen_lsp

    sources = Path(codegen_lsp.__file__).parent
    files = {
        path.relative_to(sources).as_posix(): path.read_text(encoding="utf-8")
        for package in ("workspace", "source", "suggest")
        for path in (sources / package).glob("*.py")
    }
    in_a_process(adapt_on_a_cluster, repository(files), tiny_base)
    record = read_record(empty_store / "tiny+cluster")
    assert record is not None
    assert record.figures["own files alone"].change < 0
    store.remove("tiny+cluster")
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []
