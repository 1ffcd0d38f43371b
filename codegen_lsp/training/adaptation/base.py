"""The model that an adaptation starts from: an installed build, or the folder of a float checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from codegen_lsp import extras
from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import read_record, work_folder
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.convert import convert_checkpoint
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.checkpoints.weights import weight_files
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import METADATA, read_info
from codegen_lsp.progress import ProgressReport
from codegen_lsp.training.adaptation.job import BASE_BUILD, AdaptationJob
from codegen_lsp.training.adaptation.trainee import AllWeights, Trainee
from codegen_lsp.training.starting_weights import trainable_model

SEEN = "checkpoint.json"
"""File beside the build of a checkpoint, with what it was made from."""


def check_name(job: AdaptationJob) -> None:
    """Raise ModelError when the new model can't have its name."""
    store.checked_name(job.name)
    if look_up(job.name) is not None or any(build.bundled and build.name == job.name for build in store.installed()):
        raise ModelError(f"{job.name} is the name of another model.", "Choose another one with --name.")


def working_folder(job: AdaptationJob) -> Path:
    """Return the folder of a job's working files, made if it is missing. Raises ModelError where that can't be."""
    store.writable_store()
    folder = work_folder(store.store_directory(), job.name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_checkpoint(base: str) -> bool:
    """Return true for the folder of a float checkpoint."""
    folder = Path(base).expanduser()
    return (folder / "config.json").is_file() and not (folder / METADATA).is_file()


def name_of(base: str) -> str:
    """Return the name of a base. Raises ModelError when there is none."""
    return Path(base).expanduser().resolve().name if is_checkpoint(base) else store.find(base).name


def base_of(job: AdaptationJob, folder: Path, report: ProgressReport) -> InstalledBuild:
    """Return the build of a job's base; that of a float checkpoint is made in `folder`, once.

    Raises ModelError where there is none, ConversionError.
    """
    if job.refresh:
        store.put_back(job.name)
        build = store.find(job.name)
        if read_record(build.path) is None:
            raise ModelError(f"{job.name} is no adapted model.", "Adapt one first, without --refresh.")
        return build
    if not is_checkpoint(job.base):
        return store.find(job.base)
    checkpoint = Path(job.base).expanduser().resolve()
    made, name = folder / BASE_BUILD, checkpoint.name
    seen = json.dumps([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in weight_files(checkpoint)])
    if not (made / SEEN).is_file() or (made / SEEN).read_text(encoding="utf-8") != seen:
        shutil.rmtree(made, ignore_errors=True)
        report("making an int8 build of the checkpoint, to compare with", 0.0)
        convert_checkpoint(checkpoint, made, name=name)
        (made / SEEN).write_text(seen, encoding="utf-8")
    return InstalledBuild(name, made, read_info(made), bundled=False)


def checkpoint_of(job: AdaptationJob, base: InstalledBuild) -> Path | None:
    """Return the folder of the float checkpoint to train adapters from; None where all weights are trained."""
    if job.checkpoint is not None:
        return job.checkpoint.expanduser().resolve()
    if job.refresh:
        record = read_record(base.path)
        return Path(record.checkpoint) if record is not None and record.checkpoint else None
    return Path(job.base).expanduser().resolve() if is_checkpoint(job.base) else None


def trainee_of(job: AdaptationJob, base: InstalledBuild) -> Trainee:
    """Return what is trained of a base. Raises ModelError when it can't be, MissingExtraError for adapters."""
    checkpoint = checkpoint_of(job, base)
    if checkpoint is None:
        return _all_weights(base)
    if not (checkpoint / "config.json").is_file():
        raise ModelError(
            f"{checkpoint} is not the folder of a float checkpoint: it has no config.json.",
            "Give the folder that the model was converted from, with --checkpoint.",
        )
    extras.require("adapters", "adapt with the float checkpoint of a larger model")
    from codegen_lsp.training.adaptation.adapters import ADAPTERS, adapters_of

    return adapters_of(checkpoint, base, job.device, base.path / ADAPTERS if job.refresh else None)


def _all_weights(base: InstalledBuild) -> AllWeights:
    if not base.info.small or base.info.infill != "suffix-first":
        raise ModelError(
            f"{base.name} can't be adapted from its int8 build: only models of less than 100 million parameters with "
            "the tokenizer of `codegen_lsp.training` can.",
            "Give the folder of its float checkpoint with --checkpoint, or use the embedded model, with "
            "--base codegen-lsp-python.",
        )
    with open_source(str(base.path), None, lambda message, share: None) as source:
        return AllWeights(trainable_model(source))
