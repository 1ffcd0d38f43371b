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

import datetime
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import frozen

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import (
    AdaptationRecord,
    Change,
    read_record,
    work_folder,
    write_record,
)
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.convert import convert_checkpoint
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import CorpusError, ModelError
from codegen_lsp.inference.engines.native.mixing_file import weights_for
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.progress import ProgressReport
from codegen_lsp.training import data, state
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation import encoding, measuring
from codegen_lsp.training.adaptation.best import BestWeights, load_best
from codegen_lsp.training.adaptation.card import adaptation_card
from codegen_lsp.training.adaptation.measuring import Costs
from codegen_lsp.training.adaptation.replay import general_sample
from codegen_lsp.training.adaptation.resources import TypingWatch, check_resources
from codegen_lsp.training.adaptation.sources import OwnSources, read_sources
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.export import export
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.starting_weights import trainable_model
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import choose_device, train

ESTIMATE_SHARE = 0.1
"""Share of the time for the estimate."""
LEAST_GAIN = 0.005
"""Relative gain, with the n-grams on, below which an adaptation is not worth its time."""
MEASURED_FILES = 40
CHARACTERS_PER_TOKEN = 3.5
GENERAL_HELD_OUT = 300_000
"""Characters of general code that are held out."""
LONGEST_ROW = 1024
PATIENCE = 3
VALIDATIONS = 8
"""Validations during a training."""

Stop = Callable[[], bool]


@frozen
class AdaptationJob:
    """One adaptation. Exactly one of `minutes` and `steps` is the budget; the latter is for tests."""

    paths: tuple[Path, ...]
    name: str
    base: str = "auto"
    minutes: float | None = None
    steps: int | None = None
    refresh: bool = False
    """Go on from the installed model of this name with the files that have changed."""
    anyway: bool = False
    """Train and install even where the estimate or the result shows no gain."""
    polite: bool = False
    threads: int = 1
    device: str = "auto"
    exclude: tuple[str, ...] = ()


@frozen
class Outcome:
    """The end of a job."""

    estimate: Change | None
    """On held-out files with n-grams, by a tenth of the time; None where the job did not get there."""
    record: AdaptationRecord | None = None
    build: InstalledBuild | None = None
    """None: nothing was installed."""
    interrupted: bool = False


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
    folder = work_folder(store.store_directory(), job.name)
    folder.mkdir(parents=True, exist_ok=True)
    with open_source(str(base.path), None, lambda message, share: None) as source:
        model = trainable_model(source)
    check_resources(model.shape, job.threads, folder)
    plan = _prepare(job, base, folder, report, say)
    before = _before(job, base, plan, folder, report)
    if (estimate := _estimate(job, base, model, plan, before, folder, report, stop)) is None:
        return Outcome(None, interrupted=True)
    say(_sentence(estimate))
    if not pays(estimate) and not job.anyway:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(estimate)
    done = _train(job, model, folder, 1 - ESTIMATE_SHARE, folder / "run", report, stop)
    if not (folder / "run" / "best.pt").exists():
        return Outcome(estimate, interrupted=True)
    return attrs.evolve(_finish(job, base, plan, before, folder, report, say), estimate=estimate, interrupted=not done)


def pays(change: Change) -> bool:
    """Return whether a change on held-out files is a gain that the interval leaves no doubt about."""
    return change.high < 0 and change.change <= -LEAST_GAIN


def default_name(paths: Sequence[Path], base: str) -> str:
    """Return the name of the model that is adapted to folders."""
    folder = paths[0].expanduser().resolve().name
    allowed = "".join(character if character.isalnum() or character in "._-" else "-" for character in folder)
    return f"{base}+{allowed.strip('.-') or 'code'}"


@frozen
class _Plan:
    """Subject of a job; a job with another plan does not go on with this one's files."""

    base: str
    base_digest: str
    paths: list[str]
    refresh: bool
    commits: dict[str, str]
    files: dict[str, str]
    held_out: list[str]
    general: list[str]
    left_out: dict[str, int]


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


def _prepare(
    job: AdaptationJob, base: InstalledBuild, folder: Path, report: ProgressReport, say: Callable[[str], None]
) -> _Plan:
    """Read and encode the files, unless an interrupted job did."""
    paths = [str(path.expanduser().resolve()) for path in job.paths]
    digest = base.info.files["model.bin"].sha256 if "model.bin" in base.info.files else ""
    written = folder / "plan.json"
    if written.exists():
        found = cattrs.structure(json.loads(written.read_text(encoding="utf-8")), _Plan)
        if (found.base_digest, found.paths, found.refresh) == (digest, paths, job.refresh):
            say("Going on with an interrupted adaptation; its files are not read again.")
            return found
    for leftover in folder.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    report("reading your files", 0.0)
    sources = read_sources(job.paths, (".py", ".pyi"), job.exclude)
    earlier = read_record(base.path) if job.refresh else None
    kept = encoding.without_duplicates(sources.files)
    training, held_out = encoding.split(kept)
    if earlier is not None:
        training = _changed_first(training, earlier)
    general = general_sample(int(sum(len(file.text) for file in training) / 2), GENERAL_HELD_OUT)
    report("counting n-grams", 0.01)
    tokenizer = code_tokenizer.load(base.path)
    code_tokenizer.save(tokenizer, folder / "tokenizer", base.info.context_length)
    encoding.encode(
        tokenizer,
        training,
        held_out,
        (general.training, general.held_out),
        weights_for(base.path, base.info, "auto") or SMALL_MODEL,
        folder / "encoded",
    )
    plan = _Plan(
        base=earlier.base if earlier else base.name,
        base_digest=digest,
        paths=paths,
        refresh=job.refresh,
        commits=sources.commits,
        files={file.key: file.digest for file in [*held_out, *training]},
        held_out=[file.key for file in held_out],
        general=general.packages,
        left_out=_left_out(sources, len(kept)),
    )
    _write_json(written, cattrs.unstructure(plan))
    return plan


def _changed_first(training: list[Any], earlier: AdaptationRecord) -> list[Any]:
    """Return the files that are new or changed since an adaptation, each twice, then the others.

    The others stay in, as rehearsal. Raises CorpusError when nothing has changed.
    """
    changed = [file for file in training if earlier.files.get(file.key) != file.digest]
    if not changed:
        raise CorpusError("No file has changed since the model was adapted.", "There is nothing to refresh.")
    return [*changed, *training]


def _left_out(sources: OwnSources, kept: int) -> dict[str, int]:
    duplicates = len(sources.files) - kept
    return sources.left_out | ({"duplicate": duplicates} if duplicates else {})


def _before(job: AdaptationJob, base: InstalledBuild, plan: _Plan, folder: Path, report: ProgressReport) -> Costs:
    written = folder / "before.npz"
    if not written.exists():
        measuring.save_costs(
            written, _costs(job, base, base.path, plan, folder, report, "measuring the model as it is", 0.02)
        )
    return measuring.load_costs(written)


def _costs(
    job: AdaptationJob,
    base: InstalledBuild,
    build: Path,
    plan: _Plan,
    folder: Path,
    report: ProgressReport,
    message: str,
    at: float,
) -> Costs:
    return measuring.measure(
        build,
        data.read(folder / "encoded", "own"),
        len(plan.held_out),
        data.read(folder / "encoded", "general"),
        files=MEASURED_FILES,
        weights=weights_for(base.path, base.info, "auto") or SMALL_MODEL,
        threads=job.threads,
        report=lambda share: report(message, at),
    )


def _estimate(
    job: AdaptationJob,
    base: InstalledBuild,
    model: TrainableCodeGen,
    plan: _Plan,
    before: Costs,
    folder: Path,
    report: ProgressReport,
    stop: Stop,
) -> Change | None:
    """Train for a tenth of the time and return the change on held-out files; None when that was interrupted."""
    written = folder / "estimate.json"
    if not written.exists():
        trial = folder / "estimate"
        if not _train(job, model, folder, ESTIMATE_SHARE, trial, report, stop):
            return None
        _build(base, plan, state.load_model(trial), folder, trial / "build", "estimate", report)
        after = _costs(job, base, trial / "build", plan, folder, report, "measuring the estimate", ESTIMATE_SHARE)
        _write_json(written, cattrs.unstructure(measuring.changes(before, after)["own files with n-grams"]))
        shutil.rmtree(trial, ignore_errors=True)
    return cattrs.structure(json.loads(written.read_text(encoding="utf-8")), Change)


def _train(
    job: AdaptationJob,
    model: TrainableCodeGen,
    folder: Path,
    share: float,
    run_folder: Path,
    report: ProgressReport,
    stop: Stop,
) -> bool:
    """Train for a share of the budget, or go on with that; return true when it is spent or the loss falls no more."""
    config = training_config(job, model, share)
    validated: list[str] = ["the first figure takes a while"]
    watch = TypingWatch() if job.polite else None
    first = 0.0 if share == ESTIMATE_SHARE else ESTIMATE_SHARE
    title = "estimate" if share == ESTIMATE_SHARE else "training"
    in_steps = config.steps is not None

    def interrupted(run: TrainingState) -> bool:
        spent = run.spent(in_steps) / config.budget
        left = "" if in_steps else f"{(config.budget - run.seconds) / 60:.1f} min left; "
        report(f"{title}: {left}{run.tokens:,} tokens; {validated[-1]}", first + share * min(spent, 1.0))
        if watch is not None:
            watch.wait(lambda: report(f"{title}: waits while somebody types", first + share * min(spent, 1.0)), stop)
        return stop()

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


def _build(
    base: InstalledBuild,
    plan: _Plan,
    model: TrainableCodeGen,
    folder: Path,
    output: Path,
    name: str,
    report: ProgressReport,
) -> None:
    """Write a verified int8 build of a model."""
    checkpoint = folder / "hf"
    export(model, folder / "tokenizer", checkpoint)
    (checkpoint / "README.md").write_text(adaptation_card(name, base.info, None), encoding="utf-8")
    report("making the int8 build", ESTIMATE_SHARE if name == "estimate" else 0.97)
    convert_checkpoint(checkpoint, output, name=name, origin=f"adapted from {plan.base}")
    shutil.rmtree(checkpoint, ignore_errors=True)


def _finish(
    job: AdaptationJob,
    base: InstalledBuild,
    plan: _Plan,
    before: Costs,
    folder: Path,
    report: ProgressReport,
    say: Callable[[str], None],
) -> Outcome:
    """Make the build of the best weights, measure it, and install it if it is better."""
    build = folder / "build"
    _build(base, plan, load_best(folder / "run"), folder, build, job.name, report)
    after = _costs(job, base, build, plan, folder, report, "measuring the result", 0.98)
    figures = measuring.changes(before, after)
    content = state.read(folder / "run" / state.COOLDOWN) or {}
    earlier = read_record(base.path) if job.refresh else None
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
    )
    if figures["own files with n-grams"].high >= 0 and not job.anyway:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(None, record)
    write_record(build, record)
    (build / "README.md").write_text(adaptation_card(job.name, base.info, record), encoding="utf-8")
    installed = store.install(build, job.name)
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(None, record, installed)


def _sentence(change: Change) -> str:
    figures = f"{change.before:.3f} to {change.after:.3f} bits per byte ({100 * change.change:+.1f} %, "
    figures += f"{100 * change.low:+.1f} to {100 * change.high:+.1f})"
    verdict = "It pays." if pays(change) else "The n-grams leave too little to gain."
    return f"Estimate, a tenth of the time, {change.files} held-out files with n-grams: {figures}. {verdict}"


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
