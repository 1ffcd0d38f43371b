"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("untimed")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in a worker; with spinning threads a busy machine crawls

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="codegen-lsp-state-")  # where counts of suggestions are kept
# Where workers are met: not those of this machine's editors.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="codegen-lsp-run-")

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def embedded_build() -> Path:
    """The build that the repository carries, or the one named by CODEGEN_LSP_TEST_BUILD."""
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
