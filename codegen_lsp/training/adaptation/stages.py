"""The stages of an adaptation, each with its result in the job's folder, so that an interrupted job goes on.

    base/                the int8 build of a base that is a float checkpoint
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
from pathlib import Path

import attrs
import cattrs

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import OWN, Change, claimed
from codegen_lsp.errors import CodegenError, ConversionError, CorpusError, ModelError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.training import state
from codegen_lsp.training.adaptation import measuring
from codegen_lsp.training.adaptation.base import base_of, check_name, trainee_of, working_folder
from codegen_lsp.training.adaptation.building import costs_of, finish, make_build
from codegen_lsp.training.adaptation.encoding import GENERAL_SHARE
from codegen_lsp.training.adaptation.job import BASE_BUILD, AdaptationJob, Outcome, RunningJob, Stop, pays
from codegen_lsp.training.adaptation.measuring import Costs
from codegen_lsp.training.adaptation.plan import AdaptationPlan, prepare, write_json
from codegen_lsp.training.adaptation.prediction import Prediction, tokens_per_second
from codegen_lsp.training.adaptation.sources import OwnFile
from codegen_lsp.training.adaptation.trainee import AllWeights, Trainee
from codegen_lsp.training.adaptation.training_run import ESTIMATE_SHARE, train_for_share, training_config
from codegen_lsp.training.train import choose_device

CHARACTERS_PER_TOKEN = 3.5
"""Of Python code, with the tokenizer of the embedded model."""


def adapt(job: AdaptationJob, report: ProgressReport, say: Callable[[str], None], stop: Stop) -> Outcome:
    """Run a job, or go on with it. `say` gets lines that stay on the screen, `report` the progress.

    When `stop` returns true, training ends, and the best weights so far are installed.

    Raises CorpusError when there is too little code or memory or disk, ModelError when the base can't be trained or the
    store can't be written to, ConversionError, MissingExtraError, ClusterError.
    """
    check_name(job)
    folder = working_folder(job)
    try:
        with claimed(folder):
            running, trainee = _opened(job, folder, report, say, stop)
            return _run(running, trainee)
    except OSError as error:
        raise _not_written(job, folder, error) from error
    except ConversionError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise _not_written(job, folder, error.__cause__) from error
    except RuntimeError as error:
        if not _torch_could_not_write(error):
            raise
        raise _not_written(job, folder, error) from error


def _opened(
    job: AdaptationJob, folder: Path, report: ProgressReport, say: Callable[[str], None], stop: Stop
) -> tuple[RunningJob, Trainee]:
    """Return the job with its base, and what is trained of it. Nothing new stays in `folder` if that is refused."""
    begun = (folder / BASE_BUILD).exists()
    if job.cluster is not None and not job.cluster.local:
        from codegen_lsp.training.adaptation.ray_training import cluster

        report("looking for the cluster", 0.0)
        with cluster(job.cluster, job.threads_each):
            pass
    try:
        base = base_of(job, folder, report)
        report("reading the model", 0.0)
        trainee = trainee_of(job, base)
        trainee.check_resources(job, folder)
        trainee.check_base(base)
    except CodegenError:
        if not begun:
            shutil.rmtree(folder / BASE_BUILD, ignore_errors=True)
        raise
    return RunningJob(job, base, report, say, stop), trainee


def _run(running: RunningJob, trainee: Trainee) -> Outcome:
    job, folder = running.job, running.folder
    plan = prepare(running, lambda files: _predict(running, trainee, files))
    before = _before(running, plan)
    if (estimate := _estimate(running, trainee, plan, before)) is None:
        return Outcome(None, interrupted=True)
    running.say(_sentence(estimate, job.refresh))
    # A tenth of a refresh is too short to show a gain; whether it is installed is decided at its end.
    if not (pays(estimate) or job.refresh or job.anyway):
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(estimate)
    done = train_for_share(running, trainee, 1 - ESTIMATE_SHARE, folder / "run")
    if not (folder / "run" / "best.pt").exists():
        return Outcome(estimate, interrupted=True)
    return attrs.evolve(finish(running, plan, trainee, before), estimate=estimate, interrupted=not done)


def _predict(running: RunningJob, trainee: Trainee, files: Sequence[OwnFile]) -> None:
    """Say how much of the code can be read in the minutes. Raises CorpusError when that is too little to be of use.

    Nothing is said of adapters, for which too little was measured, and of a cluster, whose speed is not this machine's.
    """
    job = running.job
    if job.minutes is None or job.cluster is not None or not isinstance(trainee, AllWeights):
        return
    running.report("measuring the speed of training", 0.01)
    cuda = choose_device(job.device).type == "cuda"
    config = trainee.configured(training_config(job, trainee.positions, 1.0, cuda=cuda))
    speed = tokens_per_second(trainee.model, config)
    characters = sum(len(file.text) for file in files)
    tokens = int(characters / CHARACTERS_PER_TOKEN / (1 - GENERAL_SHARE))
    prediction = Prediction(len(files), tokens, speed, job.minutes)
    running.say(prediction.sentence)
    if prediction.too_little and not (job.refresh or job.anyway):
        raise CorpusError(
            f"{job.minutes:g} minutes are too few to gain anything from so much code on this machine as it is now.",
            f"Give --minutes {prediction.enough_minutes}, when the machine has nothing else to do, or fewer folders. "
            "--anyway tries it all the same.",
        )


def _not_written(job: AdaptationJob, folder: Path, error: Exception) -> ModelError:
    """Return the error to raise for one of writing or reading files."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
    name = getattr(error, "filename", None) or folder
    return ModelError(
        f"The adaptation could not go on, because of a file of it ({name}): {reason}.",
        f"Free space in {store.store_directory()} or correct its permissions. What was done is kept: the same command "
        f"goes on from there, and `codegen-lsp models remove {job.name}` deletes it.",
    )


def _torch_could_not_write(error: RuntimeError) -> bool:
    """Return true for the errors by which `torch.save` says that a file can't be written."""
    return any(words in str(error) for words in ("PytorchStreamWriter", "unexpected pos", "iostream error"))


def _before(running: RunningJob, plan: AdaptationPlan) -> Costs:
    """Return what held-out files cost with the base."""
    written = running.folder / "before.npz"
    if not written.exists():
        measuring.save_costs(written, costs_of(running, running.base.path, plan, "measuring the model as it is", 0.02))
    return measuring.load_costs(written)


def _estimate(running: RunningJob, trainee: Trainee, plan: AdaptationPlan, before: Costs) -> Change | None:
    """Train for a tenth of the time and return the change on held-out files; None when that was interrupted."""
    written = running.folder / "estimate.json"
    if not written.exists():
        trial = running.folder / "estimate"
        if not train_for_share(running, trainee, ESTIMATE_SHARE, trial):
            return None
        weights = state.load_weights(trial)
        make_build(running, plan, trainee, weights, trial / "build", "estimate", ESTIMATE_SHARE)
        after = costs_of(running, trial / "build", plan, "measuring the estimate", ESTIMATE_SHARE)
        write_json(written, cattrs.unstructure(measuring.changes(before, after)[OWN]))
        shutil.rmtree(trial, ignore_errors=True)
    return cattrs.structure(json.loads(written.read_text(encoding="utf-8")), Change)


def _sentence(change: Change, refresh: bool) -> str:
    figures = f"{change.before:.3f} to {change.after:.3f} bits per byte ({100 * change.change:+.1f} %, "
    figures += f"{100 * change.low:+.1f} to {100 * change.high:+.1f})"
    found = f"Estimate, a tenth of the time, {change.files} held-out files with n-grams: {figures}."
    if refresh:
        return found
    return f"{found} {'It pays.' if pays(change) else 'The n-grams leave too little to gain.'}"
