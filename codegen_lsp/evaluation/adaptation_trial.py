"""Adapt a model to a repository as it was, and compare both on the lines that were written later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, Change
from codegen_lsp.evaluation.added_lines import AddedLinesFigures, choose_cases, compare
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.git_history import GitHistory
from codegen_lsp.evaluation.runtime import Runtime
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder
from codegen_lsp.training.adaptation.base import base_of, checkpoint_of
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.stages import adapt
from codegen_lsp.workspace.files import git_command, git_environment

NAME = "trial"


@frozen
class Trial:
    """The result of a trial."""

    commit: str
    """Commit whose files were trained on."""
    estimate: Change | None
    record: AdaptationRecord | None
    """None where the training was interrupted before there was anything."""
    added: AddedLinesFigures | None


def run_trial(
    job: AdaptationJob,
    days: float,
    *,
    commits: int,
    per_commit: int,
    seed: int,
    report: ProgressReport,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> Trial:
    """Adapt to the files of `days` before the newest commit, and measure on what came after. Nothing is installed.

    Raises EvaluationError without such a commit or later lines, and whatever `adapt` raises.
    """
    history = GitHistory(job.paths[0].expanduser().resolve(), (".py", ".pyi"))
    since = history.commit_before(days)
    cases = choose_cases(history, since, commits, per_commit, seed, report)
    job = evolve(job, refresh=False)
    with TemporaryFolder("codegen-lsp-trial-") as folder:
        base = base_of(job, folder, report)
        tree = folder / "tree"
        _write(tree, history.files_at(since))
        with _store_in(folder / "store"):
            float_checkpoint = checkpoint_of(job, base)
            trial = evolve(job, paths=(tree,), name=NAME, base=str(base.path), checkpoint=float_checkpoint, anyway=True)
            outcome = adapt(trial, report, say, stop)
        if outcome.build is None:
            return Trial(since, outcome.estimate, None, None)
        before, after = Runtime(base, threads=job.threads), Runtime(outcome.build, threads=job.threads)
        return Trial(since, outcome.estimate, outcome.record, compare(history, cases, before, after, report))


def _write(tree: Path, files: dict[str, str]) -> None:
    """Write files into a new folder with an empty repository."""
    for path, text in files.items():
        target = (tree / path).resolve()
        if target.is_relative_to(tree.resolve()):  # git refuses such paths, but other programs make them
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    tree.mkdir(exist_ok=True)
    command = git_command("init", "--quiet")
    done = subprocess.run(command, cwd=tree, env=git_environment(), capture_output=True) if command else None
    if done is None or done.returncode:
        raise EvaluationError("git can't make a repository for the trial.", "Install git.")


@contextmanager
def _store_in(folder: Path) -> Iterator[None]:
    """Let the user's store be another folder within the block."""
    former = os.environ.get(store.STORE_VARIABLE)
    os.environ[store.STORE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if former is None:
            del os.environ[store.STORE_VARIABLE]
        else:
            os.environ[store.STORE_VARIABLE] = former
