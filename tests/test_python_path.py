"""PYTHONPATH: the current folder, from which a child process must not import, and packages of another Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codegen_lsp.inference.client.launch import start_private_worker, worker_environment
from codegen_lsp.python_path import environment, hint
from codegen_lsp.refactor.python import typecheck
from codegen_lsp.source import trial

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="separators as POSIX has them")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), ("", None), (":", None), (".", None), (":/x", "/x"), ("/x::/y:", "/x:/y"), ("lib:../x:/y", "/y")],
)
def test_only_absolute_folders_stay(given: str | None, kept: str | None) -> None:
    found = environment({"A": "b"} | ({} if given is None else {"PYTHONPATH": given}))
    assert found == {"A": "b"} | ({} if kept is None else {"PYTHONPATH": kept})


@pytest.fixture
def sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with modules that Python imports by itself, or in place of others, and the file that they make."""
    sign = tmp_path / "sign"
    for module in ("sitecustomize", "usercustomize", "numpy", "attrs", "tree_sitter", "mypy"):
        (tmp_path / f"{module}.py").write_text(f"open({str(sign)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":.")
    return sign


async def test_a_worker_runs_nothing_of_the_project(sign: Path) -> None:
    worker = await start_private_worker()
    worker.writer.close()
    assert await worker.exit_code() == 0
    assert not sign.exists()


async def test_tools_run_nothing_of_the_project(sign: Path) -> None:
    assert trial.passes(b"x = 1\n", "tree_sitter_python")
    if typecheck.command() is not None:
        assert await typecheck.errors("x: int = 1\n", sign.parent / "module.py") == Counter()
    assert not sign.exists()


def test_the_project_would_be_run_without_the_precaution(sign: Path) -> None:
    subprocess.run([sys.executable, "-P", "-c", "pass"], env=dict(os.environ), check=True)
    assert sign.exists()
    assert "PYTHONPATH" not in worker_environment()


def test_packages_of_another_python_are_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "attr.py").write_text("raise ImportError('attr was compiled for another Python')\n")
    (tmp_path / "attrs.py").write_text("raise ImportError('attrs was compiled for another Python')\n")
    # Without site-packages, the others are the only ones.
    command = [sys.executable, "-S", "-P", "-m", "codegen_lsp.cli", "serve"]
    folders = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": folders}, input="", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "compiled for another Python" in done.stderr
    assert "PYTHONPATH is set" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert hint(["ImportError: x"]) == ""
    monkeypatch.setenv("PYTHONPATH", "/x")
    assert hint(["x", "ModuleNotFoundError: y"]) != ""
    assert hint(["out of memory"]) == ""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PYTHONPATH as modules for robots and clusters set it: packages that were compiled for another Python."""
    for name in (
        "attr",
        "attrs",
        "numpy",
        "torch",
        "lsprotocol",
        "pygls",
        "tokenizers",
        "rich",
        "typer",
        "json",
        "tree_sitter",
    ):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise ImportError('{name} was compiled for another Python')\n")
    (tmp_path / "only_there.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{tmp_path / 'missing'}")
    return tmp_path


async def test_a_worker_loads_its_own_packages(cluster: Path) -> None:
    worker = await start_private_worker()
    worker.writer.close()
    assert await worker.exit_code() == 0, worker.stderr_tail


@pytest.mark.parametrize("arguments", [["serve"], ["--version"], ["models", "list"], ["doctor", "--help"]])
def test_commands_load_their_own_packages(cluster: Path, arguments: list[str]) -> None:
    message = b'{"jsonrpc": "2.0", "method": "exit"}'
    given = b"Content-Length: %d\r\n\r\n%s" % (len(message), message)
    command = [sys.executable, "-P", "-m", "codegen_lsp.cli", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert b"another Python" not in done.stderr, done.stderr
    assert done.returncode == (1 if arguments == ["serve"] else 0)  # `exit` without `shutdown`


def test_a_trial_of_the_parser_loads_its_own_packages(cluster: Path) -> None:
    assert trial.passes(b"x = 1\n", "tree_sitter_python")


def test_what_is_only_in_pythonpath_is_found(cluster: Path) -> None:
    code = "from codegen_lsp import python_path; python_path.prefer_own_packages(); import numpy, json, only_there"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
