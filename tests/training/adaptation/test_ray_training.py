"""A training on a real Ray cluster of two nodes: stopped, gone on with, and one of its workers killed.

It runs in a process of its own, since Ray reads its environment when it is imported, and starts threads that a later
fork of the process would lack.
"""

from __future__ import annotations

from tests import needs

needs.extra("ray-train")

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import psutil
import pytest
import torch

from codegen_lsp.checkpoints.adaptation_record import LOCK
from codegen_lsp.training import data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation import training_run
from codegen_lsp.training.adaptation.best import BEST
from codegen_lsp.training.adaptation.job import AdaptationJob, ClusterOptions, RunningJob
from codegen_lsp.training.adaptation.stages import adapt
from codegen_lsp.training.adaptation.trainee import AllWeights
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import Batch, EncodedCorpus, RowSampler, TokenTables
from codegen_lsp.training.model import ModelShape, TrainableCodeGen
from codegen_lsp.training.state import TrainingState, load_weights
from codegen_lsp.training.train import train_from

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow", "pandas")),
        reason=needs.reason("ray-train"),
    ),
]
SHAPE = ModelShape(vocabulary=400, width=32, layers=2, heads=4, rotary=8, positions=64)
STEPS = 20
SHARE = 0.9
DEATH = 60
"""Rows after which a worker dies: in the eighth step, of eight rows each."""
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
STARTS = 4
MARK = "CODEGEN_LSP_TEST_RUN"
PROGRAM = """
import sys
from pathlib import Path
from codegen_lsp.deploy.environment import prepare
prepare(None)
from tests.training.adaptation import test_ray_training
test_ray_training.train_on_two_nodes(Path(sys.argv[1]))
"""


def test_a_training_whose_worker_is_killed_ends_as_that_of_one_process(tmp_path: Path) -> None:
    root, mark = Path(__file__).parents[3], secrets.token_hex(16)
    environment = os.environ | {
        "CODEGEN_LSP_MODELS": str(tmp_path / "store"),
        "PYTHONPATH": str(root),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        MARK: mark,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=root, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    finally:
        left = marked(mark)
        for process in left:
            process.kill()
    _, alive = psutil.wait_procs(left)
    assert not alive


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@attrs.define
class MortalSampler(RowSampler):
    """Kills its process after `DEATH` rows, unless the file `died` says that one was killed."""

    died: Path = attrs.field(kw_only=True)

    def batch(self, rows: int, length: int) -> Batch:
        """Return the next rows, or die."""
        if self.position.row >= DEATH and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(rows, length)


@attrs.frozen(eq=False)
class MortalWeights(AllWeights):
    """Weights whose training is killed once, in the second process."""

    died: Path

    def begin(self, config: TrainingConfig, training: EncodedCorpus, tables: TokenTables) -> TrainingState:
        """Return the state before the first step."""
        run = super().begin(config, training, tables)
        if torch.distributed.get_rank() == 1:
            run.sampler = MortalSampler(training, tables, config.infill, config.seed, died=self.died)
        return run


@contextmanager
def two_nodes() -> Iterator[str]:
    """Give the address of a cluster of two nodes; a start that takes Ray too long is tried again."""
    from ray.cluster_utils import Cluster

    for left in reversed(range(STARTS)):
        nodes = Cluster()
        try:
            nodes.add_node(**NODE, include_dashboard=False)
            nodes.add_node(**NODE)
            nodes.wait_for_nodes()
            break
        except Exception:
            nodes.shutdown()
            if not left:
                raise
    try:
        yield nodes.address
    finally:
        nodes.shutdown()


def encode(folder: Path) -> None:
    """Write a tokenizer and token ids as working files of an adaptation."""
    texts = [path.read_text() for path in Path(code_tokenizer.__file__).parent.glob("t*.py")]
    learned = code_tokenizer.train(texts, 400)
    code_tokenizer.save(learned, folder / "tokenizer")
    for name in ("train", "validation"):
        corpus = data.encode(learned, texts, folder / "encoded", name)
        np.save(folder / "encoded" / f"{name}.gains.npy", np.full(len(corpus.ids), 0.01, np.float16))


def train_on_two_nodes(folder: Path) -> None:
    """Train on a cluster and in this process, and compare the weights."""
    from codegen_lsp.errors import ClusterError
    from codegen_lsp.training.adaptation.ray_training import cluster

    nowhere = AdaptationJob((folder,), "refused", cluster=ClusterOptions("127.0.0.1:9", 2, str(folder)))
    with pytest.raises(ClusterError, match="No Ray cluster can be joined"):
        adapt(nowhere, lambda message, share: None, lambda line: None, lambda: False)
    assert [path for path in (folder / "store").rglob("*") if path.is_file() and path.name != LOCK] == []
    model = TrainableCodeGen(SHAPE)
    model.initialise(torch.Generator().manual_seed(1))
    model.untie()
    plain = training_run.training_config

    def with_checkpoints(*arguments: Any, **options: Any) -> TrainingConfig:
        """Return the configuration of a training that writes a checkpoint after each step."""
        return attrs.evolve(plain(*arguments, **options), checkpoint_seconds=0.0, bfloat16=False)

    training_run.training_config = with_checkpoints  # type: ignore[assignment]
    messages: list[str] = []
    storage = folder / "storage"
    with two_nodes() as address:
        options = ClusterOptions(address, 2, str(storage))
        for changes, reason in (({"storage": None}, "2 nodes"), ({"workers": 3}, "room for 2")):
            with pytest.raises(ClusterError, match=reason), cluster(attrs.evolve(options, **changes), 1):
                pass
        job = AdaptationJob((folder,), "trial", steps=STEPS, device="cpu", cluster=options)
        running = RunningJob(job, None, lambda message, share: messages.append(message), messages.append, lambda: False)  # type: ignore[arg-type]
        run = running.folder / "run"
        encode(running.folder)
        trainee = MortalWeights(model, folder / "died")
        assert not training_run.train_for_share(attrs.evolve(running, stop=lambda: True), trainee, SHARE, run)
        assert list(storage.rglob("*.pt"))
        assert not (folder / "died").exists()
        assert training_run.train_for_share(running, trainee, SHARE, run)
    assert (folder / "died").exists()
    assert any("resuming after" in message for message in messages), messages
    assert not list(storage.rglob("*.pt"))
    assert (run / BEST).exists()

    config = plain(job, SHAPE.positions, SHARE, cuda=False, processes=2)
    alone, weights = attrs.evolve(config, bfloat16=False), AllWeights(model)
    text = data.read(running.folder / "encoded", "train")
    state = weights.begin(alone, text, weights.tables(running.folder / "tokenizer"))
    assert train_from(alone, state, text, folder / "alone", lambda line: None)
    found = load_weights(run)
    for name, tensor in load_weights(folder / "alone").items():
        assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-4), name
