"""The record of an adaptation, `adaptation.json`: which build is a model adapted to which folders, and how.

It is part of the build. The language server reads it to offer the model in those folders, so importing this is light.
Beside the store's builds lies a folder with the working files of each adaptation, which `models remove` deletes, too.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cattrs
from attrs import field, frozen

from codegen_lsp.errors import ModelError

RECORD = "adaptation.json"
WORK = ".adaptations"
"""Subfolder of the store with the working files of adaptations, by name of the model."""
LOCK = ".lock"
"""File in the working folder that is locked while a process works there."""
MAX_BYTES = 50_000_000
OWN, OWN_ALONE, GENERAL = "own files with n-grams", "own files alone", "general code"
"""Names of the figures."""

logger = logging.getLogger(__name__)


@frozen
class Change:
    """A figure before and after an adaptation, in bits per byte, with the 95 % interval of the relative change."""

    before: float
    after: float
    change: float
    low: float
    high: float
    files: int


@frozen
class AdaptationRecord:
    """Content of `adaptation.json`."""

    base: str
    """Name of the model that it was adapted from, through all refreshes."""
    commits: dict[str, str]
    """Commit of each folder, by absolute path."""
    files: dict[str, str]
    """SHA-256 of the cleaned text of each file that was trained on or held out, by absolute path."""
    held_out: list[str]
    """Paths of the files that were held out."""
    general: list[str]
    """Packages of the Python installation that general code was taken from."""
    tokens: int
    """Tokens trained on, repetitions and general code included."""
    minutes: float
    finished: str
    """Date."""
    figures: dict[str, Change] = field(factory=dict)
    """By name: `OWN`, `OWN_ALONE`, `GENERAL`."""
    refreshes: int = 0
    kept_change: float = 1.0
    """Share of the training's change of the weights that was kept, so that little general code was forgotten."""
    checkpoint: str | None = None
    """Folder of the float checkpoint that adapters were trained from; None where all weights were, from a build."""

    @property
    def folders(self) -> list[Path]:
        """The folders that it was adapted to."""
        return [Path(folder) for folder in self.commits]


def work_folder(store: Path, name: str) -> Path:
    """Return the folder with the working files of an adaptation."""
    return store / WORK / name


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from an adaptation's working files, which may be deleted meanwhile.

    Raises ModelError when another process has them, OSError when the folder can't be written to.
    """
    from filelock import FileLock, Timeout  # not at the top: the language server needs the records only

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ModelError(
            f"Another process adapts {folder.name} now.",
            "Wait for its end, or end it with Ctrl-C; twice ends it at once.",
        ) from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:  # Windows does not delete an open file
                shutil.rmtree(folder)


def read_record(build: Path) -> AdaptationRecord | None:
    """Return the record of a build; None where it has none, or one that can't be read."""
    path = build / RECORD
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return cattrs.structure(json.loads(path.read_text(encoding="utf-8")), AdaptationRecord)
    except FileNotFoundError:
        return None
    except Exception as error:
        logger.warning("%s can't be read: %s", path, error)
        return None


def write_record(build: Path, record: AdaptationRecord) -> None:
    """Write the record of a build."""
    content: Any = cattrs.unstructure(record)
    (build / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
