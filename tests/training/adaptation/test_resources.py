"""Memory and disk are checked before, and training waits while somebody types."""

from __future__ import annotations

from tests import needs

needs.extra("train")

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.adaptation import resources
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.resources import TypingWatch, needed_memory
from codegen_lsp.training.adaptation.trainee import AllWeights
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

SHAPE = ModelShape()


def test_too_little_memory_or_disk_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainee, job = AllWeights(TrainableCodeGen(SHAPE)), AdaptationJob((tmp_path,), "x", threads=1)
    trainee.check_resources(job, tmp_path)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 20))
    with pytest.raises(CorpusError, match=r"0\.\d GiB in .*CODEGEN_LSP_MODELS"):
        trainee.check_resources(job, tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 28))
    with pytest.raises(CorpusError, match=r"takes \d\.\d GiB of memory, 0\.2 are free"):
        trainee.check_resources(job, tmp_path)


def test_concurrent_passes_take_more_memory() -> None:
    assert needed_memory(SHAPE, 2) > needed_memory(SHAPE, 1)


def test_an_inference_worker_at_work_is_noticed() -> None:
    """The real list of processes, with one that is called as a worker and computes."""
    program = "import sys\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program, resources.WORKER]) as process:
        try:
            before = resources.worker_seconds().get(process.pid, 0.0)
            while resources.worker_seconds().get(process.pid, 0.0) < before + 0.2:
                assert process.poll() is None
        finally:
            process.kill()


def test_somebody_types_while_a_worker_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, worked = [100.0], {7: 3.0}
    monkeypatch.setattr(resources.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(resources.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    watch = TypingWatch(lambda: dict(worked))

    def later(seconds: float, work: float) -> bool:
        now[0] += seconds
        worked[7] += work
        return watch.typing()

    assert not later(2, 0.001)
    assert later(2, 0.3)
    assert later(5, 0.0)
    assert not later(6, 0.0)
    worked[8] = 50.0  # a new worker, which loads a model
    assert not later(2, 0.0)
    assert later(2, 0.4)
    paused: list[bool] = []
    assert watch.wait(lambda: paused.append(True), lambda: False) == pytest.approx(resources.QUIET_SECONDS, abs=1.5)
    assert paused == [True]
    later(2, 0.4)
    assert watch.wait(lambda: None, lambda: True) == 0.0
