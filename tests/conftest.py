"""Folders of the suite's own in place of the user's, and what all tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.made_once import MadeOnce, made_once

__all__ = ["made_once"]

settings.register_profile("untimed", deadline=None)  # the time an example takes depends on the machine's other work
settings.load_profile("untimed")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in a worker, and for the same reason
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in a worker: threads that spin slow down a busy machine

OWN = Path(tempfile.mkdtemp(prefix="cl-"))
"""Home of this process and its children. Its path is short, since sockets are made below it."""

# Programs that install editors read the user's configuration (a proxy, a mirror). The workers of pytest-xdist inherit
# the variables of the first process, in which those of the user are replaced already.
os.environ.setdefault(
    "CODEGEN_LSP_TEST_USER", os.pathsep.join([str(Path.home()), os.environ.get("XDG_CONFIG_HOME", "")])
)
for name in ("CONFIG", "DATA", "STATE", "CACHE"):
    os.environ[f"XDG_{name}_HOME"] = str(OWN / name.lower())
os.environ |= {"HOME": str(OWN), "USERPROFILE": str(OWN), "XDG_RUNTIME_DIR": str(OWN / "run")}
(OWN / "run").mkdir(mode=0o700)
for name in ("CODEGEN_LSP_LOG", "CODEGEN_LSP_MODELS", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"):
    os.environ.pop(name, None)

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process run all tests of a file, and all that share the one VS Code."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "tests/editors/vscode/"
            return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the suite's folders at the end of the run."""
    shutil.rmtree(OWN, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_build() -> Path:
    """The build in the repository, or the one named by CODEGEN_LSP_TEST_BUILD."""
    named = os.environ.get("CODEGEN_LSP_TEST_BUILD")
    if named:
        return Path(named)
    from codegen_lsp.checkpoints.store import find

    return find("auto").path


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public evaluation data beside the checkout."""
    if not DATA.is_dir():
        pytest.skip("the data folder beside the checkout is missing")
    return DATA


@pytest.fixture(scope="session")
def trained_family(made_once: MadeOnce) -> Callable[[str], Path]:
    """Return a function that returns a folder with the `checkpoint` of a family's trained model, and its `build`."""

    def trained(name: str) -> Path:
        from tests.trained_families import train_and_convert

        return made_once(f"trained-{name}", lambda folder: train_and_convert(name, folder))

    return trained


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skip the test where programs can't be confined."""
    from codegen_lsp.sandbox.sandbox import SandboxError, run_program

    try:
        run_program("pass")
    except SandboxError as error:
        pytest.skip(str(error))
