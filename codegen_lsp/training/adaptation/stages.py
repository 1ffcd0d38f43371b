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
from collections.abc import Callable, Sequence

import attrs
import cattrs

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import OWN, Change, claimed, read_record
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ConversionError, CorpusError, ModelError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.training import state
from codegen_lsp.training.adaptation import measuring
from codegen_lsp.training.adaptation.building import costs_of, finish, make_build
from codegen_lsp.training.adaptation.encoding import GENERAL_SHARE
from codegen_lsp.training.adaptation.job import AdaptationJob, Outcome, RunningJob, Stop, pays
from codegen_lsp.training.adaptation.measuring import Costs
from codegen_lsp.training.adaptation.plan import AdaptationPlan, prepare, write_json
from codegen_lsp.training.adaptation.prediction import Prediction, tokens_per_second
from codegen_lsp.training.adaptation.resources import check_resources
from codegen_lsp.training.adaptation.sources import OwnFile
from codegen_lsp.training.adaptation.training_run import ESTIMATE_SHARE, train_for_share, training_config
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.starting_weights import trainable_model

CHARACTERS_PER_TOKEN = 3.5
"""Of Python code, with the tokenizer of the embedded model."""


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
    try:
        with claimed(running.folder):
            return _run(running)
    except OSError as error:
        raise _not_written(running, error) from error
    except ConversionError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise _not_written(running, error.__cause__) from error
    except RuntimeError as error:
        if not _torch_could_not_write(error):
            raise
        raise _not_written(running, error) from error


def _run(running: RunningJob) -> Outcome:
    job, base, folder = running.job, running.base, running.folder
    running.report("reading the model", 0.0)
    with open_source(str(base.path), None, lambda message, share: None) as source:
        model = trainable_model(source)
    check_resources(model.shape, job.threads, folder)
    plan = prepare(running, lambda files: _predict(running, model, files))
    before = _before(running, plan)
    if (estimate := _estimate(running, model, plan, before)) is None:
        return Outcome(None, interrupted=True)
    running.say(_sentence(estimate))
    if not pays(estimate) and not job.anyway:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(estimate)
    done = train_for_share(running, model, 1 - ESTIMATE_SHARE, folder / "run")
    if not (folder / "run" / "best.pt").exists():
        return Outcome(estimate, interrupted=True)
    return attrs.evolve(finish(running, plan, model, before), estimate=estimate, interrupted=not done)


def _predict(running: RunningJob, model: TrainableCodeGen, files: Sequence[OwnFile]) -> None:
    """Say how much of the code can be read in the minutes. Raises CorpusError when that is too little to be of use."""
    job = running.job
    if job.minutes is None:
        return
    running.report("measuring the speed of training", 0.01)
    speed = tokens_per_second(model, training_config(job, model, 1.0))
    characters = sum(len(file.text) for file in files)
    tokens = int(characters / CHARACTERS_PER_TOKEN / (1 - GENERAL_SHARE))
    prediction = Prediction(len(files), tokens, speed, job.minutes)
    running.say(prediction.sentence)
    if prediction.too_little and not job.anyway:
        raise CorpusError(
            f"{job.minutes:g} minutes are too few to gain anything from so much code on this machine as it is now.",
            f"Give --minutes {prediction.enough_minutes}, when the machine has nothing else to do, or fewer folders. "
            "--anyway tries it all the same.",
        )


def _not_written(running: RunningJob, error: Exception) -> ModelError:
    """Return the error to raise for one of writing or reading files."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
    name = getattr(error, "filename", None) or running.folder
    return ModelError(
        f"The adaptation could not go on, because of a file of it ({name}): {reason}.",
        f"Free space in {store.store_directory()} or correct its permissions. What was done is kept: the same command "
        f"goes on from there, and `codegen-lsp models remove {running.job.name}` deletes it.",
    )


def _torch_could_not_write(error: RuntimeError) -> bool:
    """Return true for the errors by which `torch.save` says that a file can't be written."""
    return any(words in str(error) for words in ("PytorchStreamWriter", "unexpected pos", "iostream error"))


def _base(job: AdaptationJob) -> InstalledBuild:
    store.checked_name(job.name)
    if look_up(job.name) is not None or any(build.bundled and build.name == job.name for build in store.installed()):
        raise ModelError(f"{job.name} is the name of another model.", "Choose another one with --name.")
    if not job.refresh:
        return store.find(job.base)
    store.put_back(job.name)
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
