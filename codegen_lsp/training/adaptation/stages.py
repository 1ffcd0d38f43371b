"""The stages of an adaptation, each with its result in the job's folder, so that an interrupted job goes on.

    plan.json            the base, the folders, and the files that were read, by digest
    encoded/, tokenizer/ token ids and n-gram gains
    before.npz           what held-out files cost with the base
    estimate/            a training in a tenth of the time, and its figures
    run/                 checkpoints of the training, and its best weights
    build/               the int8 build, until it is installed

The folder lies in the store and is deleted once the model is installed: its record (`checkpoints.adaptation_record`)
names files by path and digest only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import attrs
import cattrs

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import OWN, Change, read_record
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ModelError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.training import state
from codegen_lsp.training.adaptation import measuring
from codegen_lsp.training.adaptation.building import costs_of, finish, make_build
from codegen_lsp.training.adaptation.job import AdaptationJob, Outcome, RunningJob, Stop, pays
from codegen_lsp.training.adaptation.measuring import Costs
from codegen_lsp.training.adaptation.plan import AdaptationPlan, prepare, write_json
from codegen_lsp.training.adaptation.resources import check_resources
from codegen_lsp.training.adaptation.training_run import ESTIMATE_SHARE, train_for_share
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.starting_weights import trainable_model


def adapt(job: AdaptationJob, report: ProgressReport, say: Callable[[str], None], stop: Stop) -> Outcome:
    """Run a job, or go on with it. `say` gets lines that stay on the screen, `report` the progress.

    When `stop` returns true, training ends, and the best weights so far are installed.

    Raises CorpusError when there is too little code or memory or disk, ModelError when the base can't be trained or the
    store can't be written to, ConversionError.
    """
    base = _base(job)
    if not base.info.small or base.info.infill != "suffix-first":
        raise ModelError(
            f"{base.name} can't be adapted: only models of less than 100 million parameters with the tokenizer of "
            "`codegen_lsp.training` can.",
            "Use the embedded one, with --base codegen-lsp-python.",
        )
    store.writable_store()
    running = RunningJob(job, base, report, say, stop)
    folder = running.folder
    folder.mkdir(parents=True, exist_ok=True)
    with open_source(str(base.path), None, lambda message, share: None) as source:
        model = trainable_model(source)
    check_resources(model.shape, job.threads, folder)
    plan = prepare(running)
    before = _before(running, plan)
    if (estimate := _estimate(running, model, plan, before)) is None:
        return Outcome(None, interrupted=True)
    say(_sentence(estimate))
    if not pays(estimate) and not job.anyway:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(estimate)
    done = train_for_share(running, model, 1 - ESTIMATE_SHARE, folder / "run")
    if not (folder / "run" / "best.pt").exists():
        return Outcome(estimate, interrupted=True)
    return attrs.evolve(finish(running, plan, model, before), estimate=estimate, interrupted=not done)


def _base(job: AdaptationJob) -> InstalledBuild:
    store.checked_name(job.name)
    if look_up(job.name) is not None or any(build.bundled and build.name == job.name for build in store.installed()):
        raise ModelError(f"{job.name} is the name of another model.", "Choose another one with --name.")
    if not job.refresh:
        return store.find(job.base)
    build = store.find(job.name)
    if read_record(build.path) is None:
        raise ModelError(f"{job.name} is no adapted model.", "Adapt one first, without --refresh.")
    return build


def _before(running: RunningJob, plan: AdaptationPlan) -> Costs:
    """Return what held-out files cost with the base."""
    written = running.folder / "before.npz"
    if not written.exists():
        measuring.save_costs(written, costs_of(running, running.base.path, plan, "measuring the model as it is", 0.02))
    return measuring.load_costs(written)


def _estimate(running: RunningJob, model: TrainableCodeGen, plan: AdaptationPlan, before: Costs) -> Change | None:
    """Train for a tenth of the time and return the change on held-out files; None when that was interrupted."""
    written = running.folder / "estimate.json"
    if not written.exists():
        trial = running.folder / "estimate"
        if not train_for_share(running, model, ESTIMATE_SHARE, trial):
            return None
        make_build(running, plan, state.load_model(trial), trial / "build", "estimate", ESTIMATE_SHARE)
        after = costs_of(running, trial / "build", plan, "measuring the estimate", ESTIMATE_SHARE)
        write_json(written, cattrs.unstructure(measuring.changes(before, after)[OWN]))
        shutil.rmtree(trial, ignore_errors=True)
    return cattrs.structure(json.loads(written.read_text(encoding="utf-8")), Change)


def _sentence(change: Change) -> str:
    figures = f"{change.before:.3f} to {change.after:.3f} bits per byte ({100 * change.change:+.1f} %, "
    figures += f"{100 * change.low:+.1f} to {100 * change.high:+.1f})"
    verdict = "It pays." if pays(change) else "The n-grams leave too little to gain."
    return f"Estimate, a tenth of the time, {change.files} held-out files with n-grams: {figures}. {verdict}"
