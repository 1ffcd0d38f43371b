"""Builds of trained weights, measured and installed."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import GENERAL, OWN, AdaptationRecord, read_record, write_record
from codegen_lsp.checkpoints.convert import convert_checkpoint
from codegen_lsp.training import data, state
from codegen_lsp.training.adaptation import measuring
from codegen_lsp.training.adaptation.best import load_best
from codegen_lsp.training.adaptation.blending import allowed_rise, smaller_share
from codegen_lsp.training.adaptation.card import adaptation_card
from codegen_lsp.training.adaptation.job import Outcome, RunningJob
from codegen_lsp.training.adaptation.measuring import Costs
from codegen_lsp.training.adaptation.plan import AdaptationPlan
from codegen_lsp.training.adaptation.trainee import Trainee

MEASURED_FILES = 40


def costs_of(running: RunningJob, build: Path, plan: AdaptationPlan, message: str, at: float) -> Costs:
    """Return what held-out files cost with a build. `message` and `at` are the progress to report."""
    base, encoded = running.base, running.folder / "encoded"
    return measuring.measure(
        build,
        data.read(encoded, "own"),
        len(plan.held_out),
        data.read(encoded, "general"),
        files=MEASURED_FILES,
        weights=measuring.served_weights(base),
        threads=running.job.threads,
        report=lambda share: running.report(f"{message}: {share:.0%}", at),
    )


def make_build(
    running: RunningJob,
    plan: AdaptationPlan,
    trainee: Trainee,
    weights: Mapping[str, Tensor],
    output: Path,
    name: str,
    at: float,
) -> None:
    """Write a verified int8 build of trained weights. `at` is the progress to report."""
    checkpoint = running.folder / "hf"
    trainee.write_checkpoint(weights, running.folder / "tokenizer", checkpoint)
    (checkpoint / "README.md").write_text(adaptation_card(name, running.base.info, None), encoding="utf-8")
    running.report("making the int8 build", at)
    convert_checkpoint(checkpoint, output, name=name, origin=f"adapted from {plan.base}")
    shutil.rmtree(checkpoint, ignore_errors=True)


def finish(running: RunningJob, plan: AdaptationPlan, trainee: Trainee, before: Costs) -> Outcome:
    """Make the build of the best weights, measure it, and install it if it is better.

    Where it has forgotten too much of general code, less of the change of its weights is kept.
    """
    job, base, folder = running.job, running.base, running.folder
    build = folder / "build"
    best = load_best(folder / "run")
    earlier = read_record(base.path) if job.refresh else None
    share: float | None = 1.0
    while share is not None:
        kept_change = share
        weights = trainee.blend(best, kept_change)
        make_build(running, plan, trainee, weights, build, job.name, 0.97)
        after = costs_of(running, build, plan, "measuring the result", 0.98)
        figures = measuring.changes(before, after)
        share = smaller_share(kept_change, figures[GENERAL].change, allowed_rise(earlier))
    content = state.read(folder / "run" / state.COOLDOWN) or {}
    record = AdaptationRecord(
        base=plan.base,
        commits=plan.commits,
        files=plan.files,
        held_out=plan.held_out,
        general=plan.general,
        tokens=int(content.get("tokens", 0)) + (earlier.tokens if earlier else 0),
        minutes=round(float(content.get("seconds", 0.0)) / 60, 1) + (earlier.minutes if earlier else 0.0),
        finished=datetime.datetime.now(datetime.UTC).date().isoformat(),
        figures=figures,
        refreshes=earlier.refreshes + 1 if earlier else 0,
        kept_change=round(kept_change, 3),
        checkpoint=trainee.float_checkpoint,
    )
    if figures[OWN].high >= 0 and not job.anyway:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(None, record)
    trainee.keep(weights, build)
    write_record(build, record)
    (build / "README.md").write_text(adaptation_card(job.name, base.info, record), encoding="utf-8")
    installed = store.install(build, job.name)
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(None, record, installed)
