"""The first stage of an adaptation: its files are read, encoded, and listed in `plan.json`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cattrs
from attrs import frozen

from codegen_lsp.checkpoints.adaptation_record import LOCK, AdaptationRecord, read_record
from codegen_lsp.errors import CorpusError
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation import encoding, measuring
from codegen_lsp.training.adaptation.job import BASE_BUILD, RunningJob
from codegen_lsp.training.adaptation.replay import general_sample
from codegen_lsp.training.adaptation.sources import OwnFile, OwnSources, read_sources

GENERAL_HELD_OUT = 300_000
"""Characters of general code that are held out."""

Predict = Callable[[Sequence[OwnFile]], None]
"""Gets the files to train on. Raises: CorpusError when that is not worth the time."""


@frozen
class AdaptationPlan:
    """Subject of a job; a job with another plan does not go on with this one's files."""

    base: str
    base_digest: str
    paths: list[str]
    exclude: list[str]
    refresh: bool
    commits: dict[str, str]
    files: dict[str, str]
    held_out: list[str]
    general: list[str]
    left_out: dict[str, int]


def prepare(running: RunningJob, predict: Predict) -> AdaptationPlan:
    """Read and encode the files, unless an interrupted job did.

    `predict` is called with the files to train on before they are encoded, which takes a while. Raises CorpusError when
    there is too little code, and keeps nothing of it then.
    """
    job, base, folder = running.job, running.base, running.folder
    paths = [str(path.expanduser().resolve()) for path in job.paths]
    digest = base.info.files["model.bin"].sha256 if "model.bin" in base.info.files else ""
    written = folder / "plan.json"
    if written.exists():
        found = _read_plan(written)
        wanted = (digest, paths, list(job.exclude), job.refresh)
        if found is not None and (found.base_digest, found.paths, found.exclude, found.refresh) == wanted:
            running.say(
                "Going on with an interrupted adaptation; its files are not read again. "
                f"To begin anew: `codegen-lsp models remove {job.name}`."
            )
            return found
    discard_working_files(folder, spare=BASE_BUILD)
    try:
        return _prepare_anew(running, predict, paths, digest)
    except CorpusError:
        discard_working_files(folder)
        raise


def _prepare_anew(running: RunningJob, predict: Predict, paths: list[str], digest: str) -> AdaptationPlan:
    job, base, folder = running.job, running.base, running.folder
    running.report("listing your files", 0.0)
    sources = read_sources(
        job.paths,
        (".py", ".pyi"),
        job.exclude,
        report=lambda done, total: running.report(f"reading your files: {done:,} of {total:,}", 0.0),
    )
    earlier = read_record(base.path) if job.refresh else None
    kept = encoding.without_duplicates(sources.files)
    training, held_out = encoding.split(kept)
    if earlier is not None:
        training = _changed_first(training, earlier)
    predict(training)
    running.report("reading general code", 0.01)
    general = general_sample(int(sum(len(file.text) for file in training) / 2), GENERAL_HELD_OUT)
    running.report("counting n-grams", 0.01)
    tokenizer = code_tokenizer.load(base.path)
    code_tokenizer.save(tokenizer, folder / "tokenizer", base.info.context_length)
    encoding.encode(
        tokenizer,
        training,
        held_out,
        (general.training, general.held_out),
        measuring.served_weights(base),
        folder / "encoded",
    )
    plan = AdaptationPlan(
        base=earlier.base if earlier else base.name,
        base_digest=digest,
        paths=paths,
        exclude=list(job.exclude),
        refresh=job.refresh,
        commits=sources.commits,
        files={file.key: file.digest for file in [*held_out, *training]},
        held_out=[file.key for file in held_out],
        general=general.packages,
        left_out=_left_out(sources, len(kept)),
    )
    write_json(folder / "plan.json", cattrs.unstructure(plan))
    return plan


def discard_working_files(folder: Path, spare: str | None = None) -> None:
    """Delete all working files, but for the lock of this process and the one with the name `spare`."""
    for leftover in folder.iterdir():
        if leftover.name in (LOCK, spare):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _read_plan(path: Path) -> AdaptationPlan | None:
    """Return the plan of an interrupted job; None if another version wrote it."""
    try:
        return cattrs.structure(json.loads(path.read_text(encoding="utf-8")), AdaptationPlan)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError):
        return None


def _changed_first(training: Sequence[OwnFile], earlier: AdaptationRecord) -> list[OwnFile]:
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


def write_json(path: Path, content: Any) -> None:
    """Write values to a file, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
