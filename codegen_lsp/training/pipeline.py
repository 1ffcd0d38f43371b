"""The stages from package names to a served model, each with a folder for its result.

    corpus/     clean source of packages and standard library, with a manifest
    tokenizer/  tokenizer.json and what belongs to it
    encoded/    the corpus as token ids, with n-gram gains if the preset trains on the mixture
    run/        checkpoints and log of the training
    hf/         the model as a Hugging Face folder
    build/      the int8 CTranslate2 build
    evaluation/ results of `codegen-lsp eval` on the build, for the model card

A stage whose result is complete is skipped; delete its folder to repeat it. Training continues from its last
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import corpus, data, evaluate, packages, tokenizer
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.export import export
from codegen_lsp.training.model import ModelShape
from codegen_lsp.training.model_card import model_card
from codegen_lsp.training.ngram_gains import write_gains
from codegen_lsp.training.state import load_model
from codegen_lsp.training.train import LOG, choose_device, train

Report = Callable[[str], None]

STAGES = ("fetch", "corpus", "tokenizer", "encode", "train", "export", "convert", "evaluate")


@attrs.frozen
class Preset:
    """A size of model with the settings of its training, evaluation and tokenizer. `config` lacks the job's budget."""

    name: str
    config: TrainingConfig
    tokenizer_megabytes: float = 40.0
    cases: int = 100
    """Places of each kind in the line evaluation."""
    files: int = 50
    """Files whose bits per byte are measured."""
    library_packages: tuple[str, ...] = ()
    """Packages of the standard library to train on alone, each as a package of its own; nothing is downloaded."""


PRESETS = {
    "tiny": Preset(
        "tiny",
        TrainingConfig(
            ModelShape(vocabulary=512, width=64, layers=2, heads=4, rotary=16, positions=256),
            steps=1,
            warm_up_steps=2,
            batch_tokens=1024,
            pass_tokens=256,
            row_lengths=((0, 64), (4096, 128)),
            untie_tokens=8192,
            validation_rows=4,
            validation_length=128,
        ),
        tokenizer_megabytes=1.0,
        cases=2,
        files=1,
        library_packages=("asyncio", "collections", "email", "http", "importlib", "json", "logging", "urllib"),
    ),
    "small": Preset(
        "small",
        TrainingConfig(
            ModelShape(width=384, layers=6, heads=8, rotary=32),
            steps=1,
            row_lengths=((0, 256), (3e7, 512), (6e7, 1024)),
            untie_tokens=7e7,
        ),
    ),
    "gpu": Preset(
        "gpu",
        TrainingConfig(
            ModelShape(width=512, layers=6, heads=8, rotary=32),
            steps=1,
            warm_up_steps=200,
            batch_tokens=32768,
            pass_tokens=32768,
            row_lengths=((0, 512), (3e8, 1024), (1.2e9, 2048)),
            untie_tokens=1.2e9,
            mixture=0.1,
            muon_rate=0.01,
            adam_rate=0.0015,
            later_weight_decay=0.04,
            log_steps=50,
            checkpoint_seconds=180,
            validate_seconds=120,
            validation_rows=256,
        ),
    ),
}
"""`tiny` for tests; `small` (17 million parameters) for two cores; `gpu` (27 million) for one large GPU."""


@attrs.frozen
class Job:
    """One model to make in `folder`, from the packages of `listing` or packages.txt.

    Exactly one of `minutes` and `steps` is the training's budget.
    """

    folder: Path
    preset: Preset
    minutes: float | None = None
    steps: int | None = None
    decay: float | None = None
    """Share of the budget for the learning rate's decay, instead of the preset's."""
    device: str = "auto"
    threads: int = 1
    wheels: Path | None = None
    listing: Path | None = None
    seed: int = 0
    name: str = "codegen-lsp-python"
    data: Path | None = None
    """Folder with HumanEval's files, for the evaluation."""


def run(job: Job, report: Report, last: str = STAGES[-1], stop: Callable[[], bool] = lambda: False) -> bool:
    """Run all stages up to and including `last`; return True when all are complete.

    `stop` is called before every training step. When it returns True, training ends with a checkpoint, from which the
    same call continues. Raises CorpusError when a package cannot be downloaded or no text is left, and ConversionError.
    """
    for stage in STAGES[: STAGES.index(last) + 1]:
        report(f"== {stage}")
        if stage == "train":
            if not _train(job, report, stop):
                report("interrupted; the same command goes on from here")
                return False
        else:
            _DO[stage](job, report)
    return True


def _wheels(job: Job) -> Path:
    return job.wheels or job.folder / "wheels"


def _fetch(job: Job, report: Report) -> None:
    if not job.preset.library_packages and not (job.folder / "corpus" / "manifest.json").exists():
        packages.fetch(packages.wanted_packages(job.listing), _wheels(job), report)


def _corpus(job: Job, report: Report) -> None:
    folder = job.folder / "corpus"
    if (folder / "manifest.json").exists():
        return
    if job.preset.library_packages:
        corpus.gather(
            [packages.library_package(name) for name in job.preset.library_packages], folder, report, workers=1
        )
        return
    wanted = set(map(packages.requirement_key, packages.wanted_packages(job.listing)))
    sources = [packages.standard_library()]
    for path in sorted(_wheels(job).glob("*.whl")):
        if packages.wheel_key(path) not in wanted:
            continue
        source = packages.wheel_source(path)
        if source is None:
            report(f"left out for its licence: {path.name}")
            continue
        sources.append(source)
    corpus.gather(sources, folder, report)


def texts(path: Path, megabytes: float) -> Iterator[str]:
    """Yield the texts of a .jsonl of files until `megabytes` million characters are reached."""
    room = megabytes * 1e6
    for document in corpus.documents(path):
        if room <= 0:
            return
        room -= len(document.text)
        yield document.text


def _tokenizer(job: Job, report: Report) -> None:
    folder = job.folder / "tokenizer"
    if (folder / "special_tokens_map.json").exists():
        return
    sample = texts(job.folder / "corpus" / "train.jsonl", job.preset.tokenizer_megabytes)
    learned = tokenizer.train(sample, job.preset.config.shape.vocabulary)
    if learned.get_vocab_size() > job.preset.config.shape.vocabulary:
        raise CorpusError(f"The tokenizer has {learned.get_vocab_size()} entries.", "Choose a larger vocabulary.")
    tokenizer.save(learned, folder, job.preset.config.shape.positions)
    held_out = texts(job.folder / "corpus" / "validation.jsonl", 1.0)
    report(f"{tokenizer.characters_per_token(tokenizer.load(folder), held_out):.2f} characters per token, held out")


def _encode(job: Job, report: Report) -> None:
    folder = job.folder / "encoded"
    learned = tokenizer.load(job.folder / "tokenizer")
    for name in ("train", "validation"):
        if (folder / f"{name}.starts.npy").exists():
            continue
        whole = (d.text for d in corpus.documents(job.folder / "corpus" / f"{name}.jsonl"))
        encoded = data.encode(learned, whole, folder, name)
        report(f"{name}: {encoded.documents} files, {len(encoded.ids) / 1e6:.1f}M tokens")
    if job.preset.config.mixture and not (folder / "train.gains.npy").exists():
        report("computing n-gram gains")
        write_gains(data.read(folder, "train"), folder, "train", job.threads)


def training_config(job: Job) -> TrainingConfig:
    """Return the preset's configuration with the job's budget, device, number of threads and seed."""
    return attrs.evolve(
        job.preset.config,
        minutes=job.minutes,
        steps=job.steps,
        decay=job.preset.config.decay if job.decay is None else job.decay,
        device=job.device,
        workers=job.threads,
        seed=job.seed,
    )


def _train(job: Job, report: Report, stop: Callable[[], bool]) -> bool:
    folder = job.folder / "run"
    config = training_config(job)
    report(f"training on {choose_device(job.device)}")
    training, validation = (data.read(job.folder / "encoded", name) for name in ("train", "validation"))
    tables = data.TokenTables.of(tokenizer.load(job.folder / "tokenizer"))
    return train(config, training, validation, tables, folder, report, lambda _: stop())


def _export(job: Job, report: Report) -> None:
    model = load_model(job.folder / "run")
    difference = export(model, job.folder / "tokenizer", job.folder / "hf")
    (job.folder / "hf" / "README.md").write_text(_card(job, measured=""), encoding="utf-8")
    report(f"logits of CodeGenForCausalLM differ by at most {difference:.1e} of their spread")


def _convert(job: Job, report: Report) -> None:
    from codegen_lsp.checkpoints.convert import convert_checkpoint

    convert_checkpoint(job.folder / "hf", job.folder / "build", name=job.name)
    size = sum(file.stat().st_size for file in (job.folder / "build").rglob("*") if file.is_file())
    report(f"{job.folder / 'build'}: {size / 1e6:.1f} MB")


def _evaluate(job: Job, report: Report) -> None:
    wanted = evaluate.evaluations(job.folder, job.data, job.preset.cases, job.preset.files)
    evaluate.run_evaluations(job.folder, wanted, report)
    card = _card(job, measured=evaluate.markdown(job.folder, wanted))
    for form in ("hf", "build"):
        (job.folder / form / "README.md").write_text(card, encoding="utf-8")


def _card(job: Job, *, measured: str) -> str:
    """Return the model card with the build's results and the text of `notes.md`."""
    manifest = json.loads((job.folder / "corpus" / "manifest.json").read_text(encoding="utf-8"))
    notes = job.folder / "notes.md"
    return model_card(
        job.name,
        training_config(job),
        manifest,
        training_log(job.folder),
        command_line(job),
        measured=measured,
        notes=notes.read_text(encoding="utf-8").strip() + "\n\n" if notes.exists() else "",
    )


def command_line(job: Job) -> str:
    """Return the command that repeats a job."""
    budget = f"--minutes {job.minutes:g}" if job.minutes is not None else f"--steps {job.steps}"
    return f"python -m codegen_lsp.training --out DIR {budget} --preset {job.preset.name}"


def training_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log, oldest first."""
    return [json.loads(line) for line in (folder / "run" / LOG).read_text(encoding="utf-8").splitlines()]


_DO: dict[str, Callable[[Job, Report], None]] = {
    "fetch": _fetch,
    "corpus": _corpus,
    "tokenizer": _tokenizer,
    "encode": _encode,
    "export": _export,
    "convert": _convert,
    "evaluate": _evaluate,
}
