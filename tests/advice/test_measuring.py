from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import attrs
import cattrs
import psutil
import pytest
from attrs import evolve

from codegen_lsp.advice import measurement as records
from codegen_lsp.advice import measuring
from codegen_lsp.advice.measurement import FORMAT, MachineMeasurement, MeasurementParams, keep, kept
from codegen_lsp.advice.measuring import MeasuringTask, build_sizes, measure
from codegen_lsp.advice.measuring_process import COMMAND, measure_machine
from codegen_lsp.advice.probes import FIXED, cache_size
from codegen_lsp.advice.speed import sizes_of
from codegen_lsp.advice.timing import Clock, EngineTimer, PassKey, is_busy
from codegen_lsp.benchmarks.random_build import write_random_build
from codegen_lsp.checkpoints.store import find
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import WeightFormat
from tests.advice.measured import measurement
from tests.children import children_with

SMALL = {"one": FIXED, "two": evolve(FIXED, layers=6), "three": evolve(FIXED, rows=8192)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("engine", ["native", "ct2"])
def test_a_machine_is_measured_with_each_engine(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "probes", lambda cache_bytes: SMALL)
    monkeypatch.setattr(measuring, "FEWEST_ROUNDS", 1)
    monkeypatch.setattr(measuring, "ROUND_SECONDS", 0.0)
    seen: list[float] = []
    params = MeasurementParams(engine=engine, threads=1)
    made = measure(MeasuringTask(params, str(tmp_path)), lambda message, fraction: seen.append(fraction))
    assert (made.engine, made.device, made.threads, made.key) == (engine, "cpu", 1, params.key)
    assert seen == sorted(seen)
    assert max(seen) < 1
    speed = made.speeds["8"]
    for sizes in map(sizes_of, SMALL.values()):
        times = speed.times(sizes)
        assert times.step > 0
        assert times.prompt > 0
        assert times.first_token > 0
    record = made.builds["codegen-lsp-python"]
    assert record.digest == find("auto").info.files["model.bin"].sha256
    if record.times is not None:  # it is left out where it would take long
        assert record.times.suggestion > record.times.first_token > 0


def test_without_memory_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()._replace(available=300 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(ModelError, match=r"0\.3 are free"):
        measure(MeasuringTask(MeasurementParams(), str(tmp_path)), lambda message, fraction: None)
    assert not list(tmp_path.iterdir())


def test_the_sizes_of_a_build_are_those_of_its_architecture(tmp_path: Path) -> None:
    shape = evolve(FIXED, layers=3)
    info = write_random_build(tmp_path, "one", shape)
    assert build_sizes(tmp_path, info) == sizes_of(shape)
    (tmp_path / "four").mkdir()
    four = write_random_build(tmp_path / "four", "four", shape, WeightFormat(bits=4, group=32))
    assert build_sizes(tmp_path / "four", four) == sizes_of(shape, bits=4.5)
    # A model that only CTranslate2 reads, by its description.
    model = tmp_path / "model.bin"
    model.write_bytes(model.read_bytes().replace(b"layer_0/self_attention", b"layer_0/same_attention"))
    about = build_sizes(tmp_path, info)
    assert about.layers == 3
    assert about.step_bytes == pytest.approx(sizes_of(shape).step_bytes, rel=0.1)


def test_a_machine_is_busy_if_passes_take_longer_than_their_processor_time(embedded_build: Path) -> None:
    def timer(*clocks: Clock) -> EngineTimer:
        made = EngineTimer(engine=None, rows=1)  # type: ignore[arg-type]
        for index, clock in enumerate(clocks):
            made.taken[PassKey("step", 1, index)] += [clock, Clock(9.0, 8.0)]
        return made

    idle, busy = Clock(1.2, 1.0), Clock(3.0, 1.0)
    assert not is_busy([timer(idle, idle), timer(idle, busy)])
    assert is_busy([timer(busy, busy), timer(idle, busy)])
    assert timer(busy).best(processor=True) == {PassKey("step", 1, 0): 1.0}
    assert timer(busy).best(processor=False) == {PassKey("step", 1, 0): 3.0}


@pytest.mark.parametrize(
    ("sizes", "found"),
    [(["32K", "1024K", "32768K"], 32 << 20), (["48K", "96M"], 96 << 20), ([], 32 << 20), (["odd"], 32 << 20)],
)
def test_the_largest_cache_counts(sizes: list[str], found: int, tmp_path: Path) -> None:
    for index, size in enumerate(sizes):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    assert cache_size(tmp_path) == found


def test_a_measurement_is_kept_for_the_way_of_running_models(cache: Path) -> None:
    assert kept(MeasurementParams()) is None
    made = measurement()
    keep(made)
    assert kept(MeasurementParams()) == made
    assert kept(MeasurementParams(threads=7)) is None
    assert kept(MeasurementParams(engine="ct2")) is None
    newer = attrs.evolve(made, finished="2026-02-03T00:00:00+00:00", busy=True)
    keep(newer)
    assert kept(MeasurementParams()) == newer
    for number in range(20):
        keep(attrs.evolve(made, key=str(number), finished=f"2026-03-{number + 1:02}T00:00:00+00:00"))
    assert kept(MeasurementParams()) is None
    assert len(json.loads(records.record_file().read_text())["records"]) == records.KEPT


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"format": 0, "records": []}', f'{{"format": {FORMAT}, "records": [{{"a": 1}}]}}']
)
def test_a_damaged_record_counts_as_none_and_is_replaced(content: str, cache: Path) -> None:
    path = records.record_file()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert kept(MeasurementParams()) is None
    keep(measurement())
    assert kept(MeasurementParams()) == measurement()


async def test_cancelling_ends_the_process_and_removes_its_files(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = asyncio.Event()
    task = asyncio.create_task(measure_machine(MeasurementParams(), lambda message, fraction: begun.set()))
    await begun.wait()
    (child,) = children_with(COMMAND[-1])
    if sys.platform != "win32":
        assert child.nice() >= 10
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running()
    assert not list(tmp_path.glob("codegen-lsp-*"))
    assert not cache.exists()


def test_the_process_ends_with_its_input(tmp_path: Path) -> None:
    task = cattrs.unstructure(MeasuringTask(MeasurementParams(), str(tmp_path)))
    command = [sys.executable, *COMMAND]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        assert "fraction" in process.stdout.readline()
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 1
    assert "measurement" not in rest


async def test_an_error_of_the_process_is_raised(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no engine 'quantum'"):
        await measure_machine(MeasurementParams(engine="quantum"))
    assert kept(MeasurementParams(engine="quantum")) is None


def test_a_measurement_survives_the_way_through_json() -> None:
    made = measurement(busy=True, load=3.5)
    assert cattrs.structure(json.loads(json.dumps(cattrs.unstructure(made))), MachineMeasurement) == made
