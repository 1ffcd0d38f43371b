"""The counts that are kept, and a file that is shared, damaged or out of reach."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from codegen_lsp.suggest import metrics
from codegen_lsp.suggest.metrics import CountRow, Event, Metrics, default_path, percentile, read, step_of, write

SHOWN = Event("2026-01-31", "python", "m", "shown")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the counts go, at once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(metrics, "WRITE_INTERVAL", 0.0)
    return default_path()


def counts(path: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in read(path):
        found[row.what] += row.count
    return dict(found)


def test_counts_add_up_over_servers(path: Path) -> None:
    threads = []
    for _ in range(4):
        one = Metrics(path)
        one.enabled = True
        threads.append(threading.Thread(target=lambda one=one: [*(one.count(SHOWN) for _ in range(50)), one.close()]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(path) == [CountRow("2026-01-31", "python", "m", "shown", 0, 200)]


def test_other_processes_may_write_too(path: Path) -> None:
    program = (
        "import sys; from collections import Counter; from pathlib import Path;"
        "from codegen_lsp.suggest.metrics import Event, write;"
        "[write(Path(sys.argv[1]), Counter([Event('2026-01-31', 'python', 'm', 'shown')])) for _ in range(20)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert counts(path) == {"shown": 60}


def test_a_damaged_file_is_put_aside(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is no database, however long it is" * 100)
    assert write(path, Counter([SHOWN]))
    assert counts(path) == {"shown": 1}
    assert path.with_suffix(".damaged").is_file()


def test_a_file_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    counting = Metrics(blocked / "metrics.sqlite")
    counting.enabled = True
    counting.count(SHOWN)
    counting.close()
    counting.count(SHOWN)
    assert not write(blocked / "metrics.sqlite", Counter([SHOWN]))


def test_a_file_of_something_else_is_not_harmed(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE counts (mine TEXT)")
    other.close()
    assert not write(path, Counter([SHOWN]))


def test_old_days_go(path: Path) -> None:
    write(path, Counter([Event("1999-01-01", "python", "m", "shown"), Event(metrics.today(), "python", "m", "shown")]))
    assert [row.day for row in read(path)] == [metrics.today()]


def test_percentiles_are_within_a_step() -> None:
    steps = Counter(step_of(float(milliseconds)) for milliseconds in range(1, 1001))
    for share, true in ((0.5, 500), (0.95, 950), (0.99, 990)):
        found = percentile(steps.items(), share)
        assert found is not None
        assert abs(found / true - 1) < 0.06
    assert percentile([], 0.5) is None
    assert step_of(0.0) == step_of(0.1)


def test_the_file_is_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sqlite"
    assert write(path, Counter({Event("2026-01-31", "python", "m", "shown"): 1}))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # as former versions made it
    assert write(path, Counter({Event("2026-01-31", "python", "m", "shown"): 1}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [row.count for row in read(path)] == [2]
