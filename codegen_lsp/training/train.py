"""The training loop.

The budget is wall-clock time or steps. Time spent is part of the state, so a resumed run ends when an uninterrupted one
would. See `TrainingConfig` for the schedule and `state` for the checkpoints.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codegen_lsp.training import optimizer, schedule, state
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, RowSampler, TokenTables
from codegen_lsp.training.gradients import GradientPasses
from codegen_lsp.training.model import TrainableCodeGen, TrainableModel
from codegen_lsp.training.parallel import ALONE, Processes
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.validation import validate

LOG = "log.jsonl"
Report = Callable[[str], None]
Enough = Callable[[TrainingState, TrainableModel, Mapping[str, float]], bool]
"""Asked after a validation, with its result and the model that it is of, whether training is to end."""


def choose_device(wanted: str) -> torch.device:
    """Return the device named, or for "auto" CUDA where available and the CPU elsewhere."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def initial_state(
    config: TrainingConfig, training: EncodedCorpus, tables: TokenTables, begin: TrainableCodeGen | None = None
) -> TrainingState:
    """Return the state of a run before its first step, with new weights or those of `begin`."""
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    model = begin or TrainableCodeGen(config.shape)
    if begin is None:
        counts = np.bincount(training.ids[: 1 << 24], minlength=config.shape.vocabulary) + 1.0
        unigrams = torch.from_numpy(counts / counts.sum()).to(torch.float32)
        model.initialise(torch.Generator().manual_seed(config.seed), unigrams)
    model.to(device)
    adam_beta2 = optimizer.beta2(config.batch_tokens, config.beta2_half_life)
    optimizers = optimizer.build_optimizers(model, config.muon_rate, config.adam_rate, adam_beta2, config.weight_decay)
    return TrainingState(model, optimizers, RowSampler(training, tables, config.infill, config.seed))


def resume(config: TrainingConfig, run: TrainingState, folder: Path) -> None:
    """Set `run` to the checkpoint to continue from, if there is one.

    That is the cooldown's when it began at the plateau's checkpoint and has this configuration's length, else the
    plateau's.
    """
    plateau, cooldown = (state.read(folder / name) for name in (state.PLATEAU, state.COOLDOWN))
    unit = "step" if config.steps is not None else "seconds"
    if (
        cooldown
        and cooldown["decay_length"] == config.decay * config.budget
        and (plateau is None or cooldown["decay_start"] == plateau[unit])
    ):
        state.restore(run, cooldown, folder / state.COOLDOWN)
    elif plateau:
        state.restore(run, plateau, folder / state.PLATEAU)


def train(
    config: TrainingConfig,
    training: EncodedCorpus,
    validation: EncodedCorpus,
    tables: TokenTables,
    folder: Path,
    report: Report,
    interrupted: Callable[[TrainingState], bool] = lambda run: False,
    *,
    begin: TrainableCodeGen | None = None,
    enough: Enough = lambda run, model, loss: False,
) -> bool:
    """Train from new weights, or those of `begin`, as `train_from` says."""
    run = initial_state(config, training, tables, begin)
    return train_from(config, run, validation, folder, report, interrupted, enough=enough)


def train_from(
    config: TrainingConfig,
    run: TrainingState,
    validation: EncodedCorpus,
    folder: Path,
    report: Report,
    interrupted: Callable[[TrainingState], bool] = lambda run: False,
    *,
    enough: Enough = lambda run, model, loss: False,
    processes: Processes = ALONE,
) -> bool:
    """Train until the budget is spent, resuming from `folder`'s checkpoint; return True when it is spent.

    `run` is the state before the first step. `interrupted` is called before every step; when it returns True the call
    saves a checkpoint and returns False. The time that it takes is not part of the budget. `enough` is called with each
    validation's result and the model that it is of; when it returns True, training ends as if the budget were spent.

    With several processes all call this with equal arguments, and the first one alone reports, asks `interrupted` and
    `enough`, and writes into its folder. All must find the same checkpoint in theirs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resume(config, run, folder)
    in_steps = config.steps is not None
    if run.step:
        report(f"resuming after {run.step} steps and {run.seconds / 60:.1f} minutes")
    if run.decay_progress(in_steps) >= 1.0:
        report("the budget is spent")
        return True
    device = next(run.model.parameters()).device
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        run.model.compile_blocks()
    passes = GradientPasses(run.model, config, device, processes)
    spent_before, began = run.seconds, time.monotonic()
    saved = validated = run.seconds
    while True:
        run.seconds = spent_before + time.monotonic() - began
        asked = time.monotonic()
        wanted = processes.first and interrupted(run)
        run.seconds, stopped = processes.agreed(run.seconds, wanted)
        began += time.monotonic() - asked
        if run.decay_start is None and run.spent(in_steps) >= config.budget * (1 - config.decay):
            _save(run, folder / state.PLATEAU, processes)
            run.decay_start, run.decay_length = run.spent(in_steps), config.decay * config.budget
        progress = run.decay_progress(in_steps)
        if progress >= 1.0:
            break
        path = folder / (state.PLATEAU if run.decay_start is None else state.COOLDOWN)
        if stopped:
            _save(run, path, processes)
            return False
        loss = _step(config, run, passes, progress)
        (run.seconds,) = processes.agreed(spent_before + time.monotonic() - began)
        if run.decay_start is not None:
            passed = run.decay_progress(in_steps) - progress
            run.update_average(1 - math.exp(-passed / config.average))
        if run.step % config.log_steps == 0 and processes.first:
            _log(folder, run, kind="train", nats_per_token=loss.item(), rate=run.optimizers[0].param_groups[0]["lr"])
        if run.seconds - validated >= config.validate_seconds:
            validated = run.seconds
            ended = processes.first and enough(
                run, run.model, _log_validation(config, run, run.model, validation, folder, report)
            )
            if any(processes.agreed(ended)):
                break
        if run.seconds - saved >= config.checkpoint_seconds:
            saved = run.seconds
            _save(run, path, processes)
    _save(run, folder / state.COOLDOWN, processes)
    if processes.first:
        enough(run, run.model, _log_validation(config, run, run.model, validation, folder, report, last=True))
        run.use_average()
        found = _log_validation(config, run, run.model, validation, folder, report, last=True, weights="averaged")
        enough(run, run.model, found)
    return True


def _save(run: TrainingState, path: Path, processes: Processes) -> None:
    if processes.first:
        state.save(run, path)
    processes.saved()


def _step(config: TrainingConfig, run: TrainingState, passes: GradientPasses, decay_progress: float) -> torch.Tensor:
    """Make one optimiser step and return the mean loss in nats per token."""
    if isinstance(run.model, TrainableCodeGen) and run.model.tied and run.tokens >= config.untie_tokens:
        optimizer.untie(run.model, run.optimizers[-1])
    factor = schedule.learning_rate_factor(run.step, config.warm_up_steps, decay_progress)
    optimizer.set_learning_rates(run.optimizers, factor)
    optimizer.set_weight_decay(run.optimizers, schedule.weight_decay(config, run.sampler.position.epoch))
    length = schedule.row_length(run.tokens, config.row_lengths)
    batch = run.sampler.batch(config.batch_tokens // length, length)
    loss = passes(batch, schedule.trains_mixture(config, decay_progress))
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
    for each in run.optimizers:
        each.step()
        each.zero_grad(set_to_none=True)
    run.step += 1
    run.tokens += batch.inputs.size
    return loss


def _log_validation(
    config: TrainingConfig,
    run: TrainingState,
    model: TrainableModel,
    validation: EncodedCorpus,
    folder: Path,
    report: Report,
    *,
    last: bool = False,
    **values: Any,
) -> dict[str, float]:
    rows = config.validation_rows * (config.last_validation if last else 1)
    plain = validate(model, validation, run.sampler.tables, config, 0.0, rows)
    infilling = ""
    if run.sampler.tables.infills:
        filled = validate(model, validation, run.sampler.tables, config, 1.0, rows)["nats_per_token"]
        values |= {"infill_nats_per_token": filled}
        infilling = f"; infilling {filled:.3f}"
    _log(folder, run, kind="validation", rows=rows, **plain, **values)
    report(
        f"{run.seconds / 60:.1f} min, {run.tokens / 1e6:.2f}M tokens: {plain['nats_per_token']:.3f} nats per token, "
        f"{plain['bits_per_byte']:.4f} bits per byte{infilling}"
    )
    return plain


def _log(folder: Path, run: TrainingState, **values: Any) -> None:
    entry = {"step": run.step, "tokens": run.tokens, "seconds": round(run.seconds, 1)} | values
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()}) + "\n")
