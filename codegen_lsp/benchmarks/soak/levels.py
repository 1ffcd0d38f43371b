"""Memory, file descriptors and threads of the processes of a run, and what a run leaves behind."""

from __future__ import annotations

import contextlib
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from attrs import frozen

from codegen_lsp.benchmarks.memory import memory_mb

MARGIN_MB = 32.0
"""Growth of a process's memory from the middle of a run to its end, in MiB, above which it does not count as level. The
worker is a new process after each kill; its prompt cache is filled before each reading."""
MARGIN_DESCRIPTORS = 8
"""The same for open file descriptors."""
LOG = "soak.log"
KEPT_NAMES = ("lock", "metrics.sqlite", LOG)
"""Files that servers keep: the lock of the endpoints, the counts for `codegen-lsp stats`, and the log."""
INDEX_SUFFIX = ".ngrams"


CONTINUATION = "  | "


@frozen
class ProcessLevel:
    """One process at one moment."""

    memory_mb: float
    """Proportional set size in MiB."""
    descriptors: int
    threads: int


@frozen
class Levels:
    """The processes of a run at one moment."""

    at: str
    """Start, middle or end."""
    seconds: float
    """Since the start of the run."""
    processes: dict[str, ProcessLevel]
    """By name: server, worker, tcp server."""


def level_of(pid: int) -> ProcessLevel:
    """Return the level of a process."""
    process = psutil.Process(pid)
    descriptors = process.num_fds() if hasattr(process, "num_fds") else 0
    return ProcessLevel(memory_mb(process), descriptors, process.num_threads())


def growth(middle: Levels, end: Levels) -> list[str]:
    """Return the processes that grew by more than the margins from the middle to the end, as sentences."""
    grown = []
    for name, after in end.processes.items():
        before = middle.processes[name]
        if after.memory_mb - before.memory_mb > MARGIN_MB:
            grown.append(f"The memory of the {name} grew from {before.memory_mb:.0f} to {after.memory_mb:.0f} MiB.")
        if after.descriptors - before.descriptors > MARGIN_DESCRIPTORS:
            grown.append(f"The {name} had {before.descriptors} open descriptors, and has {after.descriptors}.")
    return grown


def marked_processes(mark: str) -> Iterator[psutil.Process]:
    """Yield the processes whose environment has the mark of a run."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SOAK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def left_behind(folder: Path, mark: str) -> list[str]:
    """Return the processes, sockets and temporary files that a run left, as sentences.

    `folder` has the folders `tmp`, `run`, `state` and `cache` of the servers.
    """
    found = [
        f"The process {process.pid} still runs: {' '.join(process.cmdline())[:200]}"
        for process in marked_processes(mark)
    ]
    for name in ("tmp", "run", "state", "cache"):
        for path in sorted((folder / name).rglob("*")):
            if path.is_dir() or path.name in KEPT_NAMES or _is_index(path):
                continue
            kind = "socket" if stat.S_ISSOCK(path.lstat().st_mode) else "file"
            found.append(f"The {kind} {path.relative_to(folder)} is left.")
    return found


def tracebacks(log: Path) -> list[str]:
    """Return the errors that the server did not expect, by its log, as sentences."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    # The lines of a traceback begin so (`log_format`), and the last one names the error.
    ends = [
        line.removeprefix(CONTINUATION)
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith(CONTINUATION) and not below.startswith(CONTINUATION)
    ]
    return [f"The log has {number} tracebacks: {last}" for last, number in Counter(ends).items()]


def _is_index(path: Path) -> bool:
    return path.suffix == INDEX_SUFFIX
