"""What one process of a session has made, the others take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.made_once import MadeOnce

ROOT = Path(__file__).parents[1]
TEST = """
import os
import time
from pathlib import Path

def test_it(made_once):
    def fill(folder):
        (Path(os.environ["MADE"]) / str(os.getpid())).touch(exist_ok=False)
        (folder / "it").write_text("made")
    assert [(made_once("it", fill) / "it").read_text() for _ in range(2)] == ["made"] * 2
    (Path(os.environ["RAN"]) / str(os.getpid())).touch()
    while len(os.listdir(os.environ["RAN"])) < 2:
        time.sleep(0.01)
"""


def test_a_folder_is_made_by_one_process_of_a_session(tmp_path: Path) -> None:
    """Each of two processes has one of two tests, which end when both have the folder."""
    for name in ("session", "made", "ran"):
        (tmp_path / name).mkdir()
    (tmp_path / "session" / "conftest.py").write_text("from tests.made_once import made_once\n")
    for number in (1, 2):
        (tmp_path / "session" / f"test_{number}.py").write_text(TEST)
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(ROOT),
        "MADE": str(tmp_path / "made"),
        "RAN": str(tmp_path / "ran"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "no:cacheprovider", "--numprocesses=2", "."]
    command += [f"--basetemp={tmp_path / 'base'}"]
    done = subprocess.run(command, cwd=tmp_path / "session", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "made").iterdir())) == 1
    assert len(list((tmp_path / "ran").iterdir())) == 2


def test_what_failed_is_begun_again(made_once: MadeOnce) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        made_once("after-a-failure", fail)
    folder = made_once("after-a-failure", lambda folder: (folder / "whole").touch())
    assert [one.name for one in folder.iterdir()] == ["whole"]
