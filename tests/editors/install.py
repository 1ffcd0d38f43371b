"""The scripts that install editors below `.cache/` of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache"


def environment() -> dict[str, str]:
    """Return an environment for pip and npm: the user's configuration (mirrors, a proxy), but not the user's caches."""
    home, config = os.environ["CODEGEN_LSP_TEST_USER"].split(os.pathsep)
    own = {"PYTHON": sys.executable, "PIP_CACHE_DIR": str(CACHE / "pip"), "npm_config_cache": str(CACHE / "npm")}
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"}
    return kept | own | {"HOME": home} | ({"XDG_CONFIG_HOME": config} if config else {})


def run_script(name: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the last line that an installing script prints; skip the test with its last error when it fails."""
    if shutil.which("bash") is None:
        pytest.skip("bash is missing")
    command = ["bash", Path(__file__).with_name(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env or environment())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{name} did not succeed: {last}")
    return done.stdout.strip().splitlines()[-1]
