"""A training in a share of an adaptation's budget."""

from __future__ import annotations

import secrets
from pathlib import Path

import attrs
import numpy as np
import torch

from codegen_lsp.progress import ProgressReport
from codegen_lsp.training import data
from codegen_lsp.training.adaptation.best import BestWeights
from codegen_lsp.training.adaptation.job import AdaptationJob, RunningJob
from codegen_lsp.training.adaptation.resources import TypingWatch
from codegen_lsp.training.adaptation.trainee import Trainee
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import choose_device, train_from

ESTIMATE_SHARE = 0.1
"""Share of the time for the estimate."""
LONGEST_ROW = 1024
PATIENCE = 3
VALIDATIONS = 8
"""Validations during a training."""


def train_for_share(running: RunningJob, trainee: Trainee, share: float, run_folder: Path) -> bool:
    """Train for a share of the budget, or go on with that; return true when it is spent or the loss falls no more."""
    run_folder.mkdir(parents=True, exist_ok=True)
    first = 0.0 if share == ESTIMATE_SHARE else ESTIMATE_SHARE
    title = "estimate" if share == ESTIMATE_SHARE else "training"

    def report(message: str, spent: float) -> None:
        running.report(f"{title}: {message}", first + share * min(spent, 1.0))

    if running.job.cluster is not None:
        return _train_on_cluster(running, trainee, share, run_folder, report)
    job, encoded = running.job, running.folder / "encoded"
    torch.set_num_threads(job.threads)
    cuda = choose_device(job.device).type == "cuda"
    config = trainee.configured(training_config(job, trainee.positions, share, cuda=cuda))
    validated: list[str] = ["the first figure takes a while"]
    watch = TypingWatch() if job.polite else None
    in_steps = config.steps is not None

    def interrupted(run: TrainingState) -> bool:
        spent = run.spent(in_steps) / config.budget
        left = "" if in_steps else f"{(config.budget - run.seconds) / 60:.1f} min left; "
        report(f"{left}{run.tokens:,} tokens; {validated[-1]}", spent)
        if watch is not None:
            watch.wait(lambda: report("waits while somebody types", spent), running.stop)
        return running.stop()

    return train_from(
        config,
        trainee.begin(config, data.read(encoded, "train"), trainee.tables(running.folder / "tokenizer")),
        data.read(encoded, "validation"),
        run_folder,
        validated.append,
        interrupted,
        enough=BestWeights(run_folder, PATIENCE).enough,
    )


def _train_on_cluster(
    running: RunningJob, trainee: Trainee, share: float, run_folder: Path, report: ProgressReport
) -> bool:
    from codegen_lsp.training.adaptation.ray_training import ClusterTask, cluster, train_on_cluster

    job, options = running.job, running.job.cluster
    assert options is not None
    threads = job.threads_each
    with cluster(options, threads) as has_cuda:
        cuda = has_cuda if job.device == "auto" else job.device == "cuda"
        config = training_config(job, trainee.positions, share, cuda=cuda, processes=options.workers)
        config = trainee.configured(attrs.evolve(config, workers=threads, device="cuda" if cuda else "cpu"))
        task = ClusterTask(
            trainee,
            config,
            _in_memory(data.read(running.folder / "encoded", "train")),
            _in_memory(data.read(running.folder / "encoded", "validation")),
            {path.name: path.read_bytes() for path in (running.folder / "tokenizer").iterdir()},
            PATIENCE,
            threads,
        )
        estimate = share == ESTIMATE_SHARE
        name = f"{job.name}-{'estimate' if estimate else 'training'}-{_stored_as(running.folder)}"
        return train_on_cluster(options, task, run_folder, name, report, running.stop, resumable=estimate)


def _stored_as(folder: Path) -> str:
    """Return an identifier of this job's working files, so that no other job goes on from its checkpoints."""
    written = folder / "stored-as"
    if not written.exists():
        written.write_text(secrets.token_hex(8), encoding="utf-8")
    return written.read_text(encoding="utf-8")


def _in_memory(corpus: EncodedCorpus) -> EncodedCorpus:
    """Return a corpus that is not mapped from a file of this machine."""
    gains = None if corpus.gains is None else np.array(corpus.gains)
    return EncodedCorpus(np.array(corpus.ids), np.array(corpus.starts), gains)


def training_config(
    job: AdaptationJob, positions: int, share: float, *, cuda: bool, processes: int = 1
) -> TrainingConfig:
    """Return the configuration of a training in a share of the job's budget.

    Each of several processes computes as many rows of a batch as one alone would.
    """
    length = min(LONGEST_ROW, positions)
    part = 16 * length if cuda else 2 * length
    batch = part * processes
    seconds = 60 * (job.minutes or 0) * share
    return TrainingConfig(
        shape=None,
        minutes=None if job.minutes is None else job.minutes * share,
        steps=None if job.steps is None else max(1, round(job.steps * share)),
        decay=1.0,
        warm_up_steps=20,
        batch_tokens=batch,
        pass_tokens=part if cuda else length,
        workers=job.threads,
        row_lengths=((0, length),),
        infill=0.1,
        mixture=1.0,
        muon_rate=0.0,
        adam_rate=2e-4 if cuda else 1e-4,
        beta2_half_life=70 * batch,
        later_weight_decay=0.02,
        log_steps=5,
        checkpoint_seconds=max(60.0, seconds / VALIDATIONS),
        validate_seconds=max(30.0, seconds / VALIDATIONS),
        validation_rows=8,
        validation_length=length,
        last_validation=1,
        device=job.device,
    )
