"""Benchmarks that are told to end: nothing of theirs stays, neither processes nor temporary files."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from codegen_lsp.benchmarks.soak.levels import marked_processes
from tests import needs

SOURCES = str(Path(__file__).parents[2] / "codegen_lsp" / "source")
BUILD = "BUILD"
"""Stands for the folder of the embedded model, which takes no time to write."""
COMMANDS = {
    "engine": ("engine", "--shape", BUILD),
    "cancel": ("cancel", "--shape", BUILD),
    "batching": ("batching", "--shape", BUILD),
    "memory": ("memory", "--shape", BUILD),
    "start": ("start",),
    "replay": ("replay", SOURCES),
    "index": ("index", SOURCES, "--files", "10"),
    "soak": ("soak",),
    "http": ("http", SOURCES, "--clients", "1"),
    "http shape": ("http", "--shape", BUILD),
}
"""Each benchmark that has temporary files."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"), [*((name, signal.SIGTERM) for name in COMMANDS), ("batching", signal.SIGHUP)]
)
def test_a_benchmark_that_is_told_to_end_leaves_nothing(
    name: str, number: signal.Signals, embedded_build: Path, tmp_path: Path
) -> None:
    if name.startswith("http"):
        needs.extra("serve")
    mark, folder = secrets.token_hex(8), tmp_path / "tmp"
    folder.mkdir()
    arguments = [str(embedded_build) if word == BUILD else word for word in COMMANDS[name]]
    output = (tmp_path / "output").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "codegen_lsp.cli", "bench", *arguments],
        env=os.environ | {"TMPDIR": str(folder), "SOAK": mark},
        stdout=output,
        stderr=output,
    )
    try:
        # Python's `tempfile` makes a file of its own for a moment, to see whether it can.
        while not any(path.is_dir() for path in folder.iterdir()):
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.02)
        process.send_signal(number)
        code = process.wait(60)
        psutil.wait_procs(list(marked_processes(mark)), timeout=60)  # a worker notices that its server is gone
        assert [one.cmdline() for one in marked_processes(mark)] == []
        assert list(folder.iterdir()) == []
        assert code in (128 + number, 1), (tmp_path / "output").read_text()  # 1: the soak test reports what it did
    finally:
        process.kill()
        process.wait()
        for left in marked_processes(mark):
            left.kill()
        output.close()
