"""The suite touches no folder of the user who runs it, and removes its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from tests.conftest import OWN

ROOT = Path(__file__).parents[1]
SUBSET = (
    "tests/end_to_end/test_server.py::test_open_type_and_get_an_item",  # state, a socket, a worker
    "tests/lsp/test_metrics.py",
    "tests/cli/test_commands.py::test_models_list",  # data
)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose path is short: sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="cl-") as folder:
        yield Path(folder)


def test_folders_of_this_system_are_those_of_the_suite() -> None:
    for folder in (
        platformdirs.user_cache_path("codegen-lsp"),
        platformdirs.user_config_path("codegen-lsp"),
        platformdirs.user_data_path("codegen-lsp"),
        platformdirs.user_state_path("codegen-lsp"),
        Path.home(),
        Path(os.environ["XDG_RUNTIME_DIR"]),
    ):
        assert folder.is_relative_to(OWN)


def test_a_run_leaves_the_home_and_temporary_files_as_they_were(tmp_path: Path, temporary: Path) -> None:
    home, runtime = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    runtime.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTEST_"))}
    environment = kept | {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary)}
    environment |= {"CODEGEN_LSP_TEST_USER": str(home) + os.pathsep, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *SUBSET]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'pytest'}"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1]
    assert list(home.rglob("*")) == []
    assert list(runtime.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
