"""An adaptation from the files to the installed build; killed at every stage; refused with a reason."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

import codegen_lsp
from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.adaptation_record import OWN_ALONE, read_record, work_folder
from codegen_lsp.errors import CodegenError, CorpusError, ModelError
from codegen_lsp.inference.build import read_info, write_info
from codegen_lsp.inference.engines.native.ngram_segment import library
from codegen_lsp.training.adaptation.job import AdaptationJob, Outcome, default_name, pays
from codegen_lsp.training.adaptation.measuring import Change
from codegen_lsp.training.adaptation.stages import adapt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(library() is None, reason="the n-gram index is not compiled here"),
]
STEPS = 30
SOURCES = Path(codegen_lsp.__file__).parent
NAME = "tiny+mine"


@pytest.fixture
def own_code(repository) -> Path:  # type: ignore[no-untyped-def]
    """A repository with some of this project's files."""
    files = {
        path.relative_to(SOURCES).as_posix(): path.read_text(encoding="utf-8")
        for package in ("workspace", "source", "suggest")
        for path in (SOURCES / package).glob("*.py")
    }
    made: Path = repository(files)
    return made


@pytest.fixture
def job(own_code: Path, tiny_base: Path, empty_store: Path) -> AdaptationJob:
    return AdaptationJob((own_code,), NAME, base=str(tiny_base), steps=STEPS, anyway=True, device="cpu")


def run(job: AdaptationJob, stop=lambda: False) -> tuple[Outcome, list[str]]:  # type: ignore[no-untyped-def]
    said: list[str] = []
    return adapt(job, lambda message, share: None, said.append, stop), said


def test_an_adapted_model_is_installed_with_its_record_and_removed_with_everything(
    job: AdaptationJob, own_code: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, said = run(job)
    assert said[0].startswith("Estimate, a tenth of the time")
    assert outcome.build is not None
    assert outcome.build.path == empty_store / NAME
    record = read_record(outcome.build.path)
    assert record == outcome.record
    assert record is not None
    assert record.folders == [own_code]
    assert set(record.held_out) < set(record.files)
    assert record.figures[OWN_ALONE].change < 0
    card = (outcome.build.path / "README.md").read_text(encoding="utf-8")
    assert f"codegen-lsp models remove {NAME}" in card
    assert record.commits[str(own_code)] in card
    assert outcome.build.info.license == "apache-2.0"
    assert outcome.build.info.languages == ["python"]
    # The second adaptation goes on with what has changed.
    with pytest.raises(CorpusError, match="No file has changed"):
        run(attrs.evolve(job, refresh=True))
    changed = own_code / "workspace" / "uris.py"
    changed.write_text(changed.read_text() + "\n\ndef shout(text: str) -> str:\n    return text.upper()\n")
    # Its estimate is too short to decide.
    monkeypatch.setattr("codegen_lsp.training.adaptation.job.LEAST_GAIN", 0.9)
    again, said = run(attrs.evolve(job, refresh=True, anyway=False))
    assert said[0].startswith("Estimate, a tenth of the time")
    assert again.record is not None
    assert (again.record.refreshes, again.record.base) == (1, "build")
    assert again.record.files[str(changed)] != record.files[str(changed)]
    assert again.record.tokens > record.tokens
    store.remove(NAME)
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []


PROGRAM = """
import sys, time
from pathlib import Path
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.stages import adapt
root, base, name, steps, written = sys.argv[1:]
job = AdaptationJob((Path(root),), name, base=base, steps=int(steps), anyway=True, device="cpu")
def report(message, share):
    while Path(written).exists():  # until it is killed
        time.sleep(0.01)
adapt(job, report, print, lambda: False)
"""
STAGES = ("encoded/own.ids.npy", "plan.json", "before.npz", "estimate/best.pt", "estimate.json", "run/best.pt", "build")


def test_a_job_killed_at_any_stage_goes_on(job: AdaptationJob, own_code: Path, empty_store: Path) -> None:
    work = work_folder(empty_store, NAME)
    command = [sys.executable, "-c", PROGRAM, str(own_code), job.base, NAME, str(STEPS)]
    environment = os.environ | {"CODEGEN_LSP_MODELS": str(empty_store)}
    written: dict[str, int] = {}
    for stage in STAGES:
        with subprocess.Popen([*command, str(work / stage)], env=environment, stdout=subprocess.DEVNULL) as process:
            while not (work / stage).exists():
                assert process.poll() is None, f"ended before {stage}"
                time.sleep(0.01)  # polling, until the file is there
            process.send_signal(signal.SIGKILL)
        for name, modified in written.items():
            assert (work / name).stat().st_mtime_ns == modified, f"{name} was made again"
        for name in ("plan.json", "before.npz", "estimate.json"):
            if (work / name).exists():
                written[name] = (work / name).stat().st_mtime_ns
    assert not (empty_store / NAME).exists()
    outcome, said = run(job)
    assert said[0].startswith("Going on")
    assert outcome.build is not None
    assert not work.exists()


def test_an_unfinished_job_is_removed_with_its_data(job: AdaptationJob, empty_store: Path) -> None:
    outcome, _ = run(job, stop=lambda: (work_folder(empty_store, NAME) / "before.npz").exists())
    assert outcome.interrupted
    assert outcome.build is None
    assert (work_folder(empty_store, NAME) / "encoded" / "own.ids.npy").exists()
    assert store.remove(NAME) == work_folder(empty_store, NAME)
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []
    with pytest.raises(ModelError, match="no model called"):
        store.remove(NAME)


def test_an_interruption_keeps_the_best_weights(job: AdaptationJob, empty_store: Path) -> None:
    outcome, _ = run(job, stop=lambda: (work_folder(empty_store, NAME) / "run" / "best.pt").exists())
    assert outcome.build is not None


def test_less_of_the_change_is_kept_where_too_much_was_forgotten(
    job: AdaptationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def once(share: float, rise: float, allowed: float) -> float | None:
        shares.append(share)
        return 0.1 if share == 1 else None

    whole, _ = run(job)
    assert whole.record is not None
    assert whole.record.kept_change == 1.0
    monkeypatch.setattr("codegen_lsp.training.adaptation.building.smaller_share", once)
    part, _ = run(attrs.evolve(job, name="tiny+part"))
    assert shares == [1.0, 0.1]
    assert part.record is not None
    assert part.build is not None
    assert part.record.kept_change == 0.1
    assert "10 % was kept" in (part.build.path / "README.md").read_text(encoding="utf-8")
    assert whole.record.figures[OWN_ALONE].change < part.record.figures[OWN_ALONE].change < 0


def test_a_job_that_does_not_pay_installs_nothing(
    job: AdaptationJob, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen_lsp.training.adaptation.job.LEAST_GAIN", 0.9)
    outcome, said = run(attrs.evolve(job, anyway=False))
    assert "too little to gain" in said[-1]
    assert outcome.build is outcome.record is None
    assert outcome.estimate is not None
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []


def test_too_little_code_is_refused(job: AdaptationJob, repository) -> None:  # type: ignore[no-untyped-def]
    few = repository({f"{n}.py": f"def f{n}(value):\n    return value + {n}\n" * 9 for n in range(5)}, "few")
    with pytest.raises(CorpusError, match=r"5 files to train on.*n-grams of the workspace"):
        run(attrs.evolve(job, paths=(few,)))
    short = repository(
        {f"{n}.py": "\n".join(f"def f_{n}_{m}(x):\n    return x * {n * m}\n" for m in range(9)) for n in range(20)},
        "short",
    )
    with pytest.raises(CorpusError, match=r"tokens to train on"):
        run(attrs.evolve(job, paths=(short,)))


def test_names_of_other_models_are_refused(job: AdaptationJob) -> None:
    for name in ("codegen-350M-mono", "codegen-lsp-python", "a/b"):
        with pytest.raises(ModelError):
            run(attrs.evolve(job, name=name))


def test_a_store_that_is_read_only_is_refused(job: AdaptationJob, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODEGEN_LSP_MODELS", str(tmp_path / "file" / "store"))
    with pytest.raises(CodegenError, match="can't be written to"):
        run(job)


def test_larger_models_are_refused(job: AdaptationJob, tiny_base: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(tiny_base, large)
    write_info(large, attrs.evolve(read_info(tiny_base), layers=24, width=2048, vocabulary_size=50_000))
    with pytest.raises(ModelError, match="less than 100 million"):
        run(attrs.evolve(job, base=str(large)))


def test_only_an_adapted_model_is_refreshed(job: AdaptationJob) -> None:
    with pytest.raises(ModelError):
        run(attrs.evolve(job, refresh=True))


def test_names_and_verdicts() -> None:
    assert default_name([Path("/x/my project")], "base") == "base+my-project"
    assert default_name([Path("/")], "base") == "base+code"
    good = Change(1.0, 0.98, -0.02, -0.03, -0.01, 9)
    assert pays(good)
    assert not pays(attrs.evolve(good, high=0.001))
    assert not pays(attrs.evolve(good, change=-0.001, high=-0.0005))


def test_records_that_are_damaged_count_as_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    for content in ("{", json.dumps({"base": 1}), "[]"):
        (tmp_path / "adaptation.json").write_text(content)
        assert read_record(tmp_path) is None


def test_minutes_that_are_too_few_are_refused_before_anything_is_encoded(job: AdaptationJob, empty_store: Path) -> None:
    said: list[str] = []
    seen: list[str] = []
    hasty = attrs.evolve(job, steps=None, minutes=0.0001, anyway=False)
    with pytest.raises(CorpusError, match="too few to gain anything") as refusal:
        adapt(hasty, lambda message, share: seen.append(message), said.append, lambda: False)
    assert "--minutes 10" in refusal.value.advice
    assert "tokens a second now" in said[0]
    assert not any(message.startswith("counting") for message in seen)
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []


def test_too_little_code_leaves_nothing_behind(job: AdaptationJob, repository, empty_store: Path) -> None:  # type: ignore[no-untyped-def]
    short = repository(
        {f"{n}.py": "\n".join(f"def f_{n}_{m}(x):\n    return x * {n * m}\n" for m in range(9)) for n in range(20)},
        "short",
    )
    with pytest.raises(CorpusError, match=r"tokens to train on"):
        run(attrs.evolve(job, paths=(short,)))
    assert [path for path in empty_store.rglob("*") if path.is_file()] == []


def test_a_pattern_that_is_added_to_the_excluded_ones_counts(job: AdaptationJob, empty_store: Path) -> None:
    """An interrupted job with the files that are now excluded is not gone on with."""
    encoded = work_folder(empty_store, NAME) / "plan.json"
    run(job, stop=encoded.exists)
    assert any(path.endswith("uris.py") for path in json.loads(encoded.read_text())["files"])
    _, said = run(attrs.evolve(job, exclude=("**/uris.py",)), stop=encoded.exists)
    assert not any(path.endswith("uris.py") for path in json.loads(encoded.read_text())["files"])
    assert said == []


def test_a_job_that_runs_is_neither_removed_nor_run_twice(job: AdaptationJob, empty_store: Path) -> None:
    refusals: list[str] = []

    def meanwhile() -> bool:
        for act in (lambda: store.remove(NAME), lambda: run(job)):
            with pytest.raises(ModelError, match="Another process adapts") as refusal:
                act()
            refusals.append(refusal.value.message)
        return True

    outcome, _ = run(job, stop=meanwhile)
    assert outcome.interrupted
    assert len(refusals) == 2
    assert store.remove(NAME) == work_folder(empty_store, NAME)


def test_a_refresh_that_was_killed_between_two_renames_goes_on(job: AdaptationJob, empty_store: Path) -> None:
    run(job)
    (empty_store / ".replaced-x").mkdir()
    (empty_store / NAME).rename(empty_store / ".replaced-x" / NAME)
    with pytest.raises(CorpusError, match="No file has changed"):
        run(attrs.evolve(job, refresh=True))
    assert (empty_store / NAME / "build.json").exists()
    assert not (empty_store / ".replaced-x").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no RLIMIT_FSIZE")
def test_files_that_can_t_be_written_are_reported_at_each_stage_and_nothing_is_lost(
    job: AdaptationJob, empty_store: Path
) -> None:
    """The limit of the size of files stands for a full disk: from a stage on, no file of more than a few bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    stages = ("counting", "measuring the model", "estimate", "measuring the estimate", "training", "making the int8")
    reached: set[str] = set()
    for stage in stages:

        def report(message: str, share: float, stage: str = stage) -> None:
            after_the_estimate = stage != "making the int8" or share > 0.5
            if message.startswith(stage) and after_the_estimate:
                reached.add(stage)
                resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))

        try:
            with pytest.raises(CodegenError) as refusal:
                adapt(job, report, lambda line: None, lambda: False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert stage in reached
        assert "goes on from there" in refusal.value.advice, stage
        assert not (empty_store / NAME).exists()
    outcome, said = run(job)
    assert said[0].startswith("Going on")
    assert outcome.build is not None
    assert [path.name for path in (empty_store / ".adaptations").iterdir()] == []
