"""A trial adapts a model to a repository as it was, and measures on what was added later; nothing is installed."""

from __future__ import annotations

from tests import needs

needs.extra("train")

from pathlib import Path

import pytest

import codegen_lsp
from codegen_lsp.evaluation.adaptation_trial import run_trial
from codegen_lsp.evaluation.added_lines import choose_cases
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.git_history import GitHistory
from codegen_lsp.inference.engines.native.ngram_segment import library
from tests.evaluation.test_git_history import git

SOURCES = Path(codegen_lsp.__file__).parent
ADDED = '''

def {name}(values: list[int], factor: int = {number}) -> dict[str, int]:
    """Return the {name} of the values, each times a factor."""
    found: dict[str, int] = {{}}
    for position, value in enumerate(values):
        found[f"{name}-{{position}}"] = value * factor + {number}
    return found
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with some of this project's files, and later commits."""
    folder = tmp_path / "repository"
    for package in ("workspace", "source", "suggest"):
        (folder / package).mkdir(parents=True)
        for path in (SOURCES / package).glob("*.py"):
            (folder / package / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    moved = (folder / "source" / "lines.py").read_text(encoding="utf-8")
    for number, name in enumerate(("weighted", "shifted")):
        with (folder / "workspace" / "uris.py").open("a", encoding="utf-8") as stream:
            stream.write(ADDED.format(name=name, number=number + 3))
        (folder / "suggest" / f"copy_{number}.py").write_text(moved, encoding="utf-8")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", name, date=f"2026-03-0{number + 1}T12:00:00")
    return folder


def test_copies_of_old_code_are_no_cases(root: Path) -> None:
    history = GitHistory(root, (".py",))
    cases = choose_cases(history, history.commit_before(30), commits=5, per_commit=4, seed=0)
    assert {(run.path, run.first > 5) for case in cases for run in case.runs} == {("workspace/uris.py", True)}
    for place in (place for case in cases for place in case.places):
        assert place.rest
        assert "return found" not in place.below
    with pytest.raises(EvaluationError, match="No commit since then"):
        choose_cases(history, history.commits_after(history.commit_before(30))[-1], 5, 4, 0)


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here")
def test_a_trial_measures_before_and_after(root: Path, tiny_base: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from codegen_lsp.checkpoints import store
    from codegen_lsp.training.adaptation.job import AdaptationJob

    monkeypatch.setenv("CODEGEN_LSP_MODELS", str(tmp_path / "store"))
    job = AdaptationJob((root,), "unused", base=str(tiny_base), steps=10, device="cpu")
    trial = run_trial(
        job, 30, commits=5, per_commit=4, seed=0, report=lambda *_: None, say=lambda _: None, stop=lambda: False
    )
    assert trial.record is not None
    assert trial.added is not None
    assert trial.added.runs >= 1
    assert set(trial.added.figures) >= {"bits per byte", "lines exact", "keystrokes saved"}
    assert trial.added.figures["bits per byte"].before > 0
    assert not any("uris.py" in path and "weighted" in path for path in trial.record.files)
    assert [build for build in store.installed() if not build.bundled] == []
