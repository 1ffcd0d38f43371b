"""A store with a model that was adapted to a folder, for tests in editors."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, write_record
from codegen_lsp.inference.build import read_info, write_info

BASE = "codegen-lsp-python"


def put_adapted_build(embedded: Path, store: Path, name: str, folder: Path, finished: str = "2026-11-26") -> None:
    """Put the embedded model into a store as one that was adapted to a folder, in place of one of the same name."""
    partial = store / f".making-{name}"
    shutil.copytree(embedded, partial)
    write_info(partial, attrs.evolve(read_info(embedded), name=name))
    write_record(partial, AdaptationRecord(BASE, {str(folder): "c0ffee"}, {}, [], [], 1, 1.0, finished))
    if (store / name).exists():
        shutil.rmtree(store / name)
    partial.rename(store / name)
