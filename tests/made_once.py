"""Work that the processes of a test session share: what one has made, the others take."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return a function of a name and a function that fills a folder, which returns the folder.

    The first test that asks for a name has the folder filled; tests in other processes that ask meanwhile wait. Tests
    must not change what is in it.
    """
    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # a process of pytest-xdist: the folders of all are side by side
        base = base.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, partial = base / f"once-{name}", base / f"making-{name}"
        with FileLock(base / f"once-{name}.lock"):
            if not folder.exists():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                fill(partial)
                partial.rename(folder)
        return folder

    return made
