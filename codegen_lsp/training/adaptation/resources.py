"""Consideration for the user's machine: memory and disk are checked before, the priority is the lowest, and training
can pause while somebody types.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.model import ModelShape
from codegen_lsp.training.model_card import parameters

GIBIBYTE = 1 << 30
FLOAT = 4
"""Bytes of a weight, a gradient, and of each of AdamW's moments."""
COPIES_IN_MEMORY = 7
"""Weights, their average, the best ones, gradients, two moments, and one copy while a checkpoint is written."""
COPIES_ON_DISK = 12
"""Two checkpoints of weights, average and two moments each, the best weights, the exported ones, and the build."""
RUNTIME_BYTES = 700 << 20
"""PyTorch, the token ids, and activations of a pass: 0.6 GiB, measured with the embedded model."""
WORKER = "codegen_lsp.inference.worker"
"""Module of the process that answers editors."""
QUIET_SECONDS = 10.0
POLL_SECONDS = 1.0
BUSY_SHARE = 0.02
"""Share of a core from which a worker counts as at work: an idle one takes less."""


def needed_memory(shape: ModelShape, workers: int) -> int:
    """Return the bytes that training a model of a shape takes; each further concurrent pass has its own gradients."""
    return FLOAT * parameters(shape) * (COPIES_IN_MEMORY + workers - 1) + RUNTIME_BYTES


def needed_disk(shape: ModelShape) -> int:
    """Return the bytes of the working files of a training of all weights."""
    return FLOAT * parameters(shape) * COPIES_ON_DISK


def check_memory(needed: int, advice: str, free: int | None = None) -> None:
    """Raise CorpusError where less memory is free than is needed. `free` is a device's; None for the main memory."""
    free = psutil.virtual_memory().available if free is None else free
    if needed > free:
        raise CorpusError(
            f"Training this model takes {needed / GIBIBYTE:.1f} GiB of memory, {free / GIBIBYTE:.1f} are free.", advice
        )


def check_disk(room: int, folder: Path) -> None:
    """Raise CorpusError where the disk does not suffice for the working files in `folder`."""
    free = shutil.disk_usage(folder).free
    if room > free:
        raise CorpusError(
            f"The working files take {room / GIBIBYTE:.1f} GiB in {folder}, {free / GIBIBYTE:.1f} are free.",
            "Free the space, or set CODEGEN_LSP_MODELS to a folder on another disk.",
        )


def yield_to_others() -> None:
    """Give this process the lowest priority for processor and disk."""
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError, ValueError, AttributeError):
        if os.name == "nt":
            process.nice(psutil.IDLE_PRIORITY_CLASS)
        else:
            process.nice(19)
    with contextlib.suppress(psutil.Error, OSError, ValueError, AttributeError):
        process.ionice(psutil.IOPRIO_CLASS_IDLE)


class TypingWatch:
    """Tells whether a model answers an editor of this user, which is when somebody types.

    The processor time of the inference workers is read, at most once in `POLL_SECONDS`.
    """

    def __init__(self, workers: Callable[[], dict[int, float]] | None = None) -> None:
        self._workers = workers or worker_seconds
        self._before = self._workers()
        self._read = time.monotonic()
        self._last_typed = float("-inf")

    def typing(self) -> bool:
        """Return true if a worker was at work within the last `QUIET_SECONDS`."""
        now = time.monotonic()
        if now - self._read >= POLL_SECONDS:
            found = self._workers()
            spent = sum(seconds - self._before.get(pid, seconds) for pid, seconds in found.items())
            if spent > BUSY_SHARE * (now - self._read):
                self._last_typed = now
            self._before, self._read = found, now
        return now - self._last_typed < QUIET_SECONDS

    def wait(self, on_pause: Callable[[], None], stop: Callable[[], bool]) -> float:
        """Wait while somebody types, and return the seconds waited; `on_pause` is called once. Ends early at `stop`."""
        began = time.monotonic()
        if not self.typing():
            return 0.0
        on_pause()
        while self.typing() and not stop():
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began


def worker_seconds() -> dict[int, float]:
    """Return the processor time of each inference worker of this user, by process."""
    found: dict[int, float] = {}
    me = psutil.Process().username()
    for process in psutil.process_iter(["cmdline", "username", "cpu_times"]):
        if process.info["username"] == me and WORKER in (process.info["cmdline"] or []):
            times = process.info["cpu_times"]
            found[process.pid] = times.user + times.system if times else 0.0
    return found
