"""A training in a share of an adaptation's budget."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.training import data
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation.best import BestWeights
from codegen_lsp.training.adaptation.job import AdaptationJob, RunningJob
from codegen_lsp.training.adaptation.resources import TypingWatch
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import choose_device, train

ESTIMATE_SHARE = 0.1
"""Share of the time for the estimate."""
LONGEST_ROW = 1024
PATIENCE = 3
VALIDATIONS = 8
"""Validations during a training."""


def train_for_share(running: RunningJob, model: TrainableCodeGen, share: float, run_folder: Path) -> bool:
    """Train for a share of the budget, or go on with that; return true when it is spent or the loss falls no more."""
    job, folder, report = running.job, running.folder, running.report
    config = training_config(job, model, share)
    validated: list[str] = ["the first figure takes a while"]
    watch = TypingWatch() if job.polite else None
    first = 0.0 if share == ESTIMATE_SHARE else ESTIMATE_SHARE
    title = "estimate" if share == ESTIMATE_SHARE else "training"
    in_steps = config.steps is not None

    def interrupted(run: TrainingState) -> bool:
        spent = run.spent(in_steps) / config.budget
        left = "" if in_steps else f"{(config.budget - run.seconds) / 60:.1f} min left; "
        at = first + share * min(spent, 1.0)
        report(f"{title}: {left}{run.tokens:,} tokens; {validated[-1]}", at)
        if watch is not None:
            watch.wait(lambda: report(f"{title}: waits while somebody types", at), running.stop)
        return running.stop()

    run_folder.mkdir(parents=True, exist_ok=True)
    best = BestWeights(run_folder, PATIENCE)
    copy = TrainableCodeGen(model.shape)
    copy.load_state_dict(model.state_dict())
    return train(
        config,
        data.read(folder / "encoded", "train"),
        data.read(folder / "encoded", "validation"),
        data.TokenTables.of(code_tokenizer.load(folder / "tokenizer")),
        run_folder,
        validated.append,
        interrupted,
        begin=copy,
        enough=best.enough,
    )


def training_config(job: AdaptationJob, model: TrainableCodeGen, share: float) -> TrainingConfig:
    """Return the configuration of a training in a share of the job's budget."""
    length = min(LONGEST_ROW, model.shape.positions)
    cuda = choose_device(job.device).type == "cuda"
    batch = 16 * length if cuda else 2 * length
    seconds = 60 * (job.minutes or 0) * share
    return TrainingConfig(
        model.shape,
        minutes=None if job.minutes is None else job.minutes * share,
        steps=None if job.steps is None else max(1, round(job.steps * share)),
        decay=1.0,
        warm_up_steps=20,
        batch_tokens=batch,
        pass_tokens=batch if cuda else length,
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
