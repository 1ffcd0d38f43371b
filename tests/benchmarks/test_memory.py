"""Memory of windows and their worker, with the real processes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from codegen_lsp.benchmarks import memory
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import read_info

CACHE_MB = 32
GROWTH_MB = 3 * CACHE_MB
"""What the heap may vary by. Keeping what each of the completions in between computed takes more than 1 GB."""


@pytest.mark.slow
async def test_a_second_window_adds_a_server_and_no_worker(
    embedded_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SETTLE_SECONDS", 0.4)  # a worker's weights weigh more than what is still prepared
    texts = memory.sources(20_000, memory.FIRST + memory.SECOND)
    shared = await memory.window_memory(embedded_build, texts, 1, shared=True)
    private = await memory.window_memory(embedded_build, texts, 1, shared=False)
    assert (shared.workers, private.workers) == (1, 2)
    assert 0 < shared.second_server < shared.two
    assert shared.added < private.added
    weights = (embedded_build / "model.bin").stat().st_size / 2**20
    values = memory.plain_values(memory.MemoryUse([shared], [private], []))
    assert values["shared"][0]["added_share"] == pytest.approx(shared.added / weights)  # type: ignore[index]


@pytest.mark.slow
async def test_a_worker_does_not_grow_with_what_it_completes(embedded_build: Path) -> None:
    texts = memory.sources(20_000, 8)
    levels = await memory.worker_levels(embedded_build, texts, 300, 1, CACHE_MB)
    assert [level.completions for level in levels] == list(range(30, 301, 30))
    assert levels[-1].mb - levels[2].mb < GROWTH_MB


def test_memory_of_a_process() -> None:
    assert 1 < memory.memory_mb(psutil.Process()) < 100_000


def test_too_few_documents() -> None:
    with pytest.raises(ModelError, match="fewer"):
        memory.sources(20_000, 10_000)


def test_a_build_is_taken_as_it_is(embedded_build: Path, tmp_path: Path) -> None:
    assert memory.write_shape(str(embedded_build), embedded_build, tmp_path) == embedded_build
    assert not any(tmp_path.iterdir())
    assert read_info(embedded_build)
