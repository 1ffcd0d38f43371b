"""The measurement of a machine, and its record in the user's cache folder.

A record holds for one processor, way of running models and version of this program; others are kept beside it. The
language server imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import cattrs
import platformdirs
from attrs import field, frozen

from codegen_lsp.advice.processor import cpu_name
from codegen_lsp.advice.speed import MachineSpeed, ModelSizes, ModelTimes
from codegen_lsp.file_replacement import PRIVATE, replace_file
from codegen_lsp.version import __version__

logger = logging.getLogger(__name__)

FILE = "machine-speed.json"
FORMAT = 3
MAX_BYTES = 1_000_000
KEPT = 8
"""Records that are kept, the newest ones."""


@frozen
class MeasurementParams:
    """How models are run: as the settings of these names say."""

    engine: str = "auto"
    device: str = "auto"
    compute_type: str = "auto"
    threads: int = 0

    @property
    def key(self) -> str:
        """Digest of all that a measurement depends on and that can be told without loading an engine."""
        parts = (
            *(str(FORMAT), __version__, cpu_name(), str(usable_processors())),
            *(self.engine, self.device, self.compute_type, str(self.threads)),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@frozen
class BuildRecord:
    """An installed model at the time of the measurement."""

    digest: str
    """SHA-256 of its weights, as its description has it."""
    sizes: ModelSizes
    times: ModelTimes | None = None
    """Measured latencies; None where measuring would have taken long, or too much memory."""


@frozen
class MachineMeasurement:
    """The speed of a machine."""

    key: str
    """See `MeasurementParams.key`."""
    finished: str
    """Date and time in ISO 8601, with the offset of the time zone."""
    engine: str
    device: str
    threads: int
    speeds: dict[str, MachineSpeed]
    """By the bits of a weight, as text."""
    busy: bool = False
    """True if other programs took the processor. The times are processor times then."""
    load: float | None = None
    """Mean number of processes that wanted to run in the last minute; None where the system does not tell."""
    processors: int = 1
    """Processors that this process may use."""
    device_memory_mb: int | None = None
    """Free memory of the GPU in MiB, where models run on one."""
    builds: dict[str, BuildRecord] = field(factory=dict)
    """Installed models, by name."""


@frozen
class _Records:
    """Content of the file."""

    records: list[MachineMeasurement]


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def record_file() -> Path:
    """Return the path of the records, which may not exist yet."""
    return platformdirs.user_cache_path("codegen-lsp", appauthor=False) / FILE


def kept(params: MeasurementParams) -> MachineMeasurement | None:
    """Return the measurement of this machine that is kept; None if there is none, or it can't be read."""
    return next((record for record in _records() if record.key == params.key), None)


def keep(measurement: MachineMeasurement) -> None:
    """Keep a measurement in place of one with the same key. A folder that can't be written to is logged."""
    others = [record for record in _records() if record.key != measurement.key]
    newest = sorted(others, key=lambda record: record.finished, reverse=True)[: KEPT - 1]
    content: Any = {"format": FORMAT} | cattrs.unstructure(_Records([measurement, *newest]))
    path = record_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(content).encode(), PRIVATE)
    except OSError as error:
        logger.warning("%s can't be written: %s", path, error)


def _records() -> list[MachineMeasurement]:
    try:
        with record_file().open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
        return cattrs.structure(content, _Records).records if content.get("format") == FORMAT else []
    except FileNotFoundError:
        return []
    except Exception as error:
        logger.warning("%s can't be read: %s", record_file(), error)
        return []
